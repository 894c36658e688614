"""The states of a job as people see them, and the walk along an index that lists the jobs of each."""

from __future__ import annotations

import dataclasses
import enum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.types import TypeEngine

from procrastinate.core.enums import Status
from procrastinate.core.tables import (
    DOING,
    TODO,
    due_at,
    is_in_line,
    is_parked,
    is_ready,
    is_ready_in_any_queue,
    is_upcoming,
    jobs,
    status_literal,
    waits_for_others,
)


class JobState(enum.StrEnum):
    """State of a job. The status ``todo`` is five states, because a job waits for five reasons."""

    READY = "ready"
    """A worker may claim the job now, unless its queue is paused."""
    SCHEDULED = "scheduled"
    """The job waits for its time, or for a worker that examines its lock."""
    BLOCKED = "blocked"
    """The job is due, and waits behind the holder of its lock."""
    LIMITED = "limited"
    """The job is due, and waits for a slot of its limit."""
    WAITING_FOR_STEPS = "waiting_for_steps"
    """The job is a step of a workflow, and waits for the steps before it."""
    RUNNING = "running"
    """A worker holds the job."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    ABORTED = "aborted"

    @property
    def label(self) -> str:
        """The words for the state on a page."""
        return self.value.replace("_", " ")

    @property
    def is_waiting(self) -> bool:
        """True if no worker has claimed the job yet."""
        return self in WAITING

    @property
    def has_ended(self) -> bool:
        """True if the job will not run again by itself."""
        return self in ENDED


WAITING = (JobState.READY, JobState.SCHEDULED, JobState.BLOCKED, JobState.LIMITED, JobState.WAITING_FOR_STEPS)
"""The states of the status ``todo``. Whatever counts or changes waiting jobs takes all of them."""
ENDED: dict[JobState, Status] = {
    JobState.SUCCEEDED: Status.SUCCEEDED,
    JobState.FAILED: Status.FAILED,
    JobState.CANCELLED: Status.CANCELLED,
    JobState.ABORTED: Status.ABORTED,
}

STATE: sa.ColumnElement[str] = sa.case(
    (jobs.c.status == DOING, JobState.RUNNING.value),
    (is_parked(), JobState.BLOCKED.value),
    (is_in_line(), JobState.LIMITED.value),
    (waits_for_others(), JobState.WAITING_FOR_STEPS.value),
    (is_ready(), JobState.READY.value),
    (jobs.c.status == TODO, JobState.SCHEDULED.value),
    # A row of 3.x, which nothing takes.
    (jobs.c.status == status_literal(Status.ABORTING), JobState.RUNNING.value),
    else_=sa.cast(jobs.c.status, sa.Text),
)
"""The :class:`JobState` of a row."""


@dataclasses.dataclass(frozen=True, slots=True)
class Key:
    """A column of a walk's order."""

    column: sa.ColumnElement[Any]
    type: TypeEngine[Any]
    descending: bool = False

    @property
    def order(self) -> sa.ColumnElement[Any]:
        """The column in its direction."""
        return self.column.desc() if self.descending else self.column.asc()

    def comes_after(self, value: sa.ColumnElement[Any], *, or_equal: bool = False) -> sa.ColumnElement[bool]:
        """Return the condition that a row comes after a value in this direction."""
        if self.descending:
            return self.column <= value if or_equal else self.column < value
        return self.column >= value if or_equal else self.column > value


@dataclasses.dataclass(frozen=True, slots=True)
class Walk:
    """An order of jobs that an index gives, with the conditions of that index."""

    conditions: tuple[sa.ColumnElement[bool], ...]
    keys: tuple[Key, ...]

    @property
    def order(self) -> list[sa.ColumnElement[Any]]:
        """The columns to order by."""
        return [key.order for key in self.keys]

    def select(self, *columns: sa.ColumnElement[Any]) -> sa.Select[Any]:
        """Return the query for the jobs of this walk, in its order."""
        return sa.select(*columns).where(*self.conditions).order_by(*self.order)

    def after(self, place: tuple[str, ...]) -> sa.ColumnElement[bool]:
        """Return the condition that a row comes after a place. The first part is a bound of the index."""
        values = [
            sa.cast(sa.bindparam(f"after_{number}", text, type_=sa.Text()), key.type)
            for number, (key, text) in enumerate(zip(self.keys, place, strict=True))
        ]
        condition: sa.ColumnElement[bool] = sa.false()
        for key, value in zip(reversed(self.keys), reversed(values), strict=True):
            condition = sa.and_(key.comes_after(value, or_equal=True), sa.or_(key.comes_after(value), condition))
        return condition


_TIME = sa.DateTime(timezone=True)
_ID = Key(jobs.c.id, sa.BigInteger())
_NEWEST = Key(jobs.c.id, sa.BigInteger(), descending=True)
_PRIORITY = Key(jobs.c.priority, sa.Integer(), descending=True)


def _ended(status: Status) -> Walk:
    conditions = (jobs.c.status == status_literal(status), jobs.c.finished_at.is_not(None))
    return Walk(conditions, (Key(jobs.c.finished_at, _TIME, descending=True), _NEWEST))


NEWEST = Walk((), (_NEWEST,))
"""All jobs, the last deferred first."""
READY_OF_QUEUE = Walk((is_ready(),), (_PRIORITY, _ID))
"""Ready jobs of one queue, which the caller adds, in the order of their start."""
WALKS: dict[JobState, Walk] = {
    JobState.READY: Walk((is_ready_in_any_queue(),), (_PRIORITY, _ID)),
    JobState.SCHEDULED: Walk((is_upcoming(),), (Key(due_at(), _TIME), _PRIORITY, _ID)),
    JobState.BLOCKED: Walk((is_parked(),), (Key(jobs.c.lock, sa.Text()), _PRIORITY, _ID)),
    JobState.LIMITED: Walk(
        (is_in_line(),),
        (Key(jobs.c.limit_name, sa.Text()), Key(jobs.c.limit_key, sa.Text()), _PRIORITY, _ID),
    ),
    JobState.WAITING_FOR_STEPS: Walk((waits_for_others(),), (_ID,)),
    # No index has the ids of running jobs in order. There are no more of them than workers run.
    JobState.RUNNING: Walk((jobs.c.status == DOING,), (Key(jobs.c.id + sa.literal_column("0"), sa.BigInteger()),)),
    **{state: _ended(status) for state, status in ENDED.items()},
}
"""How the jobs of each state are listed: waiting jobs as they will start, ended jobs from the newest."""
