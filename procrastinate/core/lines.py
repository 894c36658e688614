"""The lines of a limit: the keys that have jobs in line, the slots that they have, and their next jobs."""

from __future__ import annotations

import dataclasses
import enum
import sys
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.types import TypeEngine

from procrastinate.core.arrays import array_param, is_not_set_aside, transpose, unnest
from procrastinate.core.rates import RateTerms, read_rooms
from procrastinate.core.share import KeyState, LimitTerms
from procrastinate.core.tables import holds_slot, is_in_line, jobs, slots_of, weight_of
from procrastinate.core.turns import read_last_turn

KEYS_AT_ONCE = 1000
"""How many keys of a limit one statement looks at, and one admission of a limit over all keys."""
_NAME = sa.bindparam("name", type_=sa.Text())
_HEAVIEST = sa.bindparam("heaviest", type_=sa.Integer())


def _count_held(name: sa.ColumnElement[Any], key: sa.ColumnElement[Any]) -> sa.ScalarSelect[int]:
    """Count the slots that are taken. The condition is that of the index, in full: the planner looks for it."""
    holder = jobs.alias("holder")
    held = holds_slot(holder), holder.c.limit_name == name, holder.c.limit_key == key
    return sa.select(slots_of(holder)).where(*held).scalar_subquery()


def head_of_line(
    *columns: Callable[[sa.FromClause], sa.ColumnElement[Any]],
    name: sa.ColumnElement[str],
    key: sa.ColumnElement[str],
    heaviest: sa.ColumnElement[int],
) -> sa.Select[Any]:
    """Return columns of the next job of a key. A job that is too heavy for the limit never starts and is passed over.

    Parameters
    ----------
    heaviest:
        The largest weight that a job may have. NULL means any weight.
    """
    head = jobs.alias("head")
    fits = sa.func.coalesce(weight_of(head) <= heaviest, sa.true())
    return (
        sa.select(*(column(head) for column in columns))
        .where(is_in_line(head), head.c.limit_name == name, head.c.limit_key == key, fits)
        .order_by(head.c.priority.desc(), head.c.id)
        .limit(1)
    )


def _next_of(where: Callable[[sa.FromClause], sa.ColumnElement[bool]]) -> Any:
    """Return the next job of the first key in line for which a condition holds.

    A job that is too heavy for the limit is passed over. Its weight does not matter if its queue is paused or no worker
    serves it. It leaves the line as soon as the key has a slot. ``served`` is NULL if workers serve all queues.
    """
    head = jobs.alias("head")
    is_shut = sa.or_(
        head.c.queue_name == sa.any_(array_param("paused", sa.Text())),
        head.c.queue_name != sa.all_(array_param("served", sa.Text())),
    )
    return (
        sa.select(
            head.c.limit_key.label("key"),
            head.c.priority,
            head.c.id,
            sa.cast(head.c.queue_name, sa.Text).label("queue_name"),
            sa.case((is_shut, 1), else_=weight_of(head)).label("weight"),
        )
        .where(
            is_in_line(head),
            head.c.limit_name == _NAME,
            where(head),
            weight_of(head) <= _HEAVIEST,
            is_not_set_aside(head.c.id),
        )
        .order_by(head.c.limit_key, head.c.priority.desc(), head.c.id)
        .limit(1)
    )


class _Part(enum.Enum):
    """Which keys of a limit are read. Each part is one range of the index of the line."""

    ALL = enum.auto()
    AFTER = enum.auto()
    UP_TO = enum.auto()

    def condition(self, table: sa.FromClause) -> sa.ColumnElement[bool]:
        """Return the condition "this job is of a key of the part"."""
        place = sa.bindparam("place", type_=sa.Text())
        if self is _Part.AFTER:
            return table.c.limit_key > place
        return table.c.limit_key <= place if self is _Part.UP_TO else sa.true()


def _read_line(part: _Part, *, counts: bool) -> sa.Select[Any]:
    """Walk from key to key through the index of the line, with one probe each, which finds the next job of the key.

    An old snapshot keeps the entries of jobs that have left the line. A second probe would come by all of them again.
    ``step`` is the place of a key in the order of the keys.

    Parameters
    ----------
    counts:
        Whether the slots of each key are counted.
    """
    first = _next_of(part.condition).subquery("first")
    start = sa.select(*first.c, sa.literal_column("1", type_=sa.Integer()).label("step"))
    walk = start.cte("walk", recursive=True)
    bound = part.condition if part is _Part.UP_TO else (lambda _: sa.true())
    then = _next_of(lambda table: sa.and_(table.c.limit_key > walk.c.key, bound(table))).lateral("then")
    walk = walk.union_all(
        sa.select(*then.c, walk.c.step + 1)
        .select_from(walk.join(then, sa.true()))
        .where(walk.c.step < sa.bindparam("limit", type_=sa.Integer()))
    )
    return sa.select(*walk.c, *([_count_held(_NAME, walk.c.key).label("held")] if counts else []))


