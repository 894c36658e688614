"""The load that lists jobs, page by page."""

from __future__ import annotations

import dataclasses
import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from procrastinate.core.criteria import equals, is_possible, only_possible
from procrastinate.core.inspection.bounds import first_rows, load
from procrastinate.core.inspection.records import JobsPage
from procrastinate.core.inspection.rows import LISTED, deferred_at, listed_job
from procrastinate.core.inspection.states import NEWEST, READY_OF_QUEUE, WALKS, Walk
from procrastinate.core.job_states import JobState
from procrastinate.core.operation_marks import may_lag
from procrastinate.core.tables import errors, jobs

REACH = 20_000
"""Maximum number of rows that a filter without an index examines for a page."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class JobSearch:
    """Which jobs to list. ``None`` leaves a criterion out.

    Parameters
    ----------
    state:
        The state, which also decides the order. Without it, all jobs are listed from the newest.
    queue, task, lock, queueing_lock, worker_id:
        The exact value. One that no row can have finds no job.
    word:
        Text that the name of the task or queue, or one of the locks, contains.
    args:
        JSON text of an object that the arguments contain.
    error:
        The class of an error of the job: its path, or the end of it.
    without_tasks:
        Names of tasks whose jobs are left out.
    ended_since:
        The time in ISO 8601, with a time zone, after which the jobs ended.
    deferred_since:
        The time in ISO 8601, with a time zone, after which the jobs were deferred.

    Raises
    ------
    ValueError
        A time cannot be read, or has no time zone.
    """

    state: JobState | None = None
    queue: str | None = None
    task: str | None = None
    lock: str | None = None
    queueing_lock: str | None = None
    worker_id: int | None = None
    word: str | None = None
    args: str | None = None
    error: str | None = None
    without_tasks: tuple[str, ...] = ()
    ended_since: str | None = None
    deferred_since: str | None = None

    def __post_init__(self) -> None:
        """Check the times."""
        for name in ("ended_since", "deferred_since"):
            _require_moment(name, getattr(self, name))

    @property
    def walk(self) -> Walk:
        """The order in which an index gives these jobs."""
        if self.state is None:
            return NEWEST
        if self.state is JobState.READY and self.queue is not None:
            return READY_OF_QUEUE
        return WALKS[self.state]

    def indexed(self) -> list[sa.ColumnElement[bool]]:
        """Return the conditions that the index of the walk knows. They cost nothing."""
        if self.state is JobState.READY and self.queue is not None:
            return [equals(jobs.c.queue_name, self.queue)]
        if self.state is JobState.BLOCKED and self.lock is not None:
            return [equals(jobs.c.lock, self.lock)]
        if self.state is JobState.RUNNING and self.worker_id is not None:
            return [equals(jobs.c.worker_id, self.worker_id)]
        return []

    def conditions(self, table: sa.FromClause) -> list[sa.ColumnElement[bool]]:
        """Return all conditions except the state, on rows of the jobs table."""
        equal = {
            "queue_name": self.queue,
            "task_name": self.task,
            "lock": self.lock,
            "queueing_lock": self.queueing_lock,
            "worker_id": self.worker_id,
        }
        found = [equals(table.c[name], value) for name, value in equal.items() if value is not None]
        if self.word is not None:
            found.append(_contains(table, self.word))
        if self.args is not None:
            found.append(_has_arguments(table, self.args))
        if self.without_tasks:
            found.append(table.c.task_name.not_in(only_possible(self.without_tasks)))
        if self.error is not None:
            found.append(_has_error(table, self.error))
        if self.ended_since is not None:
            found.append(table.c.finished_at >= _moment("ended_since", self.ended_since))
        if self.deferred_since is not None:
            found.append(deferred_at(table.c.id) >= _moment("deferred_since", self.deferred_since))
        return found


def _require_moment(name: str, text: str | None) -> None:
    """Refuse a time without a zone. Each session of the database, and each worker, would read it in its own zone.

    Raises
    ------
    ValueError
        The text is no time, or has no zone.
    """
    if text is None:
        return
    try:
        is_moment = datetime.datetime.fromisoformat(text).utcoffset() is not None
    except ValueError:
        is_moment = False
    if not is_moment:
        raise ValueError(f"{name}={text!r}: write a time with a time zone, such as 2030-01-01T12:00:00+00:00")


def _moment(name: str, text: str) -> sa.ColumnElement[Any]:
    return sa.cast(sa.bindparam(name, text, type_=sa.Text()), jobs.c.finished_at.type)


def _has_arguments(table: sa.FromClause, wanted: str) -> sa.ColumnElement[bool]:
    if not is_possible(wanted):
        return sa.false()
    text = sa.bindparam("args_text", wanted, type_=sa.Text())
    return sa.type_coerce(table.c.args, JSONB).contains(sa.cast(text, JSONB))


def _contains(table: sa.FromClause, word: str) -> sa.ColumnElement[bool]:
    if not is_possible(word):
        return sa.false()
    names = ("task_name", "queue_name", "lock", "queueing_lock")
    return sa.or_(*(table.c[name].contains(word, autoescape=True) for name in names))


def _has_error(table: sa.FromClause, name: str) -> sa.ColumnElement[bool]:
    if not is_possible(name):
        return sa.false()
    is_named = sa.or_(errors.c.exception_class == name, errors.c.exception_class.endswith(f".{name}", autoescape=True))
    named: Any = sa.select(sa.literal_column("1")).where(errors.c.job_id == table.c.id, is_named)
    # The offset keeps PostgreSQL from making a join of it, which would read the errors of all jobs.
    return sa.exists(named.offset(sa.literal_column("0")))


_SEARCHED = (
    jobs.c.id,
    jobs.c.queue_name,
    jobs.c.task_name,
    jobs.c.lock,
    jobs.c.queueing_lock,
    jobs.c.worker_id,
    jobs.c.args,
    jobs.c.finished_at,
)


@may_lag
@load
def list_jobs_page(
    connection: sa.Connection,
    now: datetime.datetime,
    search: JobSearch,
    *,
    limit: int = 50,
    after: tuple[str, ...] | None = None,
) -> JobsPage:
    """Return a page of jobs.

    Parameters
    ----------
    search:
        Which jobs.
    limit:
        The most jobs to return.
    after:
        The ``next_place`` of the page before.
    """
    walk = search.walk
    keys = [key.column.label(_key(number)) for number, key in enumerate(walk.keys)]
    rows = walk.select(*_SEARCHED, *keys).where(*search.indexed())
    if after is not None:
        rows = rows.where(walk.after(after))
    is_filtered = len(search.conditions(jobs)) > len(search.indexed())
    found = _page(connection, search, rows, limit + 1, is_filtered=is_filtered)
    if len(found) > limit:
        return _answer(now, found[:limit], _place(found[limit - 1], walk))
    last = _last_walked(connection, rows, walk) if is_filtered else None
    if last is None:
        return _answer(now, found, None)
    return _answer(now, found, _place(last, walk), REACH)


def _key(number: int) -> str:
    return f"key_{number}"


def _page(
    connection: sa.Connection, search: JobSearch, rows: sa.Select[Any], limit: int, *, is_filtered: bool
) -> list[Any]:
    """Return the first matching rows. What a row shows is read for these alone."""
    if is_filtered:
        walked = first_rows(rows, REACH, "walked")
        rows = sa.select(walked).where(*search.conditions(walked)).order_by(*_order(walked, search.walk))
    chosen = first_rows(rows, limit, "chosen")
    statement = (
        sa.select(*LISTED, *_keys_as_text(chosen, search.walk))
        .select_from(chosen.join(jobs, jobs.c.id == chosen.c.id))
        .order_by(*_order(chosen, search.walk))
    )
    return list(connection.execute(statement))


def _order(rows: sa.Subquery, walk: Walk) -> list[sa.ColumnElement[Any]]:
    columns = [(rows.c[_key(number)], key.descending) for number, key in enumerate(walk.keys)]
    return [column.desc() if descending else column.asc() for column, descending in columns]


def _keys_as_text(rows: sa.Subquery, walk: Walk) -> list[sa.ColumnElement[str]]:
    return [sa.cast(rows.c[_key(number)], sa.Text).label(_key(number)) for number in range(len(walk.keys))]


def _last_walked(connection: sa.Connection, rows: sa.Select[Any], walk: Walk) -> Any:
    """Return the last row that a filter examined, or ``None`` if it came to the end."""
    last = rows.offset(sa.literal_column(str(REACH - 1))).limit(sa.literal_column("1")).subquery("last")
    return connection.execute(sa.select(*_keys_as_text(last, walk))).first()


def _place(row: Any, walk: Walk) -> tuple[str, ...]:
    return tuple(row._mapping[_key(number)] for number in range(len(walk.keys)))


def _answer(
    now: datetime.datetime,
    rows: list[Any],
    next_place: tuple[str, ...] | None,
    searched: int | None = None,
) -> JobsPage:
    return JobsPage(now=now, jobs=tuple(map(listed_job, rows)), next_place=next_place, searched=searched)
