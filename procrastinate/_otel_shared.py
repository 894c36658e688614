"""What the spans of OpenTelemetry share: names, attributes, and the parent of a run."""

from __future__ import annotations

import contextlib
import time
import weakref
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

from opentelemetry import context as otel_context
from opentelemetry import propagate, trace

from procrastinate.defer_hooks import Hooks, read_deferred_at
from procrastinate.jobs import Job

Propagation = Literal["auto", "child", "link", "none"]
SpanNaming = Literal["queue", "task"]

NAME = "procrastinate"
_SOON = 300.0
"""Seconds after a defer in which the first run is a child of it. A later child would hold its trace open."""
tracer = trace.get_tracer(NAME)
_options: weakref.WeakKeyDictionary[Hooks, TraceOptions] = weakref.WeakKeyDictionary()
"""How each instrumented app is traced, by its hooks. Copies of an app share them."""


class TraceOptions(NamedTuple):
    """How the runs of an app are traced. See :func:`procrastinate.otel.instrument`."""

    propagation: Propagation = "auto"
    span_naming: SpanNaming = "queue"


def note_instrumented(app_hooks: Hooks, options: TraceOptions) -> None:
    """Note that an app is instrumented. The first options count."""
    _options.setdefault(app_hooks, options)


def trace_options(app_hooks: Hooks) -> TraceOptions | None:
    """Return how the runs of an app are traced, or ``None`` if it is not instrumented."""
    return _options.get(app_hooks)


def span_name(operation: str, queue: str | None, task_name: str | None, naming: SpanNaming) -> str:
    """Return the name of a span: the operation and the queue, or the task."""
    what = queue if naming == "queue" else task_name
    return operation if what is None else f"{operation} {what}"


def shared_attributes(operation: str, queue: str | None, task_name: str | None) -> dict[str, Any]:
    """Return the attributes that spans and metrics of an operation have."""
    attributes = {
        "messaging.system": NAME,
        "messaging.operation.type": operation,
        "messaging.operation.name": operation,
        "messaging.destination.name": queue,
        "messaging.procrastinate.task": task_name,
    }
    return {name: value for name, value in attributes.items() if value is not None}


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
    }
    name = span_name("process", job.queue, job.task_name, span_naming)
    return tracer.start_span(name, kind=trace.SpanKind.CONSUMER, attributes=attributes, context=parent, links=links)


def origin_of(job: Job, propagation: Propagation) -> tuple[otel_context.Context, list[trace.Link]]:
    """Return the context that a run starts in, and its links.

    What happens to be current where the worker was started is no parent of a run.
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


def set_error(span: trace.Span, error: BaseException) -> str:
    """Mark a span as failed, and return the name of the error. The text of an exception may contain arguments."""
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    span.set_attribute("error.type", name)
    span.set_status(trace.Status(trace.StatusCode.ERROR))
    return name


@contextlib.contextmanager
def attached(context: otel_context.Context) -> Iterator[None]:
    """Let the code run in a context of OpenTelemetry."""
    token = otel_context.attach(context)
    try:
        yield
    finally:
        otel_context.detach(token)
