"""Reasons of jobs that wait. A check returns a reason, or ``None``."""

from __future__ import annotations

from procrastinate._durations import duration
from procrastinate.core.dead_workers import DECIDE_ON_LEFT_BEHIND, LEFT_BEHIND
from procrastinate.core.enums import Status
from procrastinate.core.inspection import catalogue_facts, facts
from procrastinate.core.inspection.case import Case
from procrastinate.core.inspection.environment_reasons import resume_advice
from procrastinate.core.inspection.explanation_types import Reason, ReasonKind
from procrastinate.core.inspection.facts import JobFacts

_CLOCKS_MAY_DIFFER = 2.0
_START_NOW = "Wait, or start it now with Run now on its page of the dashboard"
_ZONES_MAY_DIFFER = 60.0
"""Seconds between the call that computed the time and the event of the job."""


def _shown(count: int) -> str:
    return f"more than {facts.COUNTED:,}" if count > facts.COUNTED else f"{count:,}"


# The row


def row_locked(case: Case) -> Reason | None:
    """Does another transaction lock its row."""
    lockers = catalogue_facts.find_row_lockers(case.connection, case.job_id)
    if not lockers:
        return None
    return Reason(
        code="row-locked",
        kind=ReasonKind.BLOCKED,
        text=f"A transaction has locked the row of the job, and workers pass it by: {'; '.join(map(str, lockers))}",
        advice="End that transaction",
    )


def queue_paused(case: Case) -> Reason | None:
    """Is its queue paused."""
    pause = facts.read_pause(case.connection, case.row.queue_name)
    if pause is None:
        return None
    parts = [f"The queue {case.row.queue_name!r} is paused"]
    parts += [f"by {pause.paused_by}"] if pause.paused_by else []
    parts += [f"since {pause.since:%Y-%m-%d %H:%M:%S} UTC"] if pause.since else []
    parts += [f"until {pause.until:%Y-%m-%d %H:%M:%S} UTC"] if pause.until else []
    reason = f": {pause.reason}" if pause.reason else ""
    return Reason(
        code="queue-paused",
        kind=ReasonKind.BLOCKED,
        text=" ".join(parts) + reason,
        advice=resume_advice(case.row.queue_name),
    )


def broken_readiness(case: Case) -> Reason | None:
    """Is the value of readiness valid."""
    return Reason(
        code="broken-readiness",
        kind=ReasonKind.BLOCKED,
        text=f"The column readiness has the value {case.row.readiness}, which no worker understands",
        advice="UPDATE procrastinate_jobs SET readiness = 0 WHERE id = ...",
    )


# The time


def never_due(case: Case) -> Reason | None:
    """Is its time infinite."""
    if not case.row.is_never:
        return None
    return Reason(
        code="never-due",
        kind=ReasonKind.BLOCKED,
        text="The job is scheduled for the time infinity, and never falls due",
        advice="Give it another time: app.job_manager.reschedule or an UPDATE of scheduled_at",
    )


def clock_differs(case: Case) -> Reason | None:
    """Does the clock of this machine agree with that of the database."""
    ahead, due = case.clock_difference, case.row.scheduled_at
    if ahead <= _CLOCKS_MAY_DIFFER or due is None or (due - case.now).total_seconds() > ahead:
        return None
    return Reason(
        code="clock-differs",
        kind=ReasonKind.WAITS,
        text=f"The clock of this machine is {duration(ahead)} ahead. By that of the database the job is not due yet",
        advice="Set both clocks with NTP. The clock of the database counts",
    )


def zone_suspected(case: Case) -> Reason | None:
    """Is its time off by the difference of two time zones."""
    due, deferred = case.row.scheduled_at, case.row.last_event_at
    if due is None or deferred is None or not case.row.is_future:
        return None
    distance = (due - deferred).total_seconds()
    for zone, offset in catalogue_facts.list_zones(case.connection):
        if offset and abs(distance - abs(offset)) < _ZONES_MAY_DIFFER:
            return Reason(
                code="zone-suspected",
                kind=ReasonKind.WAITS,
                text=(
                    f"The job was scheduled {duration(abs(offset))} after its last event, which is the distance "
                    f"between UTC and the time zone of {zone}"
                ),
                advice="Perhaps a time without a zone was read in another zone. Give each time its zone",
            )
    return None


def retry_scheduled(case: Case) -> Reason | None:
    """Does it wait for a retry."""
    job = case.row
    if job.attempts == 0 or job.is_never or not job.is_future:
        return None
    error = f" after {job.error_class}" if job.error_class else ""
    return Reason(
        code="retry-scheduled",
        kind=ReasonKind.WAITS,
        text=f"The job waits for its retry number {job.attempts}{error}, at {_time(job)}",
        advice=_START_NOW,
    )


def scheduled(case: Case) -> Reason | None:
    """Is its time still to come."""
    job = case.row
    if job.attempts or job.is_never or not job.is_future:
        return None
    return Reason(
        code="scheduled",
        kind=ReasonKind.WAITS,
        text=f"The job is scheduled for {_time(job)}",
        advice=f"{_START_NOW}. If the time is hours off, a naive time was read in another zone",
    )


def _time(job: JobFacts) -> str:
    return "a time beyond the year 9999" if job.scheduled_at is None else f"{job.scheduled_at:%Y-%m-%d %H:%M:%S} UTC"


