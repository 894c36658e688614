"""Spans of OpenTelemetry for what a worker does around the runs of jobs. They are many, and off by default.

The spans that instrumentation of SQLAlchemy and of psycopg would make of a worker's own statements are always off: an
idle worker would send several a second, each a trace of its own.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

from opentelemetry import context, trace

from procrastinate import worker_observers
from procrastinate._otel_shared import attached, trace_options, tracer
from procrastinate.worker_observers import ObservedWorker

_SUPPRESSING = tuple(
    filter(None, (getattr(context, "_SUPPRESS_INSTRUMENTATION_KEY", None), "suppress_instrumentation"))
)
"""The keys by which instrumentation knows that it is not wanted: that of newer releases, and that of older ones.

The first one has no public name. Without it, in a release to come, workers run and their statements have spans.
"""


def turn_on() -> None:
    """Trace the workers of instrumented apps. A second call has no effect."""
    if _observe not in worker_observers.EVERYWHERE:
        worker_observers.EVERYWHERE.append(_observe)


def hide_statements() -> None:
    """Let instrumentation of drivers make no spans of the statements of workers. A second call has no effect."""
    if _suppressed not in worker_observers.AROUND_STATEMENTS:
        worker_observers.AROUND_STATEMENTS.append(_suppressed)


@contextlib.contextmanager
def _suppressed() -> Iterator[None]:
    current = context.get_current()
    for key in _SUPPRESSING:
        current = context.set_value(key, True, current)
    with attached(current):
        yield


def _observe(worker: ObservedWorker) -> None:
    if trace_options(worker.app_hooks) is None:
        return

    def fetched(seconds: float, jobs: int) -> None:
        if jobs:
            _record("receive", worker, seconds, jobs)

    worker.on_fetch.append(fetched)
    worker.on_settle.append(lambda seconds, jobs: _record("settle", worker, seconds, jobs))


def _record(operation: str, worker: ObservedWorker, seconds: float, jobs: int) -> None:
    """Record a span that ends now. It is a trace of its own: a fetch or a record is about several jobs."""
    attributes: dict[str, Any] = {
        "messaging.system": "procrastinate",
        "messaging.operation.type": operation,
        "messaging.operation.name": operation,
        "messaging.batch.message_count": jobs,
        "messaging.client.id": worker.name or "",
    }
    name = operation
    if worker.queues is not None and len(worker.queues) == 1:
        attributes["messaging.destination.name"] = worker.queues[0]
        name = f"{operation} {worker.queues[0]}"
    end = time.time_ns()
    tracer.start_span(
        name,
        context=context.Context(),
        kind=trace.SpanKind.CLIENT,
        attributes=attributes,
        start_time=end - int(seconds * 1e9),
    ).end(end)
