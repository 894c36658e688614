"""The sweep of the lines of limits: it opens the keys that have room, and that triggers have missed."""

from __future__ import annotations

import dataclasses
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from procrastinate.core.admit import TERMS
from procrastinate.core.limits import has_numbers
from procrastinate.core.lines import KEYS_AT_ONCE, head_of_line
from procrastinate.core.tables import holds_slot, is_in_line, jobs, limits, openings, slots_of, weight_of, windows
from procrastinate.core.turns import capacity_of, queues_of_slots


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LineSweep:
    """Result of one step of the sweep: the number of keys it opened, and the place at which the next step starts.

    ``undefined`` has the names of limits that jobs in line name and no worker has defined.
    """

    opened: int
    reached: tuple[str, str] | None
    undefined: tuple[str, ...] = ()


_, _CONCURRENCY, _TOTAL, _FAIR = TERMS


def _walk() -> sa.CTE:
    """Walk from key to key through the index of the line, one probe each."""
    line, further = jobs.alias("line"), jobs.alias("further")
    start = sa.tuple_(sa.bindparam("start_name", type_=sa.Text()), sa.bindparam("start_key", type_=sa.Text()))

    def following(table: Any, after: Any) -> Any:
        place = sa.tuple_(table.c.limit_name, table.c.limit_key)
        ordered = sa.select(table.c.limit_name.label("name"), table.c.limit_key.label("key"))
        return ordered.where(is_in_line(table), place > after).order_by(*place).limit(1)

    first = following(line, start).subquery("first_key")
    walk = sa.select(first.c.name, first.c.key, sa.literal_column("1", type_=sa.Integer()).label("step")).cte(
        "walk", recursive=True
    )
    then = following(further, sa.tuple_(walk.c.name, walk.c.key)).lateral("then")
    return walk.union_all(
        sa.select(then.c.name, then.c.key, walk.c.step + 1)
        .select_from(walk.join(then, sa.true()))
        .where(walk.c.step < sa.bindparam("limit", type_=sa.Integer()))
    )


def _heads(walk: sa.CTE) -> sa.CTE:
    """Return the weight and the queue of the next job of each key whose limit is defined."""
    head = head_of_line(
        lambda job: weight_of(job).label("weight"),
        lambda job: sa.cast(job.c.queue_name, sa.Text).label("queue"),
        name=walk.c.name,
        key=walk.c.key,
        heaviest=sa.func.least(_CONCURRENCY, _TOTAL),
    ).lateral("head_of_key")
    return (
        sa.select(walk.c.name, walk.c.key, head.c.weight, head.c.queue)
        .select_from(walk.join(limits, limits.c.name == walk.c.name).outerjoin(head, sa.true()))
        .where(has_numbers())
        .cte("heads")
        .prefix_with("MATERIALIZED", dialect="postgresql")
    )


def _of_all_keys(heads: sa.CTE) -> sa.CTE:
    """Return the numbers of each limit, and what all its keys have together. It is counted once, if it matters."""
    holder = jobs.alias("holder")
    by_name = (
        sa.select(
            heads.c.name,
            sa.func.array_agg(sa.distinct(heads.c.queue), type_=ARRAY(sa.Text))
            .filter(heads.c.queue.is_not(None))
            .label("queues"),
        )
        .group_by(heads.c.name)
        .subquery("by_name")
    )
    held = holds_slot(holder), holder.c.limit_name == by_name.c.name
    slots = sa.select(slots_of(holder)).where(*held).scalar_subquery()
    number = sa.select(sa.func.count()).select_from(holder).where(*held).scalar_subquery()
    capacity = capacity_of(by_name.c.queues, queues_of_slots(by_name.c.name))
    return (
        sa.select(
            limits.c.name,
            _CONCURRENCY,
            _TOTAL,
            sa.case((_TOTAL.is_not(None), slots)).label("slots"),
            sa.case((limits.c.fair, number >= capacity), else_=sa.false()).label("is_full"),
        )
        .select_from(by_name.join(limits, limits.c.name == by_name.c.name))
        .cte("of_all_keys")
        .prefix_with("MATERIALIZED", dialect="postgresql")
    )


def _keys_with_room(heads: sa.CTE, of_all: sa.CTE) -> sa.Select[Any]:
    holder = jobs.alias("holder_of_key")
    of_key = holder.c.limit_name == heads.c.name, holder.c.limit_key == heads.c.key
    held = sa.select(slots_of(holder)).where(holds_slot(holder), *of_key).scalar_subquery()
    is_of_key = windows.c.limit_name == heads.c.name, windows.c.limit_key == heads.c.key
    has_window = sa.select(windows.c.id).where(*is_of_key).exists()
    return (
        sa.select(heads.c.name, heads.c.key)
        .join(of_all, of_all.c.name == heads.c.name)
        .where(
            ~of_all.c.is_full,
            ~has_window,
            sa.or_(of_all.c.total.is_(None), of_all.c.slots + heads.c.weight <= of_all.c.total),
            sa.or_(of_all.c.concurrency.is_(None), held + heads.c.weight <= of_all.c.concurrency),
        )
    )


def _sweep() -> sa.Select[Any]:
    walk = _walk()
    heads = _heads(walk)
    opened = (
        sa.insert(openings)
        .from_select(["limit_name", "limit_key"], _keys_with_room(heads, _of_all_keys(heads)))
        .returning(openings.c.id)
        .cte("opened")
    )
    last = sa.select(walk.c.name, walk.c.key).order_by(walk.c.step.desc()).limit(1).subquery("last")
    undefined = (
        sa.select(sa.func.array_agg(sa.distinct(walk.c.name), type_=ARRAY(sa.Text)))
        .select_from(walk.outerjoin(limits, limits.c.name == walk.c.name))
        .where(~has_numbers())
    )
    return sa.select(
        sa.select(sa.func.count()).select_from(opened).scalar_subquery().label("opened"),
        sa.select(sa.func.count()).select_from(walk).scalar_subquery().label("keys"),
        undefined.scalar_subquery().label("undefined"),
        sa.select(last.c.name).scalar_subquery().label("name"),
        sa.select(last.c.key).scalar_subquery().label("key"),
    )


_SWEEP = _sweep()


def sweep_lines(
    connection: sa.Connection, *, start: tuple[str, str] | None = None, limit: int = KEYS_AT_ONCE
) -> LineSweep:
    """Examine up to ``limit`` keys that have jobs in line, and open each key that has room.

    A job that leaves a slot hands it over or opens its key. This function covers what triggers miss. They
    were off, or a role could not write the openings.

    Parameters
    ----------
    start:
        The limit and the key after which to start: ``reached`` of the previous step, ``None`` for the beginning.
    """
    name, key = start or ("", "")
    row = connection.execute(_SWEEP, {"start_name": name, "start_key": key, "limit": limit}).one()
    return LineSweep(
        opened=row.opened,
        reached=(row.name, row.key) if row.keys >= limit else None,
        undefined=tuple(sorted(row.undefined or ())),
    )