def line_in_front(case: Case) -> Reason | None:
    """Do other jobs come first."""
    count = facts.count_in_front(case.connection, case.row)
    if not count:
        return None
    return Reason(
        code="line-in-front",
        kind=ReasonKind.WAITS,
        text=f"{_shown(count)} ready {'job of its queue comes' if count == 1 else 'jobs of its queue come'} first",
        advice="Wait, raise its priority, or start more workers",
    )


def overtaken(case: Case) -> Reason | None:
    """Do jobs come first that were deferred later."""
    count = facts.count_overtaking(case.connection, case.row)
    if not count:
        return None
    return Reason(
        code="overtaken",
        kind=ReasonKind.WAITS,
        text=f"Of the jobs that come first, {_shown(count)} were deferred later, with a higher priority",
        advice="Raise its priority. If such jobs come faster than workers run them, it never starts",
    )


# Promotion


def promoter_hangs(case: Case) -> Reason | None:
    """Does the session that has the turn to promote go on."""
    sessions = catalogue_facts.find_promoters(case.connection)
    if not sessions:
        return None
    return Reason(
        code="promoter-hangs",
        kind=ReasonKind.BLOCKED,
        text=f"A session has held the lock of promotions for long: {'; '.join(map(str, sessions))}",
        advice="End it: SELECT pg_terminate_backend(pid). Workers go on without the lock after two seconds",
    )


def promotion_backlog(case: Case) -> Reason | None:
    """Are other due jobs examined first."""
    count = facts.count_due_in_front(case.connection, case.row)
    if not count:
        return None
    return Reason(
        code="promotion-backlog",
        kind=ReasonKind.WAITS,
        text=f"{_shown(count)} jobs that are due are examined first",
        advice="Wait: a worker examines 500 in a step",
    )


# The lock


def holder_locked(case: Case) -> Reason | None:
    """Does another transaction lock the row of the holder of its lock."""
    holder = case.holder
    if holder is None or holder.id == case.job_id:
        return None
    lockers = catalogue_facts.find_row_lockers(case.connection, holder.id)
    if not lockers:
        return None
    return Reason(
        code="holder-row-locked",
        kind=ReasonKind.BLOCKED,
        text=f"A transaction has locked the row of job {holder.id}, which has the lock: {'; '.join(map(str, lockers))}",
        advice="End that transaction",
    )


def holder_stalled(case: Case) -> Reason | None:
    """Is the worker of the holder of its lock alive."""
    holder = case.holder
    if holder is None or holder.status is not Status.DOING or holder.worker_id in {one.id for one in case.alive}:
        return None
    if holder.worker_id == LEFT_BEHIND:
        return Reason(
            code="holder-stalled",
            kind=ReasonKind.BLOCKED,
            text=f"Job {holder.id} has the lock {case.row.lock!r}, and Procrastinate 3.x has left it behind",
            advice=DECIDE_ON_LEFT_BEHIND,
        )
    rescuer = "Another worker takes that job back" if case.alive else "No worker is alive to take that job back"
    return Reason(
        code="holder-stalled",
        kind=ReasonKind.WAITS if case.alive else ReasonKind.BLOCKED,
        text=f"Job {holder.id} has the lock {case.row.lock!r}, and its worker is gone or silent. {rescuer}",
        advice="Wait" if case.alive else "Start a worker",
    )


def holder_waits(case: Case) -> Reason | None:
    """Can the holder of its lock start."""
    holder = case.holder
    if holder is None or holder.status is not Status.TODO or holder.id == case.job_id:
        return None
    serving = [worker for worker in case.alive if worker.serves(holder.queue_name)]
    why = "no worker takes jobs of its queue" if not serving else "it waits for a slot"
    return Reason(
        code="holder-waits",
        kind=ReasonKind.WAITS if serving else ReasonKind.BLOCKED,
        text=f"Job {holder.id} of the queue {holder.queue_name!r} has the lock {case.row.lock!r} and waits: {why}",
        advice=f"procrastinate why {holder.id}",
    )


def lock_held(case: Case) -> Reason | None:
    """Does another job that runs have its lock."""
    holder = case.holder
    if holder is None or holder.status is not Status.DOING:
        return None
    line = facts.count_line(case.connection, case.row)
    behind = f", and {_shown(line)} {'job comes' if line == 1 else 'jobs come'} first" if line else ""
    since = "" if holder.age is None else f" for {duration(holder.age)}"
    return Reason(
        code="lock-held",
        kind=ReasonKind.WAITS,
        text=f"Job {holder.id} has the lock {case.row.lock!r} and runs{since}{behind}",
        advice=f"Wait, or see `procrastinate why {holder.id}`",
    )


def lock_orphaned(case: Case) -> Reason | None:
    """Does a job have its lock."""
    if case.holder is not None or case.row.lock is None:
        return None
    return Reason(
        code="lock-orphaned",
        kind=ReasonKind.WAITS,
        text=f"No job has the lock {case.row.lock!r}. A worker frees the next job with its next sweep",
        advice="Wait if a worker is alive: it sweeps with each heartbeat",
    )


def resumed(case: Case) -> Reason | None:
    """Was it parked because of its queue, and need not be any more."""
    if case.row.lock is not None:
        return None
    return Reason(
        code="resumed",
        kind=ReasonKind.WAITS,
        text="The job was parked while its queue was paused, or had no worker. A worker frees it with its next sweep",
        advice="Wait if a worker is alive, or start one",
    )
