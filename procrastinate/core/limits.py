"""Operations on the limits themselves: define, set, list and look at them."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.types import TypeEngine

from procrastinate.core.admit import TERMS, read_terms
from procrastinate.core.arrays import unnest
from procrastinate.core.hold_offs import read_hold_offs
from procrastinate.core.lines import KEYS_AT_ONCE, head_of_line
from procrastinate.core.lock_timeouts import wait_briefly
from procrastinate.core.lowering import take_slots_back, wait_for_admissions
from procrastinate.core.operation_marks import atomic
from procrastinate.core.rates import RATES, RateTerms, later, next_start, read_rates, write_rates
from procrastinate.core.share import LimitTerms
from procrastinate.core.tables import (
    DOING,
    holds_slot,
    is_in_line,
    jobs,
    limits,
    openings,
    slots_of,
    weight_of,
)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LimitDefinition:
    """A limit as the code defines it, and as an operator changes it. ``None`` means no limit of this kind."""

    name: str
    concurrency: int | None = None
    total: int | None = None
    rates: tuple[RateTerms, ...] = ()
    total_rates: tuple[RateTerms, ...] = ()
    fair: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class StoredLimit:
    """A limit with the numbers of its jobs.

    Parameters
    ----------
    is_defined:
        False if jobs name the limit and no worker has defined it. Such jobs wait.
    concurrency, total, rates, total_rates:
        The numbers that hold now.
    is_set:
        True if an operator has set one of them.
    held:
        Number of slots that are taken. The jobs that have them run, or a worker may claim them.
    in_line:
        Number of jobs that wait for a slot.
    fair:
        Whether the keys take turns.
    """

    name: str
    is_defined: bool
    concurrency: int | None
    total: int | None
    is_set: bool
    held: int
    in_line: int
    rates: tuple[RateTerms, ...] = ()
    total_rates: tuple[RateTerms, ...] = ()
    fair: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LimitKey:
    """A key of a limit with the numbers of its jobs.

    ``held`` is the number of slots that are taken, and ``running`` that of the jobs which have started. ``next_weight``
    is the number of slots that the next job takes. ``oldest_id`` is the job with the lowest id among those that have a
    slot, and ``next_id`` the first job in line that is not too heavy for the limit. ``next_start`` is the time before
    which the rates of the limit, or a hold-off of the key, let no more jobs start. It is ``None`` if they let one
    start now.
    """

    name: str
    key: str
    held: int
    running: int
    in_line: int
    oldest_id: int | None
    next_id: int | None
    next_start: datetime.datetime | None = None
    next_weight: int = 1


_NUMBERS: dict[str, TypeEngine[Any]] = {
    "concurrency": sa.Integer(),
    "total": sa.Integer(),
    "rates": sa.Text(),
    "total_rates": sa.Text(),
}
_DEFINITION: dict[str, TypeEngine[Any]] = {**_NUMBERS, "fair": sa.Boolean()}
"""What the code defines. An operator sets the numbers alone."""
_COLUMNS: dict[str, TypeEngine[Any]] = {"name": sa.Text(), **_DEFINITION}


def _row_of(definition: LimitDefinition) -> dict[str, Any]:
    """Return a definition as its row has it."""
    return {
        "name": definition.name,
        "concurrency": definition.concurrency,
        "total": definition.total,
        "rates": write_rates(definition.rates),
        "total_rates": write_rates(definition.total_rates),
        "fair": definition.fair or None,
    }


def has_numbers() -> sa.ColumnElement[bool]:
    """Return the condition "this limit is defined": one of its numbers holds, or it is fair."""
    return sa.func.coalesce(*(sa.cast(number, sa.Text) for number in (*TERMS[1:], *RATES))).is_not(None)


def _define() -> Any:
    """Write only what differs: a worker that starts with the same limits as others writes nothing."""
    new = unnest(_COLUMNS, name="new")
    known = limits.alias("known")
    is_same = (
        sa.select(known.c.name)
        .where(
            known.c.name == new.c.name,
            *(known.c[name].is_not_distinct_from(new.c[name]) for name in _DEFINITION),
        )
        .exists()
    )
    rows = sa.select(*(new.c[name] for name in _COLUMNS)).where(~is_same).order_by(new.c.name)
    statement = insert(limits).from_select(list(_COLUMNS), rows)
    changed = {name: statement.excluded[name] for name in _DEFINITION} | {"defined_at": sa.func.now()}
    return statement.on_conflict_do_update(index_elements=["name"], set_=changed).returning(limits.c.name)


_DEFINE = _define()
_NAME = sa.bindparam("limit_name_is", type_=sa.Text())


def _open_keys(name: sa.ColumnElement[Any]) -> sa.Insert:
    """Open the keys in line of a limit, so that the next admission looks at them: the first thousand."""
    line, further = jobs.alias("line"), jobs.alias("further")
    first = sa.select(sa.func.min(line.c.limit_key)).where(is_in_line(line), line.c.limit_name == name)
    walk = sa.select(
        first.scalar_subquery().label("key"), sa.literal_column("1", type_=sa.Integer()).label("step")
    ).cte("walk", recursive=True)
    following = sa.select(sa.func.min(further.c.limit_key)).where(
        is_in_line(further), further.c.limit_name == name, further.c.limit_key > walk.c.key
    )
    walk = walk.union_all(
        sa.select(following.scalar_subquery(), walk.c.step + 1).where(
            walk.c.key.is_not(None), walk.c.step < KEYS_AT_ONCE
        )
    )
    keys = sa.select(name, walk.c.key).where(walk.c.key.is_not(None))
    return sa.insert(openings).from_select(["limit_name", "limit_key"], keys)


_OPEN_KEYS = _open_keys(_NAME)


@atomic
def define_limits(connection: sa.Connection, definitions: Sequence[LimitDefinition]) -> list[str]:
    """Store the limits of the code, and return the names of those that are new or have changed.

    What an operator has set stays. If an open transaction has locked one of them, it waits for half a second, and then
    raises a lock timeout (:func:`~procrastinate.core.errors.is_lock_timeout`).
    """
    if not definitions:
        return []
    wait_briefly(connection)
    changed = list(connection.execute(_DEFINE, _columns_of(definitions)).scalars())
    if changed:
        _apply(connection, changed)
    return sorted(changed)


def _apply(connection: sa.Connection, names: Sequence[str]) -> None:
    """Let changed numbers hold: take back the slots that are too many, and let an admission look at the keys in line.

    A job that ends at this moment may have handed its slot over by the former numbers.
    """
    wait_for_admissions(connection, names)
    terms = dict(read_terms(connection, names))
    for name in sorted(names):
        take_slots_back(connection, name, terms.get(name, LimitTerms()))
        connection.execute(_OPEN_KEYS, {"limit_name_is": name})


def _columns_of(definitions: Sequence[LimitDefinition]) -> dict[str, list[Any]]:
    rows = [_row_of(one) for one in definitions]
    return {f"{name}_list": [row[name] for row in rows] for name in _COLUMNS}


_SET = insert(limits).values(
    name=_NAME, **{f"set_{name}": sa.bindparam(f"new_{name}", type_=type_) for name, type_ in _NUMBERS.items()}
)
_SET_COLUMNS = [f"set_{name}" for name in _NUMBERS]
_SET_LIMIT = _SET.on_conflict_do_update(
    index_elements=["name"],
    set_={name: sa.func.coalesce(_SET.excluded[name], limits.c[name]) for name in _SET_COLUMNS},
)
_RESET_LIMIT = (
    sa.update(limits).where(limits.c.name == _NAME).values(dict.fromkeys(_SET_COLUMNS)).returning(limits.c.name)
)


@atomic
def set_limit(connection: sa.Connection, definition: LimitDefinition) -> None:
    """Let other numbers hold than those of the code. ``None`` leaves a number as it is."""
    row = _row_of(definition)
    numbers = {f"new_{name}": row[name] for name in _NUMBERS}
    connection.execute(_SET_LIMIT, {"limit_name_is": definition.name, **numbers})
    _apply(connection, [definition.name])


@atomic
def reset_limit(connection: sa.Connection, name: str) -> bool:
    """Let the numbers of the code hold again. Return false if there is no such limit."""
    found = connection.execute(_RESET_LIMIT, {"limit_name_is": name}).scalar_one_or_none() is not None
    if found:
        _apply(connection, [name])
    return found


_DEFINED = (
    sa.select(limits.c.name)
    .where(sa.or_(*(limits.c[name].is_not(None) for name in _DEFINITION)))
    .order_by(limits.c.name)
)


def list_defined_limits(connection: sa.Connection) -> list[str]:
    """Return the names of the limits that workers have defined."""
    return list(connection.execute(_DEFINED).scalars())


def _list() -> Any:
    holder, waiting = jobs.alias("holder"), jobs.alias("waiting")
    held = sa.select(holder.c.limit_name.label("name"), slots_of(holder).label("held"), sa.literal(0).label("in_line"))
    line = sa.select(waiting.c.limit_name, sa.literal(0), sa.func.count())
    counts = sa.union_all(
        held.where(holds_slot(holder)).group_by(holder.c.limit_name),
        line.where(is_in_line(waiting), waiting.c.limit_name.is_not(None)).group_by(waiting.c.limit_name),
    ).subquery("counts")
    by_name = (
        sa.select(
            counts.c.name, sa.func.sum(counts.c.held).label("held"), sa.func.sum(counts.c.in_line).label("in_line")
        )
        .group_by(counts.c.name)
        .subquery("by_name")
    )
    name = sa.func.coalesce(limits.c.name, by_name.c.name)
    _, concurrency, total, fair = TERMS
    return (
        sa.select(
            name.label("name"),
            has_numbers().label("is_defined"),
            concurrency,
            total,
            fair,
            *RATES,
            sa.or_(*(limits.c[name].is_not(None) for name in _SET_COLUMNS)).label("is_set"),
            sa.func.coalesce(by_name.c.held, 0).label("held"),
            sa.func.coalesce(by_name.c.in_line, 0).label("in_line"),
        )
        .select_from(limits.join(by_name, by_name.c.name == limits.c.name, full=True))
        .order_by(name)
    )


_LIST = _list()


def list_limits(connection: sa.Connection) -> list[StoredLimit]:
    """List the limits by name, those included that only jobs name. It counts every job in line."""
    return [
        StoredLimit(
            name=row.name,
            is_defined=bool(row.is_defined),
            concurrency=row.concurrency,
            total=row.total,
            is_set=bool(row.is_set),
            held=int(row.held),
            in_line=int(row.in_line),
            rates=read_rates(row.rates),
            total_rates=read_rates(row.total_rates),
            fair=bool(row.fair),
        )
        for row in connection.execute(_LIST)
    ]


_KEY = sa.bindparam("limit_key_is", type_=sa.Text())
_OF_KEY = (jobs.c.limit_name == _NAME, jobs.c.limit_key == _KEY)
_FIRST_IN_LINE = head_of_line(
    lambda head: head.c.id,
    lambda head: weight_of(head).label("weight"),
    name=_NAME,
    key=_KEY,
    heaviest=sa.bindparam("heaviest", type_=sa.Integer()),
)
_RUNNING = sa.func.coalesce(sa.func.sum(weight_of()).filter(jobs.c.status == DOING), 0)
_SHOW_HELD = sa.select(slots_of(), _RUNNING, sa.func.min(jobs.c.id)).where(holds_slot(), *_OF_KEY)
_SHOW_LINE = sa.select(sa.func.count()).where(is_in_line(), *_OF_KEY)


def show_limit(connection: sa.Connection, name: str, key: str) -> LimitKey:
    """Return the numbers of the jobs of one key."""
    parameters = {"limit_name_is": name, "limit_key_is": key}
    held, running, oldest_id = connection.execute(_SHOW_HELD, parameters).one()
    in_line = connection.execute(_SHOW_LINE, parameters).scalar_one()
    terms = dict(read_terms(connection, [name])).get(name, LimitTerms())
    first = connection.execute(_FIRST_IN_LINE, {**parameters, "heaviest": terms.heaviest}).one_or_none()
    weight = 1 if first is None else first.weight
    by_rates = next_start(connection, name, key, terms.rates, terms.total_rates, weight=weight)
    return LimitKey(
        name=name,
        key=key,
        held=held,
        running=running,
        in_line=in_line,
        oldest_id=oldest_id,
        next_id=None if first is None else first.id,
        next_weight=weight,
        next_start=later(by_rates, read_hold_offs(connection, name, [key]).get(key)),
    )
