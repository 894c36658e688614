"""What the spans of OpenTelemetry share: the options of an app, names, attributes and errors. No span starts here."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

from opentelemetry import context as otel_context
from opentelemetry import trace

from procrastinate.defer_hooks import Hooks

Propagation = Literal["auto", "child", "link", "none"]
SpanNaming = Literal["queue", "task"]

NAME = "procrastinate"
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
