"""The walk along an index that lists the jobs of each state."""

from __future__ import annotations

import dataclasses
from typing import Any

import sqlalchemy as sa
from sqlalchemy.types import TypeEngine

from procrastinate.core.enums import Status
from procrastinate.core.job_states import ENDED, JobState
from procrastinate.core.tables import (
    DOING,
    HAS_KNOWN_STATUS,
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


NEWEST = Walk((HAS_KNOWN_STATUS,), (_NEWEST,))
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
