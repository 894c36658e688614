"""Reasons of jobs that run or have ended. A check returns a reason, or ``None``."""

from __future__ import annotations

from procrastinate._durations import duration
from procrastinate.core.blocked_loops import seconds_blocked
from procrastinate.core.dead_workers import DECIDE_ON_LEFT_BEHIND, LEFT_BEHIND
from procrastinate.core.enums import Status
from procrastinate.core.inspection import catalogue_facts
from procrastinate.core.inspection.case import Case
from procrastinate.core.inspection.explanation_types import Reason, ReasonKind
from procrastinate.core.inspection.facts import WorkerFacts


def _worker(case: Case) -> WorkerFacts | None:
    return next((worker for worker in case.workers if worker.id == case.row.worker_id), None)


def _is_named(worker: WorkerFacts, case: Case) -> bool | None:
    """Return whether the worker names the job as running. ``None`` if it has not said so since the job was fetched."""
    if worker.running_ids is None or case.row.last_event_at is None or worker.heartbeat_at is None:
        return None
    if case.job_id in worker.running_ids:
        return True
    has_told = worker.heartbeat_at > case.row.last_event_at and (worker.running or 0) == len(worker.running_ids)
    return False if has_told else None


def left_behind(case: Case) -> Reason | None:
    """Was it running when the tables of 3.x were upgraded, without a worker."""
    if case.row.worker_id != LEFT_BEHIND:
        return None
    return Reason(
        code="left-behind",
        kind=ReasonKind.BLOCKED,
        text="Procrastinate 3.x has left the running job behind. It may have done its work, so no worker runs it again "
        "until you decide",
        advice=DECIDE_ON_LEFT_BEHIND,
    )


def worker_gone(case: Case) -> Reason | None:
    """Is its worker registered."""
    if _worker(case) is not None:
        return None
    if not case.alive:
        return _no_rescuer(case, "Its worker is gone")
    return Reason(
        code="worker-gone",
        kind=ReasonKind.WAITS,
        text=f"Its worker {case.row.worker_id} is gone. Another worker takes the job back",
        advice="Wait for the next heartbeat of another worker",
    )


def worker_silent(case: Case) -> Reason | None:
    """Does its worker give signs of life."""
    worker = _worker(case)
    if worker is None or worker.is_alive:
        return None
    if not case.alive:
        return _no_rescuer(case, f"Its worker has been silent for {duration(worker.silent_for)}")
    if worker.is_of_3x:
        return Reason(
            code="worker-silent",
            kind=ReasonKind.WAITS,
            text=f"Its worker {worker.id} is of Procrastinate 3.x, and has been silent for "
            f"{duration(worker.silent_for)}. Others will take the job back after an hour of silence, because such a "
            "worker is silent while it stops",
            advice="Wait. If the worker was killed, retry the job by hand, or start a worker with a shorter "
            "--legacy-worker-timeout",
        )
    return Reason(
        code="worker-silent",
        kind=ReasonKind.WAITS,
        text=f"Its worker {worker.id} has been silent for {duration(worker.silent_for)}. Others will take the job back",
        advice="Wait: other workers rescue the job once they are sure that its worker is dead",
    )


def _no_rescuer(case: Case, what: str) -> Reason:
    return Reason(
        code="no-worker-to-rescue",
        kind=ReasonKind.BLOCKED,
        text=f"{what}, and no other worker is alive to take the job back",
        advice="Start a worker",
    )


def abort_requested(case: Case) -> Reason | None:
    """Was an abort requested."""
    if not case.row.abort_requested:
        return None
    return Reason(
        code="abort-requested",
        kind=ReasonKind.RUNS,
        text="An abort was requested, and the task has not stopped yet",
        advice="A sync task must look at context.should_abort(), and an async task must await",
    )


def row_locked(case: Case) -> Reason | None:
    """Does another transaction lock its row."""
    lockers = catalogue_facts.find_row_lockers(case.connection, case.job_id)
    if not lockers:
        return None
    return Reason(
        code="outcome-unwritten",
        kind=ReasonKind.BLOCKED,
        text=f"A transaction has locked the row, so an outcome cannot be written: {'; '.join(map(str, lockers))}",
        advice="End that transaction",
    )


