"""The operation that takes ready jobs for a worker."""

from __future__ import annotations

import datetime
import functools
from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa

from procrastinate.core.arguments import LISTED_ARGUMENTS, SMALL_ARGUMENTS, shown
from procrastinate.core.arrays import array_param, each_of, is_not_set_aside, is_one_of, write_array
from procrastinate.core.defaults import LARGEST_ID
from procrastinate.core.enums import Status
from procrastinate.core.operation_marks import finds_first_row_of, prepared
from procrastinate.core.rows import Rank, StoredJob
from procrastinate.core.tables import (
    DOING,
    UNDECIDED,
    is_ready,
    is_ready_in_any_queue,
    jobs,
    workers,
)
from procrastinate.core.together import Call


def microseconds(time: sa.ColumnElement[Any]) -> sa.ColumnElement[int | None]:
    """Turn a time into a number. Drivers refuse what Python's datetime does not reach (infinity, the year 10,000 east
    of UTC), and one such row would spoil the answer for all others of its statement.
    """
    # The last months that PostgreSQL knows, in the year 294,276, exceed a bigint.
    number = sa.func.least(sa.extract("epoch", time) * 1_000_000, sa.literal(LARGEST_ID, sa.BigInteger()))
    return sa.case((sa.func.isfinite(time), sa.cast(number, sa.BigInteger)))


_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_LATEST = datetime.datetime.max.replace(tzinfo=datetime.UTC)


LARGEST_EXTRA = 16_384
"""Maximum size in memory, in bytes, of a description that is read. Only other clients store a larger one."""


_LONGEST_STEP: sa.ColumnElement[int] = sa.literal_column("200", sa.Integer())
"""Maximum length in characters of the name of a step. Other clients store longer ones, which would fill the memory."""


_DUE = microseconds(jobs.c.scheduled_at)
_LISTED_DUE = sa.case(
    (jobs.c.scheduled_at == sa.literal_column("'infinity'::timestamptz"), sa.literal(LARGEST_ID, sa.BigInteger())),
    else_=_DUE,
)
"""For a list. A job that is never due has the latest time. Without a time, a copy of the job is due at once."""


def _stored_columns(
    arguments: sa.ColumnElement[Any], due: sa.ColumnElement[int | None]
) -> tuple[sa.ColumnElement[Any], ...]:
    """Return a row as :class:`~procrastinate.core.rows.StoredJob` has it."""
    return (
        jobs.c.id,
        jobs.c.status,
        jobs.c.queue_name,
        jobs.c.task_name,
        jobs.c.priority,
        jobs.c.lock,
        jobs.c.queueing_lock,
        arguments.label("args"),
        due.label("scheduled_at"),
        jobs.c.attempts,
        jobs.c.abort_requested,
        jobs.c.worker_id,
        jobs.c.workflow_id,
        sa.func.left(jobs.c.step, _LONGEST_STEP).label("step"),
        shown(jobs.c.meta, LARGEST_EXTRA).label("meta"),
        shown(jobs.c.trace_context, LARGEST_EXTRA).label("trace_context"),
    )


STORED_COLUMNS = _stored_columns(LISTED_ARGUMENTS, _LISTED_DUE)
# A subquery, so that a statement reads the clock once. The snapshot may be much later than now(), and never later than
# this clock: each job of the fetch was deferred before that time.
_CLAIMED_AT = sa.select(microseconds(sa.func.clock_timestamp())).scalar_subquery().label("claimed_at")
_FETCHED_COLUMNS = (*_stored_columns(SMALL_ARGUMENTS, _DUE), jobs.c.limit_name, _CLAIMED_AT)


_STATUSES = {one.value: one for one in Status}


def stored_job(row: sa.Row[Any]) -> StoredJob:
    """Return the record of a row of :data:`STORED_COLUMNS`, or of a fetch, which adds the limit and the time."""
    values: tuple[Any, ...] = tuple(row)
    job_id, status, queue_name, task_name, priority, lock, queueing_lock, args, scheduled_at, *rest = values
    attempts, abort_requested, worker_id, workflow_id, step, meta, trace_context, *of_fetch = rest
    limit_name, claimed_at = of_fetch or (None, None)
    return StoredJob(
        id=job_id,
        status=_STATUSES[status],
        queue_name=queue_name,
        task_name=task_name,
        priority=priority,
        lock=lock,
        queueing_lock=queueing_lock,
        args=args,
        scheduled_at=None if scheduled_at is None else from_microseconds(scheduled_at),
        attempts=attempts,
        abort_requested=abort_requested,
        worker_id=worker_id,
        workflow_id=workflow_id,
        step=step,
        meta=meta,
        trace_context=trace_context,
        limit_name=limit_name,
        claimed_at=claimed_at,
    )


def from_microseconds(value: int | None) -> datetime.datetime | None:
    """Return the time of such a number; the latest that there is, for one that is later."""
    if value is None:
        return None
    try:
        return _EPOCH + datetime.timedelta(microseconds=value)
    except OverflowError:
        return _LATEST if value > 0 else None


