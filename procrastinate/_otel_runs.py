"""The span of each run, for OpenTelemetry. It ends with what becomes of the job.

The middleware in ``otel.py`` calls :func:`start_run_span`, and the observer ends the span. A run that fails before any
middleware gets its span from the observer.
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import time
from collections.abc import Iterator
from typing import Any

from opentelemetry import context as otel_context
from opentelemetry import propagate, trace

from procrastinate import _otel_metrics, run_observers
from procrastinate._otel_shared import (
    Propagation,
    SpanNaming,
    TraceOptions,
    set_error,
    shared_attributes,
    span_name,
    trace_options,
    tracer,
)
from procrastinate.defer_hooks import read_deferred_at
from procrastinate.jobs import Job, Status
from procrastinate.run_observers import ObservedRun, seconds_waited

_OUTCOME = "messaging.procrastinate.outcome"
_SOON = 300.0
"""Seconds after a defer in which the first run is a child of it. A later child would hold its trace open."""


def start_run_span(
    job: Job,
    worker_name: str | None,
    parent: otel_context.Context,
    links: list[trace.Link],
    span_naming: SpanNaming = "queue",
) -> trace.Span:
    """Start the span of a run. It has no arguments."""
    attributes = {
        **shared_attributes("process", job.queue, job.task_name),
        "messaging.message.id": str(job.id),
        "messaging.client.id": worker_name or "",
        "messaging.procrastinate.attempt": job.attempts + 1,
        "messaging.procrastinate.priority": job.priority,
        **_what_it_waited_for(job),
    }
    name = span_name("process", job.queue, job.task_name, span_naming)
    return tracer.start_span(name, kind=trace.SpanKind.CONSUMER, attributes=attributes, context=parent, links=links)


def _what_it_waited_for(job: Job) -> dict[str, Any]:
    """Return the attributes that only some jobs have: locks, schedule, and the wait of the first run in seconds."""
    waited = seconds_waited(job) if job.attempts == 0 else None
    attributes = {
        # Jobs with the same lock run one after the other, as the messages of a conversation.
        "messaging.message.conversation_id": job.lock,
        "messaging.procrastinate.queueing_lock": job.queueing_lock,
        "messaging.procrastinate.scheduled_at": None if job.scheduled_at is None else job.scheduled_at.isoformat(),
        "messaging.procrastinate.wait_time": None if waited is None else round(waited, 6),
    }
    return {name: value for name, value in attributes.items() if value is not None}


def origin_of(job: Job, propagation: Propagation) -> tuple[otel_context.Context, list[trace.Link]]:
    """Return the context that a run starts in, and its links.

    A span that is current when the worker starts is not the parent of a run.
    """
    if propagation == "none" or not job.trace_context:
        return otel_context.Context(), []
    extracted = propagate.extract(job.trace_context, context=otel_context.Context())
    origin = trace.get_current_span(extracted).get_span_context()
    if not origin.is_valid:
        return extracted, []
    is_child = propagation == "child" or (propagation == "auto" and job.attempts == 0 and _is_soon(job.trace_context))
    # The baggage of the defer is kept in either case.
    parent = extracted if is_child else trace.set_span_in_context(trace.INVALID_SPAN, extracted)
    return parent, [trace.Link(origin)]


def _is_soon(headers: dict[str, str]) -> bool:
    deferred_at = read_deferred_at(headers)
    return deferred_at is None or time.time() - deferred_at < _SOON


@dataclasses.dataclass
class TracedRun:
    """A run and its span, which the middleware sets. It is never set if the run fails before."""

    job: Job
    worker_name: str | None
    options: TraceOptions
    span: trace.Span | None = None
    has_error: bool = False
    stopped_at: int | None = None

    def stop(self) -> None:
        """Note the end of the run. The end of its span comes with the record of the outcome."""
        self.stopped_at = time.time_ns()

    def end(self, status: Status, exception: BaseException | None) -> None:
        """End the span with what becomes of the job, and count a retry."""
        is_failed = status is Status.FAILED
        if self.span is None and is_failed:
            origin = origin_of(self.job, self.options.propagation)
            self.span = start_run_span(self.job, self.worker_name, *origin, self.options.span_naming)
        if self.span is not None:
            if is_failed and exception is not None and not self.has_error:
                set_error(self.span, exception)
            self.span.set_attribute(_OUTCOME, _word(status, exception))
            if status is Status.TODO and exception is not None:
                self.span.add_event(
                    "retry", {"messaging.procrastinate.attempt": self.job.attempts + 1}, self.stopped_at
                )
            self.span.end(self.stopped_at)
        if status is Status.TODO and exception is not None:
            _otel_metrics.count_retry(self.job)


_current: contextvars.ContextVar[TracedRun | None] = contextvars.ContextVar("procrastinate_traced_run", default=None)


def current_run() -> TracedRun | None:
    """Return the run that this code is in, or ``None`` if nothing observes runs."""
    return _current.get()


def turn_on() -> None:
    """Observe the runs of instrumented apps. A second call has no effect."""
    if _observe not in run_observers.EVERYWHERE:
        run_observers.EVERYWHERE.append(_observe)


@contextlib.contextmanager
def _observe(run: ObservedRun) -> Iterator[None]:
    options = trace_options(run.app_hooks)
    if options is None:
        yield
        return
    traced = TracedRun(run.job, run.worker_name, options)
    _current.set(traced)
    run.on_end.append(traced.end)
    try:
        yield
    finally:
        _current.set(None)


def _word(status: Status, exception: BaseException | None) -> str:
    if status is Status.DOING:
        return "lost"
    if status is Status.TODO:
        return "released" if exception is None else "retried"
    return status.value