def _read_keys(*, counts: bool) -> sa.Select[Any]:
    """Read the next jobs of those of some keys that have jobs in line."""
    some = sa.func.unnest(array_param("keys", sa.Text())).table_valued("key", name="some").render_derived()
    first = _next_of(lambda table: table.c.limit_key == some.c.key).lateral("first")
    held = [_count_held(_NAME, some.c.key).label("held")] if counts else []
    return sa.select(*first.c, *held).select_from(some.join(first, sa.true()))


_READ_LINE = {(part, counts): _read_line(part, counts=counts) for part in _Part for counts in (False, True)}
_READ_KEYS = {counts: _read_keys(counts=counts) for counts in (False, True)}

_of_all = jobs.alias("holder")
# The condition is that of the index, in full: the planner looks for it.
_READ_HELD = (
    sa.select(
        _of_all.c.limit_key.label("key"),
        sa.cast(_of_all.c.queue_name, sa.Text).label("queue"),
        sa.func.count().label("jobs"),
        slots_of(_of_all).label("slots"),
    )
    .where(holds_slot(_of_all), _of_all.c.limit_name == _NAME)
    .group_by(_of_all.c.limit_key, _of_all.c.queue_name)
)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Held:
    """The number of jobs of all keys that have slots, of these slots, and the queues of these jobs.

    ``by_key`` has the slots of each key. It is ``None``, and the numbers are 0, if nothing limits those of all keys.
    """

    jobs: int = 0
    slots: int = 0
    by_key: Mapping[str, int] | None = None
    queues: frozenset[str] = frozenset()

    def jobs_left(self, terms: LimitTerms) -> int:
        """Return how many more jobs may get slots, whatever their weights."""
        return sys.maxsize if terms.capacity is None else terms.capacity - self.jobs


def read_held(connection: sa.Connection, name: str, terms: LimitTerms) -> Held:
    """Count what the jobs of all keys have, if it matters.

    One look counts for all keys. An old snapshot keeps the entries of jobs that had slots, so each look is dear.
    """
    return Held() if terms.total is None and not terms.is_fair else read_all_held(connection, name)


def read_all_held(connection: sa.Connection, name: str) -> Held:
    """Count what the jobs of all keys have."""
    rows = connection.execute(_READ_HELD, {"name": name}).all()
    by_key: Counter[str] = Counter()
    for row in rows:
        by_key[row.key] += row.slots
    return Held(
        jobs=sum(row.jobs for row in rows),
        slots=by_key.total(),
        by_key=by_key,
        queues=frozenset(row.queue for row in rows),
    )


def _heads() -> Any:
    """Lock the first jobs in line of each key. A row that another session has locked is passed over.

    The first one was read before. What comes after it is in two ranges of the index, so that what has left the line
    before it is not walked over again. A third range has jobs whose priority was raised since. PostgreSQL appends the
    ranges in their order.
    """
    columns: dict[str, TypeEngine[Any]] = {
        "key": sa.Text(),
        "number": sa.Integer(),
        "priority": sa.Integer(),
        "id": sa.BigInteger(),
    }
    share = unnest(columns, name="share")

    def waiting(name: str, is_in_range: Callable[[sa.FromClause], sa.ColumnElement[bool]]) -> Any:
        table = jobs.alias(name)
        locked = (
            sa.select(table.c.id, table.c.lock, table.c.priority, table.c.queue_name, weight_of(table).label("weight"))
            .where(
                is_in_line(table),
                table.c.limit_name == _NAME,
                table.c.limit_key == share.c.key,
                is_in_range(table),
                weight_of(table) <= _HEAVIEST,
                is_not_set_aside(table.c.id),
            )
            .order_by(table.c.priority.desc(), table.c.id)
            .limit(share.c.number)
            .with_for_update(skip_locked=True)
            .correlate(share)
            .subquery(f"locked_{name}")  # a part of a union may not lock
        )
        return sa.select(*locked.c)

    def is_behind(table: sa.FromClause) -> sa.ColumnElement[bool]:
        return sa.and_(table.c.priority == share.c.priority, table.c.id >= share.c.id)

    raised = waiting("raised", lambda table: table.c.priority > share.c.priority)
    behind, lower = waiting("behind", is_behind), waiting("lower", lambda table: table.c.priority < share.c.priority)
    ranges = sa.union_all(raised, behind, lower).subquery("ranges")
    head = sa.select(*ranges.c).limit(share.c.number).correlate(share).lateral("head")
    return sa.select(share.c.key, *head.c).select_from(share.join(head, sa.true()))


_HEADS = _heads()


