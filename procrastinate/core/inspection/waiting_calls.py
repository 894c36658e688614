"""The load of what waiting jobs call: each task with each set of names of arguments."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Collection
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from procrastinate.core.arrays import array_param
from procrastinate.core.inspection.bounds import first_rows, load
from procrastinate.core.inspection.states import WALKS
from procrastinate.core.inspection.workers import alive_and_silent
from procrastinate.core.job_states import WAITING, JobState
from procrastinate.core.tables import jobs

_LOOKED_AT = 50_000
"""Maximum number of jobs of each state that are looked at."""
_MOST_CALLS = 2_000
"""Maximum number of calls that are returned. A program that puts data into names of arguments makes endless ones."""
_LARGEST = 100_000
"""Bytes. The names of larger arguments are not read."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class WaitingCall:
    """Waiting jobs of a task whose arguments have the same names.

    ``names`` is ``None`` if the arguments are no JSON object, or are large and were not read. ``is_object`` is ``None``
    for large arguments.
    """

    task_name: str
    is_object: bool | None
    names: tuple[str, ...] | None
    count: int
    first_job_id: int


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class WaitingCalls:
    """What waiting jobs call. ``is_more`` is true if other jobs wait that were not looked at."""

    now: datetime.datetime
    calls: tuple[WaitingCall, ...]
    looked_at: int
    is_more: bool
    workers_alive: int


_COLUMNS = (jobs.c.id, jobs.c.queue_name, jobs.c.task_name, jobs.c.args)


def _first_of(state: JobState) -> sa.Select[Any]:
    return sa.select(first_rows(WALKS[state].select(*_COLUMNS), _LOOKED_AT + 1, f"first_{state.value}"))


_waiting = sa.union_all(*map(_first_of, WAITING)).subquery("waiting")
_is_small = sa.func.pg_column_size(_waiting.c.args) <= sa.literal_column(str(_LARGEST))
_is_object: sa.ColumnElement[Any] = sa.case(
    (_is_small, sa.func.jsonb_typeof(_waiting.c.args) == sa.literal_column("'object'"))
)
_key = sa.func.jsonb_object_keys(_waiting.c.args).column_valued("key")
_keys: sa.ColumnElement[Any] = sa.case(
    (
        sa.func.coalesce(_is_object, sa.false()),
        sa.func.array(sa.select(_key).order_by(_key).scalar_subquery(), type_=ARRAY(sa.Text())),
    )
)
_reads = sa.select(
    _waiting.c.id, _waiting.c.queue_name, _waiting.c.task_name, _is_object.label("is_object"), _keys.label("names")
).subquery("reads")
_queues = array_param("queues", sa.Text())
_CALLS: sa.Select[Any] = (
    sa.select(
        _reads.c.task_name,
        _reads.c.is_object,
        _reads.c.names,
        sa.func.count().label("count"),
        sa.func.min(_reads.c.id).label("first_job_id"),
    )
    .where(sa.or_(sa.func.cardinality(_queues) == 0, _reads.c.queue_name == sa.any_(_queues)))
    .group_by(_reads.c.task_name, _reads.c.is_object, _reads.c.names)
    .limit(sa.literal_column(str(_MOST_CALLS + 1)))
)
# No page waits for this load, and the arguments of many jobs take longer on a busy machine.
_MORE_TIME = sa.select(
    sa.func.set_config(sa.literal_column("'statement_timeout'"), sa.literal_column("'10000'"), sa.true())
)
_COUNTS = sa.select(
    *(
        sa.select(sa.func.count()).select_from(_first_of(state).subquery(f"of_{state.value}")).scalar_subquery()
        for state in WAITING
    )
)


@load
def load_waiting_calls(connection: sa.Connection, now: datetime.datetime, queues: Collection[str] = ()) -> WaitingCalls:
    """Return what waiting jobs call. A statement gets ten seconds.

    Parameters
    ----------
    queues:
        Look at jobs of these queues only. Empty means all.
    """
    connection.execute(_MORE_TIME)
    calls = connection.execute(_CALLS, {"queues": list(queues)}).all()
    counts = connection.execute(_COUNTS).one()
    return WaitingCalls(
        now=now,
        calls=tuple(sorted(map(_call, calls[:_MOST_CALLS]), key=lambda call: (call.task_name, call.first_job_id))),
        looked_at=sum(min(count, _LOOKED_AT) for count in counts),
        workers_alive=alive_and_silent(connection)[0],
        is_more=len(calls) > _MOST_CALLS or any(count > _LOOKED_AT for count in counts),
    )


def _call(row: Any) -> WaitingCall:
    return WaitingCall(**dict(row._mapping) | {"names": None if row.names is None else tuple(row.names)})
