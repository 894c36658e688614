"""Change all jobs that match a search, in short steps that can be watched and cancelled.

An operation is a row. It has the search, the last id that existed at its start, and how far it has come. A step
examines a range of ids, or all jobs of a state that few jobs have, and changes some of them. It is one short
transaction. New jobs are out of its range.
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from procrastinate.core.arrays import array_param, write_array
from procrastinate.core.cancel import cancel_job
from procrastinate.core.defaults import LARGEST_ID
from procrastinate.core.errors import is_lock_timeout
from procrastinate.core.finish import retry_job_by_id
from procrastinate.core.inspection.bounds import Count, along_indexes, first_rows, load, moment, to_count
from procrastinate.core.inspection.listing import REACH, JobSearch
from procrastinate.core.job_states import JobState
from procrastinate.core.lock_timeouts import wait_briefly
from procrastinate.core.open_operations import IS_NOT_OVER, KINDS, NOT_OVER
from procrastinate.core.operation_marks import atomic
from procrastinate.core.refusals import InParts
from procrastinate.core.steering import delete_ended_job
from procrastinate.core.tables import jobs, operations

CHANGED_AT_ONCE = 200
"""Maximum number of jobs that a step changes."""
_COUNTED = 10_000
_SHOWN = 100
_HELD = "another session has locked its row"
_LONGEST_ERROR = 1000

_CHANGES: dict[str, Callable[[sa.Connection, int], bool]] = {
    "retry": functools.partial(retry_job_by_id, spare_running=True),
    "cancel": cancel_job,
    "abort": functools.partial(cancel_job, abort=True),
    "delete": delete_ended_job,
}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class BulkOperation:
    """An operation on many jobs.

    ``state`` is ``pending``, ``running``, ``done`` or ``cancelled``. ``changed`` jobs were changed, and ``skipped``
    jobs matched and could not be changed. ``error`` says why the database refused the last of them, if it refused any.
    ``part`` is the part of the ids that was examined, from 0 to 1.
    """

    id: int
    kind: str
    search: JobSearch
    requested_by: str | None
    state: str
    expected: int | None
    changed: int
    skipped: int
    error: str | None
    part: float
    created_at: datetime.datetime | None
    finished_at: datetime.datetime | None

    @property
    def is_over(self) -> bool:
        """True if no step follows."""
        return self.state not in NOT_OVER


def _matches(search: JobSearch) -> sa.ColumnElement[bool]:
    state = search.walk.conditions if search.state is not None else ()
    return sa.and_(sa.true(), *state, *search.conditions(jobs))


@load
def count_matching_jobs(connection: sa.Connection, now: datetime.datetime, search: JobSearch) -> Count:
    """Count the jobs that match, up to 10,000. A search without an index looks at the first 20,000 of its state."""
    walk = search.walk
    rows = walk.select(jobs.c.id, _matches(search).label("matches")).where(*search.indexed())
    is_filtered = len(search.conditions(jobs)) > len(search.indexed())
    looked_at = first_rows(rows, REACH + 1 if is_filtered else _COUNTED + 1, "looked_at")
    counts: Any = sa.select(
        sa.func.count().filter(looked_at.c.matches).label("matching"), sa.func.count().label("total")
    )
    row = connection.execute(counts).one()
    if is_filtered:
        return Count(number=min(row.matching, REACH), is_more=row.total > REACH)
    return to_count(row.matching, _COUNTED)


_LAST_ID = sa.select(sa.func.coalesce(sa.func.max(jobs.c.id), 0)).scalar_subquery()
_LOWEST_ID = sa.func.least(sa.func.coalesce(sa.func.min(jobs.c.id), 1), 1)
# Only plain SQL stores ids below 1.
_BEFORE_FIRST_ID = sa.select(sa.func.greatest(_LOWEST_ID, sa.literal_column(str(1 - LARGEST_ID))) - 1).scalar_subquery()


def start_bulk_operation(
    connection: sa.Connection,
    kind: str,
    search: JobSearch,
    *,
    requested_by: str | None = None,
    expected: int | None = None,
) -> int:
    """Store an operation on all jobs that match now, and return its id. :func:`step_bulk_operation` does the work.

    Parameters
    ----------
    kind:
        ``retry``, ``cancel``, ``abort`` or ``delete``.
    expected:
        The number of jobs that the visitor was shown.

    Raises
    ------
    ValueError
        There is no such kind, or the search has no state: an operation must not walk over other jobs.
    """
    if kind not in KINDS or search.state is None:
        raise ValueError(f"A bulk operation needs a state, and one of the kinds {', '.join(KINDS)}")
    statement = (
        sa.insert(operations)
        .values(
            kind=kind,
            filter=sa.cast(sa.bindparam("search", _to_json(search), type_=sa.Text()), operations.c.filter.type),
            requested_by=requested_by,
            expected=expected,
            reached_id=_BEFORE_FIRST_ID,
            last_id=_LAST_ID,
        )
        .returning(operations.c.id)
    )
    operation_id: int = connection.execute(statement).scalar_one()
    return operation_id


@atomic
def step_bulk_operation(connection: sa.Connection, operation_id: int) -> bool:
    """Examine the next ids of an operation and change the jobs that match.

    A job that the database refuses to change is skipped, and so is one whose row another transaction keeps locked.

    Returns
    -------
    True if another step follows. False if the operation is over, does not exist, is at work in another session, or has
    a kind or a search that this release cannot read.
    """
    claimed = connection.execute(
        sa.select(operations.c.kind, sa.cast(operations.c.filter, sa.Text).label("search"), *_PROGRESS)
        .where(operations.c.id == operation_id, IS_NOT_OVER)
        .with_for_update(skip_locked=True)
    ).one_or_none()
    if claimed is None:
        return False
    change, search = _CHANGES.get(claimed.kind), _from_json(claimed.search)
    if change is None or search is None:
        return False
    last_id = claimed.last_id or 0  # plain SQL may leave out both ids
    with along_indexes(connection):
        ids, reached = _next_jobs(connection, search, claimed.reached_id or 0, last_id)
    free = _lock(connection, ids, to_delete=claimed.kind == "delete") if ids else []
    changer = InParts(connection)
    changer.refused.update(dict.fromkeys(sorted(set(ids) - set(free)), _HELD))
    changed = sum(changer.change(free, lambda some: [change(connection, job_id) for job_id in some]))
    is_last = reached >= last_id
    values: dict[str, Any] = {
        "state": "done" if is_last else "running",
        "done": operations.c.done + changed,
        "skipped": operations.c.skipped + len(ids) - changed,
        "reached_id": reached,
        "error": _last_error(changer.refused),
        "started_at": sa.func.coalesce(operations.c.started_at, sa.func.now()),
        "finished_at": sa.func.now() if is_last else None,
    }
    connection.execute(sa.update(operations).where(operations.c.id == operation_id).values(values))
    return not is_last


def _last_error(refused: Mapping[int, str]) -> Any:
    if not refused:
        return operations.c.error
    job_id, reason = list(refused.items())[-1]
    return f"job {job_id}: {reason[:_LONGEST_ERROR]}"


_PROGRESS = (operations.c.reached_id, operations.c.last_id)


def _next_jobs(connection: sa.Connection, search: JobSearch, reached: int, last: int) -> tuple[list[int], int]:
    """Return the next jobs that match, and the id up to which all ids are examined then.

    If many of the next ids match, a short look is enough. Otherwise the index of the state may show all jobs that are
    left, and no other job is read.
    """
    ids = _matching_soon(connection, search, reached, last)
    if len(ids) < CHANGED_AT_ONCE:
        ids, last = _matching_of_small_state(connection, search, reached, last) or _matching_of_range(
            connection, search, reached, last
        )
    return ids, ids[-1] if len(ids) == CHANGED_AT_ONCE else last


def _matching_soon(connection: sa.Connection, search: JobSearch, reached: int, last: int) -> list[int]:
    """Return the jobs that match among the next ids, a tenth of those that a step examines."""
    rows = _after(reached, last, jobs.c.id, _matches(search).label("matches"))
    examined = first_rows(rows, REACH // 10, "examined")
    return list(connection.execute(_first(examined.c.id, examined.c.matches)).scalars())


def _matching_of_range(connection: sa.Connection, search: JobSearch, reached: int, last: int) -> tuple[list[int], int]:
    """Return the jobs that match among the ids that a step examines, and the end of these ids.

    One statement finds both. Other sessions delete jobs between two, and an end that is read later would pass over jobs
    that were not examined.
    """
    rows = _after(reached, last, jobs.c.id, _matches(search).label("matches"))
    examined = rows.limit(sa.literal_column(str(REACH))).cte("examined")
    facts = sa.select(sa.func.max(examined.c.id).label("end"), sa.func.count().label("total"))
    found = _with_facts(connection, facts, _first(examined.c.id, examined.c.matches))
    return found.ids, last if found.total < REACH else found.end


def _matching_of_small_state(
    connection: sa.Connection, search: JobSearch, reached: int, last: int
) -> tuple[list[int], int] | None:
    """Return all jobs of the state that match, and the last id. ``None`` if the state has too many jobs for one look.

    One statement counts and chooses, because the state can grow between two.
    """
    walked = search.walk.select(jobs.c.id).where(*search.indexed())
    of_state = walked.limit(sa.literal_column(str(REACH + 1))).cte("of_state")
    facts = sa.select(sa.func.max(of_state.c.id).label("end"), sa.func.count().label("total"))
    is_small = sa.select(sa.func.count()).select_from(of_state).scalar_subquery() <= REACH
    is_left = sa.and_(is_small, of_state.c.id > reached, of_state.c.id <= last)
    # The offset keeps PostgreSQL from a join, which would read the ids of all jobs in their order.
    row = sa.select(jobs.c.id).where(jobs.c.id == of_state.c.id, *search.conditions(jobs))
    matching = of_state.join(row.offset(sa.literal_column("0")).lateral("matching"), sa.true())
    found = _with_facts(connection, facts, _first(of_state.c.id, is_left).select_from(matching))
    return None if found.total > REACH else (found.ids, last)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Found:
    ids: list[int]
    end: int
    total: int


def _with_facts(connection: sa.Connection, facts: Any, chosen: sa.Select[Any]) -> _Found:
    """Return the chosen ids together with facts on the rows that they come from."""
    known, ids = facts.subquery("known"), chosen.subquery("chosen")
    both = sa.select(known, ids.c.id).select_from(known.outerjoin(ids, sa.true())).order_by(ids.c.id)
    rows = connection.execute(both).all()
    return _Found(ids=[row.id for row in rows if row.id is not None], end=rows[0].end, total=rows[0].total)


def _first(column: sa.ColumnElement[int], *conditions: sa.ColumnElement[bool]) -> sa.Select[Any]:
    return sa.select(column).where(*conditions).order_by(column).limit(sa.literal_column(str(CHANGED_AT_ONCE)))


def _after(reached: int, last: int, *columns: sa.ColumnElement[Any]) -> sa.Select[Any]:
    return sa.select(*columns).where(jobs.c.id > reached, jobs.c.id <= last).order_by(jobs.c.id)


def _lock(connection: sa.Connection, ids: Sequence[int], *, to_delete: bool) -> list[int]:
    """Lock the rows of these jobs, and return the ids of those that no open transaction of another session holds.

    The rest of the step waits briefly, too: for a queueing lock, for example.
    """
    rows = sa.select(jobs.c.id).where(jobs.c.id == sa.any_(array_param("ids", sa.BigInteger()))).order_by(jobs.c.id)
    parameters = {"ids": write_array(ids, sa.BigInteger())}
    wait_briefly(connection)
    try:
        with connection.begin_nested():
            return list(connection.execute(rows.with_for_update(key_share=not to_delete), parameters).scalars())
    except Exception as error:  # Django raises errors of its own
        if not is_lock_timeout(error):
            raise
    free = rows.with_for_update(key_share=not to_delete, skip_locked=True)
    return list(connection.execute(free, parameters).scalars())


def cancel_bulk_operation(connection: sa.Connection, operation_id: int) -> bool:
    """Stop an operation before its next step, and return true if it was not over. Changed jobs stay changed."""
    statement = (
        sa.update(operations)
        .where(operations.c.id == operation_id, IS_NOT_OVER)
        .values(state="cancelled", finished_at=sa.func.now())
        .returning(operations.c.id)
    )
    return connection.execute(statement).scalar_one_or_none() is not None


_COLUMNS = (
    operations.c.id,
    operations.c.kind,
    sa.cast(operations.c.filter, sa.Text).label("search"),
    operations.c.requested_by,
    operations.c.state,
    operations.c.expected,
    operations.c.done.label("changed"),
    operations.c.skipped,
    operations.c.error,
    *_PROGRESS,
    moment(operations.c.created_at).label("created_at"),
    moment(operations.c.finished_at).label("finished_at"),
)


@load
def load_bulk_operations(
    connection: sa.Connection, now: datetime.datetime, operation_id: int | None = None
) -> list[BulkOperation]:
    """Return the newest hundred operations, or the one with this id.

    An operation whose search this release cannot read is left out. A later release or plain SQL has stored it.
    """
    statement: Any = sa.select(*_COLUMNS).where(operations.c.kind.in_(KINDS)).order_by(operations.c.id.desc())
    if operation_id is not None:
        statement = statement.where(operations.c.id == operation_id)
    rows = connection.execute(statement.limit(sa.literal_column(str(_SHOWN))))
    return [_operation(row, search) for row in rows if (search := _from_json(row.search)) is not None]


def _operation(row: Any, search: JobSearch) -> BulkOperation:
    values = dict(row._mapping)
    reached, last = values.pop("reached_id") or 0, values.pop("last_id") or 0
    part = 1.0 if row.state == "done" or not last else max(0.0, min(reached / last, 1.0))
    return BulkOperation(**values | {"search": search, "part": part})


def _to_json(search: JobSearch) -> str:
    """Return a search as text. Only what leaves a criterion out is left out: zero and an empty text are values."""
    return json.dumps({name: value for name, value in dataclasses.asdict(search).items() if value not in (None, ())})


def _from_json(text: str) -> JobSearch | None:
    """Return a stored search, or ``None`` if it is not one that :func:`_to_json` writes."""
    try:
        values = json.loads(text)
        if any(not isinstance(value, _TYPES.get(name, str)) for name, value in values.items()):
            return None
        if not all(isinstance(name, str) for name in values.get("without_tasks", ())):
            return None
        state = JobState(values.pop("state"))
        return JobSearch(**values | {"state": state, "without_tasks": tuple(values.get("without_tasks", ()))})
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError):
        return None


_TYPES: dict[str, type] = {"worker_id": int, "without_tasks": list}
