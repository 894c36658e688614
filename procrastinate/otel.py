"""A span and a duration of OpenTelemetry for each run of a job. Needs the extra ``otel``.

:func:`trace_runs` is worker middleware. The names are those of OpenTelemetry's conventions for messaging, version 1.44,
which are in development. The program configures OpenTelemetry's SDK.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from opentelemetry import context as otel_context
from opentelemetry import metrics, trace

from procrastinate import exceptions
from procrastinate.job_context import JobContext
from procrastinate.worker import Worker

__all__ = ["trace_runs"]

_NAME = "procrastinate"
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0)
_tracer = trace.get_tracer(_NAME)
_duration = metrics.get_meter(_NAME).create_histogram(
    "messaging.process.duration",
    unit="s",
    description="Duration of runs.",
    explicit_bucket_boundaries_advisory=_BUCKETS,
)


async def trace_runs(process_job: Callable[[], Awaitable[Any]], context: JobContext, worker: Worker) -> Any:
    """Run a job inside a consumer span of its own trace. Spans that the task starts are its children.

    The span is named ``process`` and the queue. It has the id, task, queue and attempt of the job, and no arguments.
    Its status is an error if the task raises. A :class:`~procrastinate.exceptions.JobAborted`, a cancellation and a
    retry that the task asks for are no errors.
    """
    shared = {
        "messaging.system": _NAME,
        "messaging.operation.type": "process",
        "messaging.operation.name": "process",
        "messaging.destination.name": context.job.queue,
        "messaging.procrastinate.task": context.job.task_name,
    }
    started = time.perf_counter()
    with _tracer.start_as_current_span(
        f"process {context.job.queue}",
        # A run has no caller: what happens to be current where the worker was started is none.
        context=otel_context.Context(),
        kind=trace.SpanKind.CONSUMER,
        attributes={**shared, **_of_job(context)},
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        try:
            return await process_job()
        except BaseException as error:
            if not isinstance(error, (asyncio.CancelledError, exceptions.JobAborted, exceptions.JobRetry)):
                shared["error.type"] = _name_of(type(error))
                span.set_attribute("error.type", shared["error.type"])
                # The text of the exception may contain arguments.
                span.set_status(trace.Status(trace.StatusCode.ERROR))
            raise
        finally:
            _duration.record(time.perf_counter() - started, shared)


def _of_job(context: JobContext) -> dict[str, str | int]:
    return {
        "messaging.message.id": str(context.job.id),
        "messaging.client.id": context.worker_name or "",
        "messaging.procrastinate.attempt": context.job.attempts + 1,
        "messaging.procrastinate.priority": context.job.priority,
    }


def _name_of(kind: type[BaseException]) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