def outcome_unwritten(case: Case) -> Reason | None:
    """Has its worker written all outcomes."""
    worker = _worker(case)
    if worker is None or not worker.unwritten or _is_named(worker, case) is not False:
        return None
    return Reason(
        code="outcome-unwritten",
        kind=ReasonKind.WAITS,
        text=f"Its worker has {worker.unwritten} outcomes that it cannot write yet, perhaps that of this job",
        advice="Look into the log of the worker for record_outcomes_error and record_outcome_refused",
    )


def loop_blocked(case: Case) -> Reason | None:
    """Does the event loop of its worker turn."""
    worker = _worker(case)
    return None if worker is None or not is_blocked(worker) else blocked_reason([worker])


def is_blocked(worker: WorkerFacts) -> bool:
    """Return true if the event loop of a worker had no turn between two heartbeats."""
    return seconds_blocked(worker.loop_lag, worker.heartbeat_interval) is not None


def blocked_reason(workers: list[WorkerFacts]) -> Reason:
    """Return the reason that the event loops of these workers are blocked."""
    lag = max(worker.loop_lag or 0 for worker in workers)
    return Reason(
        code="loop-blocked",
        kind=ReasonKind.BLOCKED,
        text=f"An async task blocks the event loop of the worker, for {duration(lag)} as of its last heartbeat",
        advice="Call blocking code in a sync task, or with asyncio.to_thread()",
    )


def fetched_ahead(case: Case) -> Reason | None:
    """Has it started, or was it only fetched."""
    worker = _worker(case)
    if worker is None or _is_named(worker, case) is not False or not worker.fetched_ahead:
        return None
    return Reason(
        code="fetched-ahead",
        kind=ReasonKind.WAITS,
        text="A worker has fetched the job ahead and starts it soon, or releases it",
        advice="Wait. The option prefetch=False turns this off",
    )


def unknown_to_worker(case: Case) -> Reason | None:
    """Does its worker know of it."""
    worker = _worker(case)
    if worker is None or not worker.is_alive or _is_named(worker, case) is not False:
        return None
    if worker.fetched_ahead or worker.unwritten or worker.lost_threads:
        return None
    return Reason(
        code="unknown-to-worker",
        kind=ReasonKind.WAITS,
        text="Its worker does not know of the job: the answer to the fetch was lost",
        advice="Wait: the worker compares its jobs with the database every half minute, and returns the job",
    )


def runs(case: Case) -> Reason | None:
    """Does it run."""
    worker = _worker(case)
    if worker is None or not worker.is_alive or _is_named(worker, case) is False:
        return None
    since = "" if case.row.age is None else f" for {duration(case.row.age)}"
    return Reason(code="runs", kind=ReasonKind.RUNS, text=f"The job runs{since} on worker {worker.name or worker.id}")


_FAILURES = {
    "TaskNotFound": "Its task was unknown to the worker. Import its module, or give its old name as alias",
    "TaskTimeout": "The task ran longer than its timeout",
    "WorkerLost": "It was taken back from dead workers more often than max_rescues allows",
    "TypeError": "Perhaps its arguments do not fit the signature of the task",
    "InvalidJob": "Its arguments cannot be read",
    "InvalidResult": "Its return value cannot be stored",
}


def _retry_advice(job_id: int) -> str:
    command = f"`procrastinate shell retry {job_id}`"
    return f"Retry it once the cause is removed: {command}, or Retry on its page of the dashboard"


def ended(case: Case) -> Reason | None:
    """Has it ended."""
    job = case.row
    if job.status is Status.ABORTING:
        return None
    when = "" if job.finished_at is None else f" at {job.finished_at:%Y-%m-%d %H:%M:%S} UTC"
    error = (job.error_class or "").rpartition(".")[2]
    why = f" with {error}" if error and job.status is Status.FAILED else ""
    return Reason(
        code=job.status.value,
        kind=ReasonKind.ENDED,
        text=f"The job has ended as {job.status.value}{why}{when}",
        advice=_FAILURES.get(error, _retry_advice(job.id)) if job.status is Status.FAILED else "",
    )


def legacy_aborting(case: Case) -> Reason | None:
    """Is it a row of Procrastinate 3.x that was to be aborted."""
    if case.row.status is not Status.ABORTING:
        return None
    return Reason(
        code="legacy-aborting",
        kind=ReasonKind.BLOCKED,
        text="The row has the status aborting of Procrastinate 3.x, which no worker takes",
        advice="End it with app.job_manager.finish_job_by_id_async()",
    )
