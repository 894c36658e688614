"""The end of each run, for OpenTelemetry: the span of a run ends with what becomes of the job.

The middleware starts the span, and the observer ends it. A run that fails before any middleware gets a span here.
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import time
from collections.abc import Iterator

from opentelemetry import trace

from procrastinate import _otel_metrics, run_observers
from procrastinate._otel_shared import TraceOptions, origin_of, set_error, start_run_span, trace_options
from procrastinate.jobs import Job, Status
from procrastinate.run_observers import ObservedRun

_OUTCOME = "messaging.procrastinate.outcome"


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
