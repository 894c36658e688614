"""Spans of OpenTelemetry for each defer and each run, and metrics of both. Needs the extra ``otel``.

:func:`instrument` turns all on. The names are those of OpenTelemetry's conventions for messaging, version 1.44, which
are in development. The program configures OpenTelemetry's SDK.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Literal, get_args

from opentelemetry import context as otel_context
from opentelemetry import propagate, trace

from procrastinate import _otel_metrics, _otel_worker_spans, exceptions
from procrastinate.app import App
from procrastinate.defer_hooks import Defer, note_deferred_at, read_deferred_at
from procrastinate.job_context import JobContext
from procrastinate.jobs import Job
from procrastinate.worker import Worker

__all__ = ["Propagation", "SpanNaming", "instrument", "trace_defers", "trace_runs"]

Propagation = Literal["auto", "child", "link", "none"]
SpanNaming = Literal["queue", "task"]

_NAME = "procrastinate"
_SOON = 300.0
"""Seconds after a defer in which the first run is a child of it. A later child would hold its trace open."""
_LARGEST_CONTEXT = 1_900
_tracer = trace.get_tracer(_NAME)


def instrument(
    app: App,
    *,
    propagation: Propagation = "auto",
    span_naming: SpanNaming = "queue",
    worker_spans: bool = False,
) -> None:
    """Trace the defers and the runs of an app, and turn on the metrics of the process. A second call has no effect.

    The worker middleware becomes part of ``app.worker_defaults``. A worker with a ``worker_middleware`` of its own does
    not use it: add :func:`trace_runs` to that.

    Parameters
    ----------
    propagation:
        How the span of a run refers to the defer. ``"child"`` makes it part of the trace of the defer. ``"link"`` makes
        it a trace of its own with a link. ``"auto"`` makes the first run a child if it starts within five minutes, and
        any other run a linked trace of its own. ``"none"`` leaves the two apart.
    span_naming:
        What follows ``send`` and ``process`` in the names of spans: the ``"queue"``, as the conventions say, or the
        ``"task"``.
    worker_spans:
        If true, the fetches that find jobs and the records of outcomes are spans, too, for all workers of the process.

    Raises
    ------
    ValueError
        ``propagation`` or ``span_naming`` is no such word.
    """
    _check_word("propagation", propagation, get_args(Propagation))
    _check_word("span_naming", span_naming, get_args(SpanNaming))
    _otel_metrics.turn_on()
    if worker_spans:
        _otel_worker_spans.turn_on()
    if not any(hook in app.job_manager.hooks for hook in _DEFER_HOOKS.values()):
        app.on_defer(_DEFER_HOOKS[span_naming])
    middleware = list(app.worker_defaults.get("worker_middleware") or ())
    if not any(getattr(one, "func", one) is trace_runs for one in middleware):
        tracer = functools.partial(trace_runs, propagation=propagation, span_naming=span_naming)
        app.worker_defaults["worker_middleware"] = [tracer, *middleware]


def _check_word(name: str, word: str, allowed: tuple[str, ...]) -> None:
    if word not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, not {word!r}")


@contextlib.contextmanager
def trace_defers(defer: Defer, span_naming: SpanNaming = "queue") -> Iterator[None]:
    """Defer jobs inside a producer span, and give them its context. It is a hook for ``app.on_defer``.

    The span is named ``send`` and the queue. Jobs of a batch share one span. The baggage of the context is left out if
    the headers would have more than 1,900 bytes. An :class:`~procrastinate.exceptions.AlreadyEnqueued` is no error.
    """
    shared = _shared("send", defer.queue, defer.task_name)
    attributes = {**shared, "messaging.procrastinate.priority": defer.priority}
    if defer.count != 1:
        attributes["messaging.batch.message_count"] = defer.count
    with _start(
        _span_name("send", defer.queue, defer.task_name, span_naming), trace.SpanKind.PRODUCER, attributes
    ) as span:
        _inject(defer.trace_context)
        started, failure = time.perf_counter(), {}
        try:
            yield
        except BaseException as error:
            if not isinstance(error, exceptions.AlreadyEnqueued):
                failure = {"error.type": _set_error(span, error)}
            raise
        finally:
            _otel_metrics.defer_duration.record(time.perf_counter() - started, {**shared, **failure})
        _otel_metrics.sent.add(len(defer.job_ids), shared)
        if len(defer.job_ids) == 1:
            span.set_attribute("messaging.message.id", str(defer.job_ids[0]))


_DEFER_HOOKS: dict[SpanNaming, Callable[[Defer], contextlib.AbstractContextManager[None]]] = {
    "queue": trace_defers,
    "task": functools.partial(trace_defers, span_naming="task"),
}


def _inject(headers: dict[str, str]) -> None:
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    if sum(len(name) + len(value) for name, value in carrier.items()) > _LARGEST_CONTEXT:
        carrier.pop("baggage", None)
    if carrier:
        note_deferred_at(carrier)
    if "baggage" in headers and "baggage" in carrier:  # another tool has written its own
        carrier["baggage"] = f"{headers['baggage']},{carrier['baggage']}"
    headers.update(carrier)


def _start(name: str, kind: trace.SpanKind, attributes: dict[str, Any], **options: Any) -> Any:
    return _tracer.start_as_current_span(
        name, kind=kind, attributes=attributes, record_exception=False, set_status_on_exception=False, **options
    )


def _span_name(operation: str, queue: str | None, task_name: str | None, naming: SpanNaming) -> str:
    what = queue if naming == "queue" else task_name
    return operation if what is None else f"{operation} {what}"


def _shared(operation: str, queue: str | None, task_name: str | None) -> dict[str, Any]:
    attributes = {
        "messaging.system": _NAME,
        "messaging.operation.type": operation,
        "messaging.operation.name": operation,
        "messaging.destination.name": queue,
        "messaging.procrastinate.task": task_name,
    }
    return {name: value for name, value in attributes.items() if value is not None}


async def trace_runs(
    process_job: Callable[[], Awaitable[Any]],
    context: JobContext,
    worker: Worker,
    propagation: Propagation = "auto",
    span_naming: SpanNaming = "queue",
) -> Any:
    """Run a job inside a consumer span. Spans that the task starts are its children. It is worker middleware.

    The span is named ``process`` and the queue. It has the id, task, queue and attempt of the job, and no arguments.
    Its status is an error if the task raises. A :class:`~procrastinate.exceptions.JobAborted`, a cancellation and a
    retry that the task asks for are no errors. For the parent and the link of the span, see :func:`instrument`.
    """
    shared = _shared("process", context.job.queue, context.job.task_name)
    running = dict(shared)  # both changes of the number have the same attributes, also after an error
    _otel_metrics.consumed.add(1, running)
    _otel_metrics.record_wait(context.job, running)
    started = time.perf_counter()
    parent, links = _origin(context.job, propagation)
    name = _span_name("process", context.job.queue, context.job.task_name, span_naming)
    attributes = {**shared, **_of_job(context)}
    with _start(name, trace.SpanKind.CONSUMER, attributes, context=parent, links=links) as span:
        _otel_metrics.in_flight.add(1, running)
        try:
            return await process_job()
        except BaseException as error:
            if not isinstance(error, (asyncio.CancelledError, exceptions.JobAborted, exceptions.JobRetry)):
                shared["error.type"] = _set_error(span, error)
            raise
        finally:
            _otel_metrics.run_duration.record(time.perf_counter() - started, shared)
            _otel_metrics.in_flight.add(-1, running)


def _origin(job: Job, propagation: Propagation) -> tuple[otel_context.Context, list[trace.Link]]:
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


def _of_job(context: JobContext) -> dict[str, str | int]:
    return {
        "messaging.message.id": str(context.job.id),
        "messaging.client.id": context.worker_name or "",
        "messaging.procrastinate.attempt": context.job.attempts + 1,
        "messaging.procrastinate.priority": context.job.priority,
    }


def _set_error(span: trace.Span, error: BaseException) -> str:
    """Mark a span as failed, and return the name of the error. The text of an exception may contain arguments."""
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    span.set_attribute("error.type", name)
    span.set_status(trace.Status(trace.StatusCode.ERROR))
    return name
