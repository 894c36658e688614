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
from typing import Any, get_args

from procrastinate._extras import needs_extra

with needs_extra("Tracing", "otel"):
    from opentelemetry import propagate, trace

from procrastinate import _otel_metrics, _otel_runs, _otel_worker_spans, exceptions
from procrastinate._otel_runs import current_run, origin_of, start_run_span
from procrastinate._otel_shared import (
    Propagation,
    SpanNaming,
    TraceOptions,
    attached,
    note_instrumented,
    set_error,
    shared_attributes,
    span_name,
    tracer,
)
from procrastinate.app import App
from procrastinate.defer_hooks import Defer, note_deferred_at
from procrastinate.job_context import JobContext
from procrastinate.worker import Worker
from procrastinate.worker.run.threads import NoThread

__all__ = ["Propagation", "SpanNaming", "instrument", "trace_defers", "trace_runs"]

_LARGEST_CONTEXT = 1_900
_NO_ERRORS = (asyncio.CancelledError, exceptions.JobAborted, exceptions.JobRetry, NoThread)


def instrument(
    app: App,
    *,
    propagation: Propagation = "auto",
    span_naming: SpanNaming = "queue",
    worker_spans: bool = False,
) -> None:
    """Trace the defers and the runs of an app, and turn on its metrics. A second call has no effect.

    Other apps of the process send nothing until they are instrumented, too. Instrumentation of SQLAlchemy and of
    psycopg makes no spans of the statements that any worker of the process runs for itself.

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
        If true, fetches that find jobs and writes of outcomes are spans, too, for all apps that are
        instrumented.

    Raises
    ------
    ValueError
        ``propagation`` or ``span_naming`` is no such word.
    """
    _check_word("propagation", propagation, get_args(Propagation))
    _check_word("span_naming", span_naming, get_args(SpanNaming))
    note_instrumented(app.job_manager.hooks, TraceOptions(propagation, span_naming))
    _otel_metrics.turn_on()
    _otel_runs.turn_on()
    _otel_worker_spans.hide_statements()
    if worker_spans:
        _otel_worker_spans.turn_on()
    if not any(hook in app.job_manager.hooks for hook in _DEFER_HOOKS.values()):
        app.on_defer(_DEFER_HOOKS[span_naming])
    middleware = list(app.worker_defaults.get("worker_middleware") or ())
    if not any(getattr(one, "func", one) is trace_runs for one in middleware):
        tracing = functools.partial(trace_runs, propagation=propagation, span_naming=span_naming)
        app.worker_defaults["worker_middleware"] = [tracing, *middleware]


def _check_word(name: str, word: str, allowed: tuple[str, ...]) -> None:
    if word not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, not {word!r}")


@contextlib.contextmanager
def trace_defers(defer: Defer, span_naming: SpanNaming = "queue") -> Iterator[None]:
    """Defer jobs inside a producer span, and give them its context. It is a hook for ``app.on_defer``.

    Its name is ``send``, followed by the queue. Jobs of a batch share one span. The baggage of the context is left out
    if the headers would have more than 1,900 bytes. An :class:`~procrastinate.exceptions.AlreadyEnqueued` is no error.

    The span has to start before the statement. If two workers ask for one tick in the same moment, the span of the
    slower one has the attribute ``messaging.procrastinate.tick_already_deferred``, and its time is not measured.
    """
    shared = shared_attributes("send", defer.queue, defer.task_name)
    attributes = {**shared, "messaging.procrastinate.priority": defer.priority}
    if defer.count != 1:
        attributes["messaging.batch.message_count"] = defer.count
    elif defer.lock is not None:
        attributes["messaging.message.conversation_id"] = defer.lock
    with _start(
        span_name("send", defer.queue, defer.task_name, span_naming), trace.SpanKind.PRODUCER, attributes
    ) as span:
        _inject(defer.trace_context)
        started, failure = time.perf_counter(), {}
        try:
            yield
        except BaseException as error:
            if not isinstance(error, exceptions.AlreadyEnqueued):
                failure = {"error.type": set_error(span, error)}
            raise
        finally:
            if not defer.is_late:
                _otel_metrics.defer_duration.record(time.perf_counter() - started, {**shared, **failure})
        if defer.is_late:
            span.set_attribute("messaging.procrastinate.tick_already_deferred", True)
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
    if carrier or _otel_metrics.is_set_up():  # the metric of the wait needs the time
        note_deferred_at(carrier)
    if "baggage" in headers and "baggage" in carrier:  # another tool has written its own
        carrier["baggage"] = f"{headers['baggage']},{carrier['baggage']}"
    headers.update(carrier)


def _start(name: str, kind: trace.SpanKind, attributes: dict[str, Any], **options: Any) -> Any:
    return tracer.start_as_current_span(
        name, kind=kind, attributes=attributes, record_exception=False, set_status_on_exception=False, **options
    )


async def trace_runs(
    process_job: Callable[[], Awaitable[Any]],
    context: JobContext,
    worker: Worker,
    propagation: Propagation = "auto",
    span_naming: SpanNaming = "queue",
) -> Any:
    """Run a job inside a consumer span. Spans that the task starts are its children. It is worker middleware.

    Its name is ``process``, followed by the queue. It has the id, task, queue and attempt of the job, and no
    arguments. Its status is an error if the task raises. A :class:`~procrastinate.exceptions.JobAborted`, a
    cancellation and a retry that the task asks for are no errors. For the parent and the link of the span, see
    :func:`instrument`, which also lets the span end with the outcome of the job.
    """
    job = context.job
    shared = shared_attributes("process", job.queue, job.task_name)
    running = dict(shared)  # both changes of the number have the same attributes, also after an error
    _otel_metrics.consumed.add(1, running)
    _otel_metrics.record_wait(job, running)
    started = time.perf_counter()
    parent, links = origin_of(job, propagation)
    span, traced = start_run_span(job, context.worker_name, parent, links, span_naming), current_run()
    if traced is not None:
        traced.span = span
    _otel_metrics.in_flight.add(1, running)
    try:
        with attached(trace.set_span_in_context(span, parent)):
            return await process_job()
    except BaseException as error:
        if not isinstance(error, _NO_ERRORS):
            shared["error.type"] = set_error(span, error)
            if traced is not None:
                traced.has_error = True
        raise
    finally:
        _otel_metrics.run_duration.record(time.perf_counter() - started, shared)
        _otel_metrics.in_flight.add(-1, running)
        if traced is None:
            span.end()
        else:
            traced.stop()
