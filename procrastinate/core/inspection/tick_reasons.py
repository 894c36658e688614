"""Explain why a periodic task has no job of its last tick, or which job it has."""

from __future__ import annotations

import dataclasses
import datetime
import functools
from collections.abc import Callable
from typing import Any, TypeAlias

import sqlalchemy as sa

from procrastinate._durations import duration, setting
from procrastinate.core.inspection import facts
from procrastinate.core.inspection.bounds import load
from procrastinate.core.inspection.environment_reasons import resume_advice
from procrastinate.core.inspection.examination import attempt, name_of, reading_only
from procrastinate.core.inspection.explanation_types import CheckResult, Reason, ReasonKind
from procrastinate.core.inspection.facts import WorkerFacts
from procrastinate.core.tables import jobs, periodic_defers

_LONGEST_SLEEP = 70.0
"""Seconds after which a live worker has deferred a tick: it sleeps for at most a minute."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TickQuestion:
    """A schedule and its last tick, as this program declares it.

    Times are in seconds since 1970. ``tick`` is ``None`` if this program does not declare the schedule. A worker that
    starts late still defers a tick that is at most ``max_delay`` seconds old.
    """

    task_name: str
    periodic_id: str
    tick: int | None
    next_tick: int | None
    queue: str | None
    queueing_lock: str | None
    max_delay: float


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TickExplanation:
    """What became of the last tick of a schedule. ``reasons`` are in order of weight, and the first is the headline."""

    task_name: str
    periodic_id: str
    tick: datetime.datetime | None
    now: datetime.datetime
    reasons: tuple[Reason, ...]
    checks: tuple[CheckResult, ...]

    @property
    def headline(self) -> Reason:
        """The first reason."""
        return self.reasons[0]


@dataclasses.dataclass
class _Case:
    connection: sa.Connection
    now: datetime.datetime
    question: TickQuestion

    @functools.cached_property
    def alive(self) -> list[WorkerFacts]:
        return [worker for worker in facts.read_workers(self.connection) if worker.is_alive]

    @functools.cached_property
    def stored(self) -> Any:
        """The row of the last tick, with the id of its job and whether that job exists."""
        return self.connection.execute(_TICK, dataclasses.asdict(self.question)).one_or_none()

    @property
    def age(self) -> float:
        """The age of the last tick in seconds."""
        return self.now.timestamp() - (self.question.tick or 0)


_TICK = (
    sa.select(periodic_defers.c.job_id, jobs.c.id.is_not(None).label("exists"))
    .select_from(periodic_defers.outerjoin(jobs, jobs.c.id == periodic_defers.c.job_id))
    .where(
        periodic_defers.c.task_name == sa.bindparam("task_name", type_=sa.Text()),
        periodic_defers.c.periodic_id == sa.bindparam("periodic_id", type_=sa.Text()),
        periodic_defers.c.defer_timestamp == sa.bindparam("tick", type_=sa.BigInteger()),
    )
)
_Check: TypeAlias = Callable[[_Case], Reason | None]


@load
def explain_tick(connection: sa.Connection, now: datetime.datetime, question: TickQuestion) -> TickExplanation:
    """Return what became of the last tick of a schedule, and what was excluded.

    All statements read. The transaction is read-only while they run, and each has two seconds.
    """
    case = _Case(connection, now, question)
    reasons: list[Reason] = []
    with reading_only(connection):
        checks = [_make(case, check, reasons) for check in _CHECKS]
    return TickExplanation(
        task_name=question.task_name,
        periodic_id=question.periodic_id,
        tick=None if question.tick is None else _moment(question.tick),
        now=now,
        reasons=tuple(reasons),
        checks=tuple(checks),
    )


def _make(case: _Case, check: _Check, reasons: list[Reason]) -> CheckResult:
    reason, error = attempt(case.connection, lambda: check(case))
    reasons += [] if reason is None else [reason]
    return CheckResult(name=name_of(check), found=None if reason is None else reason.code, error=error)


def _moment(seconds: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(seconds, tz=datetime.UTC)


def _shown(seconds: int) -> str:
    return f"{_moment(seconds):%Y-%m-%d %H:%M:%S} UTC"


def not_declared(case: _Case) -> Reason | None:
    """Does this program declare the schedule."""
    if case.question.tick is not None:
        return None
    return Reason(
        code="not-declared",
        kind=ReasonKind.MISSING,
        text=f"This program declares no schedule {case.question.periodic_id!r} of the task {case.question.task_name!r}",
        advice="Import its module (import_paths), or compare the name of the task and periodic_id",
    )


def in_no_worker(case: _Case) -> Reason | None:
    """Does a live worker know the task."""
    lists = facts.read_task_lists(case.connection, case.alive)
    if facts.workers_know_task(lists, case.alive, case.question.task_name):
        return None
    return Reason(
        code="schedule-in-no-worker",
        kind=ReasonKind.BLOCKED,
        text=f"No live worker has the task {case.question.task_name!r} in its code, so none defers its ticks",
        advice="Deploy the code to the workers, or add its module to their import_paths",
    )


def no_worker(case: _Case) -> Reason | None:
    """Is a worker alive."""
    if case.alive:
        return None
    return Reason(
        code="no-worker",
        kind=ReasonKind.BLOCKED,
        text="No worker is alive. Workers defer the ticks",
        advice="Start one with `procrastinate worker`",
    )


def tick_skipped(case: _Case) -> Reason | None:
    """Was the last tick skipped."""
    tick, lock = case.question.tick, case.question.queueing_lock
    if tick is None or case.stored is None or case.stored.exists:
        return None
    holder = None if lock is None else facts.find_waiting_for_queueing_lock(case.connection, lock)
    if holder is None:
        return Reason(
            code="tick-skipped-or-deleted",
            kind=ReasonKind.ENDED,
            text=(
                f"The tick of {_shown(tick)} has no job. Either another job had its queueing lock or its unique key "
                "then, or its job has ended and was deleted (delete_jobs, retention)"
            ),
            advice="Look into the log of the workers for skip_periodic_task_queueing_lock",
        )
    return Reason(
        code="tick-skipped",
        kind=ReasonKind.WAITS,
        text=f"The tick of {_shown(tick)} was skipped: job {holder} waits under the queueing lock {lock!r}",
        advice=f"procrastinate why {holder}",
    )


def tick_missed(case: _Case) -> Reason | None:
    """Was the last tick missed."""
    tick = case.question.tick
    if tick is None or case.stored is not None or case.age <= case.question.max_delay:
        return None
    return Reason(
        code="tick-missed",
        kind=ReasonKind.BLOCKED,
        text=(
            f"No worker deferred the tick of {_shown(tick)}, {duration(case.age)} ago. It is too old to be deferred now"
        ),
        advice=f"Keep a worker alive at each tick, or raise max_delay, which is {setting(case.question.max_delay)}",
    )


def tick_late(case: _Case) -> Reason | None:
    """Do live workers defer the last tick."""
    tick = case.question.tick
    if tick is None or case.stored is not None or not case.alive or case.age > case.question.max_delay:
        return None
    is_late = case.age > _LONGEST_SLEEP
    return Reason(
        code="tick-late" if is_late else "tick-soon",
        kind=ReasonKind.BLOCKED if is_late else ReasonKind.WAITS,
        text=f"The tick of {_shown(tick)} was not deferred yet, {duration(case.age)} after its time",
        advice="Look into the log of the workers for periodic_deferrer"
        if is_late
        else "Wait: a worker looks each minute",
    )


def queue_paused(case: _Case) -> Reason | None:
    """Is its queue paused."""
    queue = case.question.queue
    pause = None if queue is None else facts.read_pause(case.connection, queue)
    if queue is None or pause is None:
        return None
    why = f": {pause.reason}" if pause.reason else ""
    return Reason(
        code="queue-paused",
        kind=ReasonKind.BLOCKED,
        text=f"Ticks defer jobs, and these wait, because the queue {queue!r} is paused{why}",
        advice=resume_advice(queue),
    )


def tick_deferred(case: _Case) -> Reason | None:
    """Was the last tick deferred."""
    tick = case.question.tick
    if tick is None or case.stored is None or not case.stored.exists:
        return None
    return Reason(
        code="tick-deferred",
        kind=ReasonKind.RUNS,
        text=f"The tick of {_shown(tick)} has deferred job {case.stored.job_id}",
        advice=f"procrastinate why {case.stored.job_id}",
    )


def next_tick(case: _Case) -> Reason | None:
    """Is the next tick still to come."""
    if case.question.next_tick is None:
        return None
    return Reason(
        code="next-tick",
        kind=ReasonKind.WAITS,
        text=f"The next tick is at {_shown(case.question.next_tick)}",
    )


_CHECKS: tuple[_Check, ...] = (
    not_declared,
    no_worker,
    in_no_worker,
    tick_missed,
    tick_late,
    tick_skipped,
    queue_paused,
    tick_deferred,
    next_tick,
)
