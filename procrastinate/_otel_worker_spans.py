"""Spans of OpenTelemetry for what a worker does around the runs of jobs. They are many, and off by default."""

from __future__ import annotations

import time
from typing import Any

from opentelemetry import context, trace

from procrastinate import worker_observers
from procrastinate.worker_observers import ObservedWorker

_tracer = trace.get_tracer("procrastinate")


def turn_on() -> None:
    """Trace the workers of the process. A second call has no effect."""
    if _observe not in worker_observers.EVERYWHERE:
        worker_observers.EVERYWHERE.append(_observe)


def _observe(worker: ObservedWorker) -> None:
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
    _tracer.start_span(
        name,
        context=context.Context(),
        kind=trace.SpanKind.CLIENT,
        attributes=attributes,
        start_time=end - int(seconds * 1e9),
    ).end(end)