def _ready_ids(table: sa.FromClause, condition: sa.ColumnElement[bool]) -> sa.Select[Any]:
    return sa.select(table.c.id).where(condition).order_by(table.c.priority.desc(), table.c.id)


_LIMIT = sa.bindparam("limit", type_=sa.Integer())


_IN_ONE_QUEUE = is_ready() & (jobs.c.queue_name == sa.bindparam("queue", type_=sa.Text()))


def _from_the_start(condition: sa.ColumnElement[bool]) -> sa.Select[Any]:
    return _ready_ids(jobs, condition).limit(_LIMIT).with_for_update(skip_locked=True)


def _from_a_place(condition: sa.ColumnElement[bool]) -> sa.Select[Any]:
    """Select jobs of a higher priority, and then those of the same one that come later.

    Each is one range of the index, which the place begins, so what was fetched before is not walked over.
    """
    priority = sa.bindparam("after_priority", type_=sa.Integer())
    comes_later = (jobs.c.priority == priority) & (jobs.c.id > sa.bindparam("after_id", type_=sa.BigInteger()))
    higher = _from_the_start(condition & (jobs.c.priority > priority)).cte("higher")
    rest = _LIMIT - sa.select(sa.func.count()).select_from(higher).scalar_subquery()
    later = _ready_ids(jobs, condition & comes_later).limit(rest).with_for_update(skip_locked=True).cte("later")
    both = sa.union_all(sa.select(higher.c.id), sa.select(later.c.id)).subquery("both")
    return sa.select(both.c.id)


def _from_queues(queue: sa.FromClause, *, sets_aside: bool = False) -> sa.Select[Any]:
    """Merge one ordered scan per queue, then lock in the order of the merge.

    The scans lock nothing: they would lock the limit in each queue. So that two workers that see the same
    candidates both find work, each looks at four times what it takes.
    """
    candidate = jobs.alias("candidate")
    of_queue = candidate.c.queue_name == queue.c.name
    condition = is_ready(candidate) & of_queue
    if sets_aside:
        condition &= is_not_set_aside(candidate.c.id)
    first = _ready_ids(candidate, condition).limit(_LIMIT * 4)
    scan = first.add_columns(candidate.c.priority).lateral("scan")
    merged = (
        sa.select(scan.c.id)
        .select_from(queue.join(scan, sa.true()))
        .order_by(scan.c.priority.desc(), scan.c.id)
        .limit(_LIMIT * 4)
    )
    found = is_one_of(jobs.c.id, merged) & _is_still_ready()
    return _ready_ids(jobs, found).limit(_LIMIT).with_for_update(skip_locked=True)


def ready_queue_names() -> sa.CTE:
    """Return the names of the queues with ready jobs, and a NULL at the end.

    One probe of the index finds the next name, however many jobs a queue has.
    """
    first = jobs.alias("first_ready")
    names = sa.select(
        sa.select(sa.func.min(first.c.queue_name)).where(is_ready(first)).scalar_subquery().label("name")
    ).cte("names", recursive=True)
    further = jobs.alias("further_ready")
    following = (
        sa.select(sa.func.min(further.c.queue_name))
        .where(is_ready(further), further.c.queue_name > names.c.name)
        .scalar_subquery()
    )
    return names.union_all(sa.select(following).where(names.c.name.is_not(None)))


def _open_queues() -> sa.CTE:
    """Return the names of the queues with ready jobs that are not paused."""
    names = ready_queue_names()
    return (
        sa.select(names.c.name)
        .where(names.c.name.is_not(None), names.c.name != sa.all_(array_param("paused", sa.Text())))
        .cte("queue")
    )


def _is_still_ready() -> sa.ColumnElement[bool]:
    """Return the condition of :func:`is_ready` in a form that no index has as its predicate.

    PostgreSQL then looks ids up by the primary key. On a table that was never analysed, PostgreSQL 14 read all ready
    jobs of all queues instead.
    """
    return sa.func.coalesce(is_ready(), sa.false())


def _fetch_statement(ready: sa.Select[Any]) -> Any:
    worker_id = sa.bindparam("worker", type_=sa.BigInteger())
    known = sa.select(workers.c.id).where(workers.c.id == worker_id).scalar_subquery()
    return (
        sa.update(jobs)
        .where(is_one_of(jobs.c.id, ready.where(known.is_not(None))))
        # A job that runs has no readiness. Plain SQL that sends it back to wait leaves it undecided, as it must be.
        .values(status=DOING, worker_id=worker_id, readiness=UNDECIDED)
        .returning(*_FETCHED_COLUMNS)
    )


_IN_PLAY = is_not_set_aside(jobs.c.id)


def _ready(*, sets_aside: bool) -> dict[tuple[str, str], sa.Select[Any]]:
    """Return the queries for the ids to fetch, by the number of queues and where the fetch begins."""
    of_all, of_one = is_ready_in_any_queue(), _IN_ONE_QUEUE
    if sets_aside:
        of_all, of_one = of_all & _IN_PLAY, of_one & _IN_PLAY
    named = each_of("queues", sa.Text(), "name", name="queue")
    return {
        ("all", "start"): _from_the_start(of_all),
        ("all", "place"): _from_a_place(of_all),
        ("one", "start"): _from_the_start(of_one),
        ("one", "place"): _from_a_place(of_one),
        ("many", "start"): _from_queues(named, sets_aside=sets_aside),
    }


