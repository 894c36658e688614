"""Integration with Sentry: spans of defers and runs, and an event for each job that fails. Needs the extra ``sentry``.

::

    sentry_sdk.init(dsn="...", traces_sample_rate=0.1, integrations=[ProcrastinateIntegration()])
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import datetime
import re
from collections.abc import Iterable, Iterator
from typing import Any

from procrastinate._extras import needs_extra

with needs_extra("The integration with Sentry", "sentry"):
    import sentry_sdk

from sentry_sdk.integrations import Integration
from sentry_sdk.scope import add_global_event_processor, should_send_default_pii
from sentry_sdk.utils import event_from_exception

from procrastinate import defer_hooks, run_observers, worker_observers
from procrastinate._job import UnreadArguments
from procrastinate.contrib._sentry_crons import check_in, check_out
from procrastinate.defer_hooks import Defer, note_deferred_at
from procrastinate.exceptions import JobAborted, JobRetry, TaskTimeout, WorkerLost
from procrastinate.jobs import Job, Status
from procrastinate.run_observers import ObservedRun, seconds_waited
from procrastinate.worker_observers import ObservedWorker

__all__ = ["ProcrastinateIntegration"]

_SYSTEM = "procrastinate"
_FILTERED = "[Filtered]"
_ON_PURPOSE = (asyncio.CancelledError, JobAborted, JobRetry, WorkerLost)
"""What ends a run that is retried, and is no error: the task asks for the retry, or the worker stops."""
_FLUSH_FOR = 2.0
"""Seconds that the end of a worker may wait for Sentry. Its process may end without another chance."""


class ProcrastinateIntegration(Integration):
    """Report the jobs of all apps of the process to Sentry.

    Parameters
    ----------
    capture_retries:
        If true, each run that raises is an event. By default only a job that fails for good is one.
    propagate_traces:
        If false, runs do not continue the trace of the code that defers.
    monitor_periodic_tasks:
        If true, each periodic task is a monitor of Sentry Crons. A tick checks in when a worker defers its job, and the
        end of the job checks out. Schedules with seconds and zones without a name are left out.
    exclude_periodic_tasks:
        Names of tasks that are no monitors, as regular expressions for :func:`re.fullmatch`.
    """

    identifier = _SYSTEM
    origin = f"auto.queue.{_SYSTEM}"

    def __init__(
        self,
        *,
        capture_retries: bool = False,
        propagate_traces: bool = True,
        monitor_periodic_tasks: bool = False,
        exclude_periodic_tasks: Iterable[str] = (),
    ) -> None:
        self.capture_retries = capture_retries
        self.propagate_traces = propagate_traces
        self._monitors = monitor_periodic_tasks
        self._excluded = tuple(re.compile(one) for one in exclude_periodic_tasks)

    def is_monitored(self, task_name: str | None) -> bool:
        """Return whether the ticks of a task are checked in."""
        return self._monitors and not any(one.fullmatch(task_name or "") for one in self._excluded)

    @staticmethod
    def setup_once() -> None:
        """Watch the defers, the runs and the workers of the process. Sentry calls it."""
        defer_hooks.EVERYWHERE.append(_around_defer)
        run_observers.EVERYWHERE.append(_around_run)
        worker_observers.EVERYWHERE.append(_observe_worker)
        add_global_event_processor(_without_given_up_jobs)
        add_global_event_processor(_without_private_fields)


def _observe_worker(worker: ObservedWorker) -> None:
    if _integration() is not None:
        worker.on_end.append(lambda: sentry_sdk.flush(_FLUSH_FOR))


def _integration() -> ProcrastinateIntegration | None:
    found: ProcrastinateIntegration | None = sentry_sdk.get_client().get_integration(ProcrastinateIntegration)
    return found


# Defers


@contextlib.contextmanager
def _around_defer(defer: Defer) -> Iterator[None]:
    integration = _integration()
    if integration is None:
        yield
        return
    with _publish_span(defer) as span:
        if integration.propagate_traces:
            _inject(defer.trace_context)
        with check_in(defer) if integration.is_monitored(defer.task_name) else contextlib.nullcontext():
            yield
        if span is not None and len(defer.job_ids) == 1:
            span.set_data("messaging.message.id", str(defer.job_ids[0]))


@contextlib.contextmanager
def _publish_span(defer: Defer) -> Iterator[Any]:
    """Start a span if the code is traced. Sentry's integration of Django has one for ``django.tasks`` already."""
    current = sentry_sdk.get_current_span()
    if current is None or getattr(current, "op", None) == "queue.submit.django":
        yield None
        return
    name = defer.task_name or "several tasks"
    with sentry_sdk.start_span(op="queue.publish", name=name, origin=ProcrastinateIntegration.origin) as span:
        span.set_data("messaging.system", _SYSTEM)
        if defer.queue is not None:
            span.set_data("messaging.destination.name", defer.queue)
        if defer.count != 1:
            span.set_data("messaging.batch.message_count", defer.count)
        yield span


