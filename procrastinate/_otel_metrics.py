"""The metrics of OpenTelemetry. :func:`procrastinate.otel.instrument` turns them on."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from opentelemetry import metrics, trace
from opentelemetry.metrics import CallbackOptions, Observation

from procrastinate import worker_observers
from procrastinate._fork_locks import fork_lock
from procrastinate._otel_shared import trace_options
from procrastinate.core.rows import RescuedJob
from procrastinate.jobs import Job
from procrastinate.run_observers import seconds_waited
from procrastinate.worker_observers import ObservedWorker

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0)
_JOBS = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500)
_FLUSH_FOR = 2_000
"""Milliseconds that the end of a worker may wait for the exporters of traces and of metrics."""
_meter = metrics.get_meter("procrastinate")


def _histogram(name: str, unit: str, description: str, bounds: tuple[float, ...] = _SECONDS) -> metrics.Histogram:
    return _meter.create_histogram(name, unit=unit, description=description, explicit_bucket_boundaries_advisory=bounds)


run_duration = _histogram("messaging.process.duration", "s", "Duration of runs.")
defer_duration = _histogram("messaging.client.operation.duration", "s", "Duration of defers.")
sent = _meter.create_counter("messaging.client.sent.messages", unit="{message}", description="Jobs deferred.")
consumed = _meter.create_counter(
    "messaging.client.consumed.messages", unit="{message}", description="Jobs given to tasks, each run of one."
)
in_flight = _meter.create_up_down_counter(
    "procrastinate.jobs.in_flight", unit="{job}", description="Jobs that run in this process."
)
_wait = _histogram("procrastinate.job.wait.duration", "s", "Time between the defer or the due time, and the start.")
_retries = _meter.create_counter("procrastinate.job.retries", unit="{run}", description="Runs that are retried.")
_rescued = _meter.create_counter(
    "procrastinate.jobs.rescued", unit="{job}", description="Jobs that workers of this process took back from others."
)
_fetch_duration = _histogram("procrastinate.fetch.duration", "s", "Duration of fetches.")
_fetch_size = _histogram("procrastinate.fetch.size", "{job}", "Jobs of a fetch.", _JOBS)
_workers: set[ObservedWorker] = set()
_mutex = fork_lock()


def record_wait(job: Job, attributes: dict[str, Any]) -> None:
    """Record how long the first run of a job waited, if the job tells."""
    waited = seconds_waited(job) if job.attempts == 0 else None
    if waited is not None:
        _wait.record(waited, attributes)


def is_set_up() -> bool:
    """Return whether the program has set up the metrics of OpenTelemetry's SDK. Those of the API record nothing."""
    return hasattr(metrics.get_meter_provider(), "force_flush")


def turn_on() -> None:
    """Observe the workers of instrumented apps. A second call has no effect."""
    if _observe_worker not in worker_observers.EVERYWHERE:
        worker_observers.EVERYWHERE.append(_observe_worker)


def count_retry(job: Job) -> None:
    """Count a run after which the job runs again."""
    _retries.add(1, _of_job(job.queue, job.task_name))


def _observe_worker(worker: ObservedWorker) -> None:
    if trace_options(worker.app_hooks) is None:
        return
    with _mutex:
        _workers.add(worker)
    worker.on_fetch.append(_note_fetch)
    worker.on_rescue.append(_note_rescue)
    worker.on_end.append(lambda: _end(worker))


def _note_fetch(seconds: float, jobs: int) -> None:
    attributes = {"messaging.system": "procrastinate"}
    _fetch_duration.record(seconds, attributes)
    _fetch_size.record(jobs, attributes)


def _note_rescue(job: RescuedJob) -> None:
    _rescued.add(1, _of_job(job.queue_name, job.task_name))


def _end(worker: ObservedWorker) -> None:
    """Forget a worker, and export what its last jobs have left. A process may end right after it."""
    with _mutex:
        _workers.discard(worker)
    for provider in (trace.get_tracer_provider(), metrics.get_meter_provider()):
        if flush := getattr(provider, "force_flush", None):  # those of the API have none
            flush(_FLUSH_FOR)


def _of_job(queue: str, task: str) -> dict[str, str]:
    return {
        "messaging.system": "procrastinate",
        "messaging.destination.name": queue,
        "messaging.procrastinate.task": task,
    }


def _running() -> list[ObservedWorker]:
    with _mutex:
        return list(_workers)


def _observe_slots(options: CallbackOptions) -> Iterable[Observation]:
    busy = lost = total = 0
    for worker in _running():
        report = worker.report()
        busy, lost, total = busy + report.running, lost + report.lost_threads, total + worker.concurrency
    counts = {"busy": busy, "lost": lost, "free": max(total - busy - lost, 0)}
    return [Observation(number, {"messaging.procrastinate.slot.state": state}) for state, number in counts.items()]


def _observe_unwritten(options: CallbackOptions) -> Iterable[Observation]:
    return [Observation(sum(worker.report().unwritten for worker in _running()))]


_Callback = Callable[[CallbackOptions], Iterable[Observation]]


def _level(name: str, unit: str, description: str, observe: _Callback) -> None:
    """Create a metric that adds up over processes."""
    _meter.create_observable_up_down_counter(name, [observe], unit=unit, description=description)


_level("procrastinate.worker.slots", "{slot}", "Slots of the workers of this process, by state.", _observe_slots)
_level("procrastinate.outcomes.unwritten", "{job}", "Ended jobs without a stored outcome.", _observe_unwritten)