_STATEMENTS = {key: prepared(_fetch_statement(ready)) for key, ready in _ready(sets_aside=False).items()}


# Rows that the database refuses to change are rare, and so are pauses. Without any, fetches keep their plans.
@functools.cache
def _ready_but_some() -> dict[tuple[str, str], sa.Select[Any]]:
    return {**_ready(sets_aside=True), ("open", "start"): _from_queues(_open_queues(), sets_aside=True)}


@functools.cache
def _fetch_but_some(choice: tuple[str, str]) -> Any:
    return _fetch_statement(_ready_but_some()[choice])


def _ready_of_tasks(queues: Sequence[str] | None, task_names: Sequence[str]) -> sa.Select[Any]:
    chosen = sa.and_(is_ready(), jobs.c.task_name.in_(task_names), _IN_PLAY)
    if queues is not None:
        chosen = sa.and_(chosen, jobs.c.queue_name.in_(queues))
    return _ready_ids(jobs, chosen).limit(_LIMIT).with_for_update(skip_locked=True)


def _choice(
    queues: Sequence[str] | None, after: Rank | None, paused: Sequence[str]
) -> tuple[tuple[str, str], dict[str, Any]]:
    """Return which statement fetches from these queues, and its parameters."""
    if paused and queues is None:
        return ("open", "start"), {"paused": write_array(paused, sa.Text())}
    if paused and queues is not None:
        queues = [queue for queue in queues if queue not in paused]
    if queues is not None and len(queues) != 1:
        return ("many", "start"), {"queues": write_array(list(dict.fromkeys(queues)), sa.Text())}
    parameters: dict[str, Any] = {} if queues is None else {"queue": queues[0]}
    if after is not None:
        parameters |= {"after_priority": after.priority, "after_id": after.id}
    return ("all" if queues is None else "one", "start" if after is None else "place"), parameters


def claim(*, worker_id: int, limit: int, queues: Sequence[str] | None, after: Rank | None) -> Call:
    """Return the statement of a fetch while no queue is paused and no job is set aside."""
    choice, parameters = _choice(queues, after, ())
    return Call(_STATEMENTS[choice], parameters | {"worker": worker_id, "limit": limit})


def in_order(rows: Iterable[sa.Row[Any]]) -> list[StoredJob]:
    """Return the jobs of a fetch in the order in which they should start."""
    return sorted((stored_job(row) for row in rows), key=lambda job: (-job.priority, job.id))


def fetch_jobs(
    connection: sa.Connection,
    *,
    worker_id: int,
    limit: int,
    queues: Sequence[str] | None = None,
    task_names: Sequence[str] | None = None,
    after: Rank | None = None,
    set_aside: Sequence[int] = (),
    paused: Sequence[str] = (),
) -> list[StoredJob]:
    """Take up to ``limit`` ready jobs for a worker, in one statement, in the order in which they should start.

    Jobs that wait (for their time, or behind their lock) are not in the index that this reads, and cost nothing.
    Arguments that are not small are left out: :func:`~procrastinate.core.arguments.read_arguments` reads them.

    Parameters
    ----------
    worker_id:
        As :func:`~procrastinate.core.heartbeats.register_worker` gave it. A worker that is not registered
        (any more) gets nothing.
    queues:
        Names of queues; ``None`` for all of them.
    task_names:
        Only the jobs of these tasks, for tests: it reads past all others.
    after:
        Where the last fetch ended. Ready jobs of the same priority or a lower one that come before it are left for
        a fetch without this, and so may be jobs of a lower priority. From several queues it has no effect.
    set_aside:
        Ids of jobs to pass over.
    paused:
        Queues of which no job is claimed. However long they are, they cost nothing.
    """
    choice, parameters = _choice(queues, after, paused)
    parameters |= {"worker": worker_id, "limit": limit}
    if task_names is None and not set_aside and choice in _STATEMENTS:
        statement = _STATEMENTS[choice]
    else:
        parameters["set_aside"] = list(set_aside)
        statement = (
            _fetch_but_some(choice) if task_names is None else _fetch_statement(_ready_of_tasks(queues, task_names))
        )
    return in_order(connection.execute(statement, parameters))


@finds_first_row_of(fetch_jobs)
def first_ready_job(
    connection: sa.Connection,
    *,
    queues: Sequence[str] | None = None,
    task_names: Sequence[str] | None = None,
    after: Rank | None = None,
    set_aside: Sequence[int] = (),
    paused: Sequence[str] = (),
) -> int | None:
    """Return the id of the job that a fetch with these arguments would take first, or ``None``."""
    choice, parameters = _choice(queues, after, paused)
    ready = _ready_but_some()[choice] if task_names is None else _ready_of_tasks(queues, task_names)
    return connection.execute(ready, parameters | {"limit": 1, "set_aside": list(set_aside)}).scalars().first()