def _inject(headers: dict[str, str]) -> None:
    trace, baggage = sentry_sdk.get_traceparent(), sentry_sdk.get_baggage()
    if trace:
        headers["sentry-trace"] = trace
        note_deferred_at(headers)
    if baggage:  # another tool may have written its own
        headers["baggage"] = f"{headers['baggage']},{baggage}" if "baggage" in headers else baggage


# Runs


@contextlib.contextmanager
def _around_run(run: ObservedRun) -> Iterator[None]:
    integration = _integration()
    if integration is None:
        yield
        return
    job, origin = run.job, ProcrastinateIntegration.origin
    with sentry_sdk.isolation_scope() as scope:
        scope.clear_breadcrumbs()
        scope.set_tag("procrastinate_job_id", str(job.id))
        scope.set_tag("procrastinate_queue", job.queue)
        scope.set_context("procrastinate-job", _described(run))
        scope.add_event_processor(_without_own_log_records)
        transaction = sentry_sdk.continue_trace(
            (job.trace_context or {}) if integration.propagate_traces else {},
            op="queue.task.procrastinate",
            name=job.task_name,
            source="task",
            origin=origin,
        )
        with (
            sentry_sdk.start_transaction(transaction, custom_sampling_context={"procrastinate_job": _names(job)}),
            sentry_sdk.start_span(op="queue.process", name=job.task_name, origin=origin) as span,
        ):
            for name, value in _span_data(job).items():
                span.set_data(name, value)
            sent = _Run(run, integration, [span, transaction])
            run.on_end.append(sent.end)
            try:
                yield
            finally:
                sent.stop()


@dataclasses.dataclass
class _Run:
    """A run and its spans, the innermost first. They are sent when the outcome is recorded."""

    run: ObservedRun
    integration: ProcrastinateIntegration
    spans: list[Any]
    stopped_at: datetime.datetime | None = None

    def stop(self) -> None:
        """Note the end of the run. A span with an end is not sent when its block ends."""
        self.stopped_at = datetime.datetime.now(datetime.UTC)
        for span in self.spans:
            if span.timestamp is None:
                span.timestamp = self.stopped_at

    def end(self, status: Status, exception: BaseException | None) -> None:
        """Send the spans, check out, and send an event if the job has failed."""
        job, (span, transaction) = self.run.job, self.spans
        check_out(job, status)
        if exception is not None and _is_event(status, exception, self.integration):
            with sentry_sdk.new_scope() as scope:
                scope.span = span
                _send_event(job, status, exception)
        is_released = status is Status.CANCELLED or (status is Status.TODO and exception is None)
        if is_released or not self.run.is_run:  # it has not run here
            transaction.sampled = False
        words = {Status.SUCCEEDED: "ok", Status.FAILED: "internal_error"}
        for one in self.spans:
            one.set_status(words.get(status, "aborted"))
            if one.timestamp in (None, self.stopped_at):
                one.timestamp = None
                one.finish(end_timestamp=self.stopped_at)


def _is_event(status: Status, exception: BaseException, integration: ProcrastinateIntegration) -> bool:
    if status is Status.TODO:
        return integration.capture_retries and not isinstance(exception, _ON_PURPOSE)
    return status is Status.FAILED


def _send_event(job: Job, status: Status, exception: BaseException) -> None:
    options = sentry_sdk.get_client().options
    mechanism = {"type": _SYSTEM, "handled": status is Status.TODO}
    event, hint = event_from_exception(exception, client_options=options, mechanism=mechanism)
    if isinstance(exception, TaskTimeout):  # its traceback is the same for all tasks
        event["fingerprint"] = ["procrastinate-timeout", job.task_name]
    if isinstance(exception, WorkerLost):  # it has no traceback
        event["fingerprint"] = ["procrastinate-worker-lost", job.task_name]
    sentry_sdk.capture_event(event, hint=hint)


