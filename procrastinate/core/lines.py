"""The lines of a limit: the keys that have jobs in line, the slots that they have, and their next jobs."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from procrastinate.core.arrays import array_param, is_not_set_aside, unnest
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


def _first_in_line(key: sa.ColumnElement[Any]) -> Any:
    """Return the next job of a key that is not too heavy for the limit.

    Its weight does not matter if its queue is paused: it leaves the line as soon as the key has a slot.
    """
    head = jobs.alias("head")
    is_paused = head.c.queue_name == sa.any_(array_param("paused", sa.Text()))
    return (
        sa.select(
            head.c.priority,
            head.c.id,
            head.c.queue_name,
            sa.case((is_paused, 1), else_=weight_of(head)).label("weight"),
        )
        .where(
            is_in_line(head),
            head.c.limit_name == _NAME,
            head.c.limit_key == key,
            weight_of(head) <= _HEAVIEST,
            is_not_set_aside(head.c.id),
        )
        .order_by(head.c.priority.desc(), head.c.id)
        .limit(1)
        .lateral("first")
    )


def _keys_in_line() -> sa.CTE:
    """Walk from key to key through the index of the line, one probe each."""
    line, further = jobs.alias("line"), jobs.alias("further")
    after = sa.bindparam("after", type_=sa.Text())
    walk = sa.select(
        sa.select(sa.func.min(line.c.limit_key))
        .where(is_in_line(line), line.c.limit_name == _NAME, sa.or_(after.is_(None), line.c.limit_key > after))
        .scalar_subquery()
        .label("key"),
        sa.literal_column("1", type_=sa.Integer()).label("step"),
    ).cte("walk", recursive=True)
    following = (
        sa.select(sa.func.min(further.c.limit_key))
        .where(is_in_line(further), further.c.limit_name == _NAME, further.c.limit_key > walk.c.key)
        .scalar_subquery()
    )
    return walk.union_all(
        sa.select(following, walk.c.step + 1).where(
            walk.c.key.is_not(None), walk.c.step < sa.bindparam("limit", type_=sa.Integer())
        )
    )


def _read_line() -> sa.Select[Any]:
    """Read the keys in line of a limit, in the order of their first jobs, and the slots that they have.

    ``step`` is the place of a key in the order of the keys.
    """
    walk = _keys_in_line()
    first = _first_in_line(walk.c.key)
    held = _count_held(_NAME, walk.c.key).label("held")
    return (
        sa.select(walk.c.key, walk.c.step, first.c.weight, first.c.queue_name, held)
        .select_from(walk.join(first, sa.true()))
        .order_by(first.c.priority.desc(), first.c.id)
    )


def _read_keys() -> sa.Select[Any]:
    """Read those of some keys that have jobs in line, and the slots that they have."""
    some = sa.func.unnest(array_param("keys", sa.Text())).table_valued("key", name="some").render_derived()
    first = _first_in_line(some.c.key)
    held = _count_held(_NAME, some.c.key).label("held")
    return sa.select(some.c.key, first.c.weight, first.c.queue_name, held).select_from(some.join(first, sa.true()))


_READ_LINE = _read_line()
_READ_KEYS = _read_keys()


def _heads() -> Any:
    """Lock the first jobs in line of each key. A row that another session has locked is passed over."""
    share = unnest({"key": sa.Text(), "number": sa.Integer()}, name="share")
    waiting = jobs.alias("waiting")
    head = (
        sa.select(
            waiting.c.id, waiting.c.lock, waiting.c.priority, waiting.c.queue_name, weight_of(waiting).label("weight")
        )
        .where(
            is_in_line(waiting),
            waiting.c.limit_name == _NAME,
            waiting.c.limit_key == share.c.key,
            weight_of(waiting) <= _HEAVIEST,
            is_not_set_aside(waiting.c.id),
        )
        .order_by(waiting.c.priority.desc(), waiting.c.id)
        .limit(share.c.number)
        .with_for_update(skip_locked=True)
        .lateral("head")
    )
    columns = (share.c.key, head.c.id, head.c.lock, head.c.priority, head.c.queue_name, head.c.weight)
    return sa.select(*columns).select_from(share.join(head, sa.true()))


_HEADS = _heads()


class Lines:
    """The lines of one limit, as one admission reads them.

    Parameters
    ----------
    paused:
        Queues that are paused.
    set_aside:
        Ids of jobs to pass over.
    """

    def __init__(
        self,
        connection: sa.Connection,
        name: str,
        terms: LimitTerms,
        *,
        paused: Collection[str],
        set_aside: Sequence[int],
    ) -> None:
        self._connection = connection
        self._name = name
        self._terms = terms
        self._paused = sorted(paused)
        self._set_aside = list(set_aside)

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
            return _states(self._read_some(looked_at))
        is_fair = self._terms.is_fair
        first = read_last_turn(self._connection, self._name) if is_fair else min(looked_at)
        after, all_keys = self._walk(first)
        if is_fair:  # by turn, whatever the priorities of the jobs
            after, all_keys = (sorted(rows, key=lambda row: row.step) for rows in (after, all_keys))
        in_order = _states([*after, *all_keys] if is_fair else [*all_keys, *after])
        if len(in_order) < KEYS_AT_ONCE:
            return in_order
        return [*in_order, *_states(self._read_some(set(looked_at) - {one.key for one in in_order}))]

    def _read_some(self, keys: Collection[str]) -> list[sa.Row[Any]]:
        return self._execute(_READ_KEYS, {"keys": sorted(keys), "paused": self._paused}) if keys else []

    def _walk(self, first: str | None) -> tuple[list[sa.Row[Any]], list[sa.Row[Any]]]:
        """Read the keys in line after the ``first``, and those from the beginning if fewer than a thousand follow."""

        def read(after: str | None, limit: int) -> list[sa.Row[Any]]:
            return self._execute(_READ_LINE, {"after": after, "limit": limit, "paused": self._paused})

        following = [] if first is None else read(first, KEYS_AT_ONCE)
        missing = KEYS_AT_ONCE - len(following)
        return following, read(None, missing) if missing > 0 else []

    def lock_heads(self, numbers: Mapping[str, int], passed_over: Sequence[int]) -> list[sa.Row[Any]]:
        """Lock the first jobs of each key, as many as ``numbers`` says, and return them in the order of the line."""
        parameters = {
            "key_list": list(numbers),
            "number_list": list(numbers.values()),
            "set_aside": [*self._set_aside, *passed_over],
        }
        return sorted(self._execute(_HEADS, parameters), key=lambda row: (-row.priority, row.id))


def with_rooms(
    connection: sa.Connection, name: str, keys: Sequence[KeyState], rates: Sequence[RateTerms]
) -> list[KeyState]:
    """Return the keys of a limit with the room that its rates leave to each."""
    rooms = read_rooms(connection, name, {one.key: one.weight for one in keys}, rates)
    return [dataclasses.replace(one, room=rooms[one.key].free) if rooms else one for one in keys]


def _states(rows: Sequence[sa.Row[Any]]) -> list[KeyState]:
    """Return one state for each key, in the order of the rows."""
    states = (KeyState(key=row.key, held=row.held, weight=row.weight, queue=row.queue_name) for row in rows)
    return list({one.key: one for one in states}.values())
