"""What is left to do after a limit was lowered: jobs that have a slot too many get back in line.

Admissions look at a limit while no session changes it. So the session that changes it sees all that they have given
away by the former numbers, and no other job gets a slot before its transaction ends.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sa

from procrastinate.core.arrays import array_param, is_not_set_aside, is_one_of
from procrastinate.core.errors import is_row_refused
from procrastinate.core.limit_locks import limit_taken
from procrastinate.core.lines import Held, read_all_held
from procrastinate.core.rates import read_room_of_all, read_rooms
from procrastinate.core.share import LimitTerms, Unclaimed, excess
from procrastinate.core.tables import IN_LINE, PROMOTED, TODO, holds_slot, jobs, weight_of
from procrastinate.core.turns import within_capacity

_NAME = sa.bindparam("name", type_=sa.Text())
_TAKE_LIMIT = sa.select(limit_taken(_NAME))
_IS_READ_COMMITTED = sa.select(sa.func.current_setting("transaction_isolation") == "read committed")
_IS_UNCLAIMED = (holds_slot(), jobs.c.status == TODO, jobs.c.readiness == PROMOTED)
_READ_UNCLAIMED = (
    sa.select(jobs.c.id, jobs.c.limit_key.label("key"), weight_of().label("weight"))
    .where(*_IS_UNCLAIMED, jobs.c.limit_name == _NAME, is_not_set_aside(jobs.c.id))
    .order_by(jobs.c.priority.desc(), jobs.c.id)
)


def _take_back() -> Any:
    """Put jobs back in line. One that a worker claims at this moment is passed over."""
    ids = sa.select(jobs.c.id).where(jobs.c.id == sa.any_(array_param("ids", sa.BigInteger())))
    unclaimed = ids.where(*_IS_UNCLAIMED, jobs.c.limit_name == _NAME).with_for_update(key_share=True, skip_locked=True)
    return (
        sa.update(jobs)
        .where(is_one_of(jobs.c.id, unclaimed))
        .values(readiness=IN_LINE, scheduled_at=sa.func.coalesce(jobs.c.scheduled_at, sa.func.now()))
        .returning(jobs.c.id)
    )


_TAKE_BACK = _take_back()


def wait_for_admissions(connection: sa.Connection, names: Collection[str]) -> None:
    """Wait for the admissions that know the former numbers of limits, and let no other look at these limits.

    Admissions of a release that does not know these locks are not waited for. The next admission of a key in line takes
    back what they give away.
    """
    for name in sorted(names):
        connection.execute(_TAKE_LIMIT, {"name": name})


def take_slots_back(connection: sa.Connection, name: str, terms: LimitTerms) -> int:
    """Put the last of the unclaimed jobs of a limit back in line, until no more have slots than its numbers allow.

    A job that a worker claims at this moment counts as one that has started. A transaction that is not READ COMMITTED
    changes no job, since it would fail if a worker had claimed one of them since its first statement. If the database
    refuses to change one of the jobs, all keep their slots.

    Returns
    -------
    The number of jobs that are in line again.
    """
    number = 0
    passed_over: set[int] = set()
    while surplus := _find_excess(connection, name, terms, passed_over):
        if not connection.execute(_IS_READ_COMMITTED).scalar_one():
            return 0
        moved = _move(connection, name, surplus)
        if moved is None:
            return number
        number += len(moved)
        passed_over.update(set(surplus) - moved)
        if len(moved) == len(surplus):
            return number
    return number


def _move(connection: sa.Connection, name: str, ids: Sequence[int]) -> set[int] | None:
    try:
        with connection.begin_nested():
            return set(connection.execute(_TAKE_BACK, {"name": name, "ids": list(ids)}).scalars())
    except sa.exc.DBAPIError as error:
        if not is_row_refused(error):
            raise
        return None


def _find_excess(
    connection: sa.Connection, name: str, terms: LimitTerms, passed_over: Collection[int]
) -> Sequence[int]:
    """Return the ids of the jobs that have a slot too many.

    The unclaimed jobs are read first. If a worker claims one of them before the next statement, both count it once.
    """
    rows = connection.execute(_READ_UNCLAIMED, {"name": name, "set_aside": sorted(passed_over)}).all()
    unclaimed = [Unclaimed(row.id, row.key, row.weight) for row in rows]
    if not unclaimed or terms == LimitTerms():
        return [one.id for one in unclaimed]
    own: Counter[str] = Counter()
    for one in unclaimed:
        own[one.key] += one.weight
    held = read_all_held(connection, name)
    terms = within_capacity(connection, terms, held.queues)
    of_all = read_room_of_all(connection, name, terms.total_rates)
    room_in_all = sys.maxsize if terms.total is None else terms.total - held.slots
    if of_all is not None:
        room_in_all = min(room_in_all, of_all.free)
    return excess(
        unclaimed,
        _rooms(connection, name, terms, held, own),
        room_in_all=room_in_all + own.total(),
        jobs_in_all=held.jobs_left(terms) + len(unclaimed),
        heaviest=terms.heaviest,
    )


def _rooms(connection: sa.Connection, name: str, terms: LimitTerms, held: Held, own: Counter[str]) -> dict[str, int]:
    """Return the slots that the unclaimed jobs of each key may keep."""
    taken = held.by_key or {}
    by_rates = read_rooms(connection, name, dict.fromkeys(own, 1), terms.rates)
    rooms = {}
    for key, slots in own.items():
        left = sys.maxsize if terms.concurrency is None else terms.concurrency - taken.get(key, 0)
        rooms[key] = slots + (min(left, by_rates[key].free) if by_rates else left)
    return rooms