def _without_given_up_jobs(event: Any, hint: dict[str, Any]) -> Any:
    """Drop the event that Sentry makes of the log record about a job that was rescued too often: it is one already."""
    return None if _own_action(hint) == "job_given_up" and _integration() is not None else event


def _without_own_log_records(event: Any, hint: dict[str, Any]) -> Any:
    """Drop the event that Sentry makes of the worker's log record about a failure: the failure is an event already."""
    return None if _own_action(hint) in ("job_error", "task_not_found") else event


_PRIVATE = ("task_kwargs", "lock", "queueing_lock", "meta", "call_string")
"""Fields of a job that log records have, and that may contain what the job's arguments contain."""


def _without_private_fields(event: Any, hint: dict[str, Any]) -> Any:
    """Filter jobs in what Sentry makes of log records: breadcrumbs, and events of errors."""
    if _integration() is None or _sends_arguments():
        return event
    breadcrumbs = event.get("breadcrumbs")
    for one in breadcrumbs.get("values", ()) if isinstance(breadcrumbs, dict) else ():
        call = _filter_fields(one.get("data"))
        if call is not None and isinstance(one.get("message"), str):
            one["message"] = one["message"].replace(*call)
    call = _filter_fields(event.get("extra"))
    entry = event.get("logentry")
    if call is not None and isinstance(entry, dict):
        for name in ("message", "formatted"):
            if isinstance(entry.get(name), str):
                entry[name] = entry[name].replace(*call)
        entry["params"] = [call[1] if one == call[0] else one for one in entry.get("params") or ()]
    return event


def _filter_fields(fields: Any) -> tuple[str, str] | None:
    """Filter the job in the fields of a log record. Return its call as text, and that text without arguments."""
    if not isinstance(fields, dict):
        return None
    if "worker_name" in fields and fields.get("meta"):  # of a JobFilter
        fields["meta"] = _FILTERED
    job = fields.get("job")
    if not isinstance(job, dict) or not isinstance(job.get("call_string"), str):
        return None
    fields["job"] = {**job, **{name: _FILTERED for name in _PRIVATE if job.get(name)}}
    if fields.get("result") is not None:
        fields["result"] = _FILTERED
    return job["call_string"], f"{job['call_string'].partition('(')[0]}(...)"


def _own_action(hint: dict[str, Any]) -> str | None:
    """Return the action of a log record of a worker, or ``None`` for anything else."""
    record = hint.get("log_record")
    is_own = record is not None and record.name.startswith("procrastinate.worker")
    return getattr(record, "action", None) if is_own else None


def _names(job: Job) -> dict[str, Any]:
    return {"id": job.id, "task": job.task_name, "queue": job.queue, "attempt": job.attempts + 1}


def _described(run: ObservedRun) -> dict[str, Any]:
    """Return the context of a run. The lock and the metadata often name a customer or a user, as the arguments do."""
    job = run.job
    if not (job.log_arguments and _sends_arguments()):
        filtered = {"lock": job.lock and _FILTERED, "arguments": _FILTERED, "meta": job.meta and _FILTERED}
        return _names(job) | filtered
    arguments: Any = job.task_kwargs
    if isinstance(arguments, UnreadArguments):
        arguments = "[Too large]" if run.is_run else "[Not read]"
    return {**_names(job), "lock": job.lock, "arguments": arguments, "meta": job.meta}


def _sends_arguments() -> bool:
    collected = sentry_sdk.get_client().options.get("data_collection")
    if isinstance(collected, dict) and collected.get("provided_by_user"):
        return bool(collected.get("queues"))
    return should_send_default_pii()


def _span_data(job: Job) -> dict[str, Any]:
    data: dict[str, Any] = {
        "messaging.system": _SYSTEM,
        "messaging.destination.name": job.queue,
        "messaging.message.id": str(job.id),
        "messaging.message.retry.count": job.attempts,
    }
    waited = seconds_waited(job)
    if waited is not None:
        data["messaging.message.receive.latency"] = round(waited * 1000)
    return data