@dataclasses.dataclass(frozen=True, slots=True)
class _Share:
    """How many jobs of a key are locked, and the priority and the id of its first job in line."""

    key: str
    number: int
    priority: int
    id: int


class Lines:
    """The lines of one limit, as one admission reads them.

    Parameters
    ----------
    held:
        The slots that are taken.
    paused:
        Queues that are paused.
    served:
        Queues that workers serve, or ``None`` for all.
    set_aside:
        Ids of jobs to pass over.
    """

    def __init__(
        self,
        connection: sa.Connection,
        name: str,
        terms: LimitTerms,
        held: Held,
        *,
        paused: Collection[str],
        served: Collection[str] | None = None,
        set_aside: Sequence[int],
    ) -> None:
        self._connection = connection
        self._name = name
        self._terms = terms
        self._held = held.by_key
        self._queues = {"paused": sorted(paused), "served": None if served is None else sorted(served)}
        self._set_aside = list(set_aside)
        self._first_of: dict[str, tuple[int, int]] = {}  # the priority and the id of the first job in line of each key

    def _execute(self, statement: sa.Select[Any], parameters: Mapping[str, Any]) -> list[sa.Row[Any]]:
        common = {"name": self._name, "heaviest": self._terms.heaviest, "set_aside": self._set_aside}
        return list(self._connection.execute(statement, {**common, **parameters}))

    def read_keys(self, looked_at: Collection[str]) -> list[KeyState]:
        """Read the keys that may get a slot. A slot of a limit over all keys may go to any key in line.

        If there are many keys in line, those after the one that has just left come first, so that each gets its turn.
        The keys of a fair limit always begin after the one that got the last slot. Those to look at come last: if their
        limit has more keys than one look reads, all the others may have no room.
        """
        if not self._terms.is_over_all_keys:
            return self._states(self._read_some(looked_at))
        is_fair = self._terms.is_fair
        first = read_last_turn(self._connection, self._name) if is_fair else min(looked_at)
        rows = self._walk(first)
        if not is_fair:  # a fair limit goes by turn, whatever the priorities of the jobs
            rows.sort(key=lambda row: (-row.priority, row.id))
        in_order = self._states(rows)
        if len(in_order) < KEYS_AT_ONCE:
            return in_order
        return [*in_order, *self._states(self._read_some(set(looked_at) - {one.key for one in in_order}))]

    def _read_some(self, keys: Collection[str]) -> list[sa.Row[Any]]:
        statement = _READ_KEYS[self._held is None]
        return self._execute(statement, {"keys": sorted(keys), **self._queues}) if keys else []

    def _walk(self, first: str | None) -> list[sa.Row[Any]]:
        """Read the keys in line after the ``first``, and those from the beginning if fewer than a thousand follow.

        No key is read twice.
        """

        def read(part: _Part, limit: int) -> list[sa.Row[Any]]:
            parameters = {"limit": limit, **self._queues} | ({} if first is None else {"place": first})
            rows = self._execute(_READ_LINE[part, self._held is None], parameters)
            return sorted(rows, key=lambda row: row.step)

        if first is None:
            return read(_Part.ALL, KEYS_AT_ONCE)
        following = read(_Part.AFTER, KEYS_AT_ONCE)
        missing = KEYS_AT_ONCE - len(following)
        return [*following, *(read(_Part.UP_TO, missing) if missing > 0 else [])]

    def _states(self, rows: Sequence[sa.Row[Any]]) -> list[KeyState]:
        self._first_of |= {row.key: (row.priority, row.id) for row in rows}
        held = {row.key: row.held for row in rows} if self._held is None else self._held
        return [
            KeyState(key=row.key, held=held.get(row.key, 0), weight=row.weight, queue=row.queue_name) for row in rows
        ]

    def lock_heads(self, numbers: Mapping[str, int], passed_over: Sequence[int]) -> list[sa.Row[Any]]:
        """Lock the first jobs of each key, as many as ``numbers`` says, and return them in the order of the line.

        The keys have been read. A job that got in line before the first one of its key since then waits for the next
        look.
        """
        shares = [_Share(key, number, *self._first_of[key]) for key, number in numbers.items()]
        parameters = transpose(shares, ("key", "number", "priority", "id"))
        parameters["set_aside"] = [*self._set_aside, *passed_over]
        return sorted(self._execute(_HEADS, parameters), key=lambda row: (-row.priority, row.id))


def with_rooms(
    connection: sa.Connection, name: str, keys: Sequence[KeyState], rates: Sequence[RateTerms]
) -> list[KeyState]:
    """Return the keys of a limit with the room that its rates leave to each."""
    rooms = read_rooms(connection, name, {one.key: one.weight for one in keys}, rates)
    return [dataclasses.replace(one, room=rooms[one.key].free) if rooms else one for one in keys]
