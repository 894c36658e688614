"""The operations on limits, in memory.

Each function is documented at the function of the same name in :mod:`procrastinate.core`.
"""

from __future__ import annotations

import datetime
from collections.abc import Collection, Sequence

from procrastinate import core
from procrastinate.core import Admission, LimitDefinition, LimitKey, LimitSweep, LineSweep, StoredLimit
from procrastinate.core.share import LimitTerms, Unclaimed
from procrastinate.testing.clock import plus
from procrastinate.testing.implementations import Implementations
from procrastinate.testing.limit_rows import LimitRow
from procrastinate.testing.lines import admit, excess_of, held_by_key, holders_of, line_of, next_start_of
from procrastinate.testing.rates import put_back_in_line
from procrastinate.testing.rows import DOING, TODO
from procrastinate.testing.tables import Tables

IMPLEMENTED = Implementations()


@IMPLEMENTED.of(core.admit_jobs)
def admit_jobs(
    tables: Tables,
    *,
    limit: int = 500,
    paused: Collection[str] = (),
    set_aside: Sequence[int] = (),
    one_by_one: bool = False,
) -> Admission:
    return admit(tables)


@IMPLEMENTED.of(core.define_limits)
def define_limits(tables: Tables, definitions: Sequence[LimitDefinition]) -> list[str]:
    changed = [one for one in definitions if tables.limits.get(one.name, LimitRow()).defined != one]
    for one in changed:
        tables.limits.setdefault(one.name, LimitRow()).defined = one
        _take_excess_back(tables, one.name)
    admit(tables)
    return sorted(one.name for one in changed)


@IMPLEMENTED.of(core.set_limit)
def set_limit(tables: Tables, definition: LimitDefinition) -> None:
    tables.limits.setdefault(definition.name, LimitRow()).set(definition)
    _take_excess_back(tables, definition.name)
    admit(tables)


@IMPLEMENTED.of(core.reset_limit)
def reset_limit(tables: Tables, name: str) -> bool:
    row = tables.limits.get(name)
    if row is not None:
        row.reset()
        _take_excess_back(tables, name)
        admit(tables)
    return row is not None


@IMPLEMENTED.of(core.list_defined_limits)
def list_defined_limits(tables: Tables) -> list[str]:
    return sorted(name for name, row in tables.limits.items() if row.defined is not None)


@IMPLEMENTED.of(core.list_limits)
def list_limits(tables: Tables) -> list[StoredLimit]:
    rows = [row for row in tables.jobs.values() if tables.holds_slot(row) or tables.is_in_line(row)]
    names = {tables.progress(row["id"]).limit_name for row in rows} | set(tables.limits)
    return [_stored(tables, name) for name in sorted(name for name in names if name is not None)]


def _stored(tables: Tables, name: str) -> StoredLimit:
    row = tables.limits.get(name, LimitRow())
    terms = row.terms
    return StoredLimit(
        name=name,
        is_defined=terms != LimitTerms(),
        concurrency=terms.concurrency,
        total=terms.total,
        rates=terms.rates,
        total_rates=terms.total_rates,
        fair=terms.is_fair,
        is_set=row.is_set,
        held=held_by_key(tables, name).total(),
        in_line=sum(map(len, line_of(tables, name).values())),
    )


@IMPLEMENTED.of(core.show_limit)
def show_limit(tables: Tables, name: str, key: str) -> LimitKey:
    holders, line = holders_of(tables, name, key), line_of(tables, name, key).get(key, [])
    weight = tables.weight(line[0]) if line else 1
    terms = tables.limits.get(name, LimitRow()).terms
    return LimitKey(
        name=name,
        key=key,
        held=sum(map(tables.weight, holders)),
        running=sum(tables.weight(row) for row in holders if row["status"] == DOING),
        in_line=len(line),
        oldest_id=min((row["id"] for row in holders), default=None),
        next_id=line[0]["id"] if line else None,
        next_weight=weight,
        next_start=next_start_of(tables, name, key, terms, weight=weight, weight_in_all=weight),
    )


@IMPLEMENTED.of(core.take_unserved_slots)
def take_unserved_slots(tables: Tables, *, limit: int = 1000, set_aside: Sequence[int] = ()) -> list[int]:
    rows = tables.where(lambda row: row["status"] == TODO and tables.holds_slot(row) and not tables.is_served(row))
    ids = [row["id"] for row in rows[:limit]]
    put_back_in_line(tables, ids)
    return ids


@IMPLEMENTED.of(core.sweep_lines)
def sweep_lines(tables: Tables, *, start: tuple[str, str] | None = None, limit: int = 1000) -> LineSweep:
    undefined = tuple(one.name for one in list_limits(tables) if one.in_line and not one.is_defined)
    return LineSweep(opened=admit(tables).admitted, reached=None, undefined=undefined)


@IMPLEMENTED.of(core.sweep_limits)
def sweep_limits(tables: Tables, *, after: str | None = None, limit: int = 1000) -> LimitSweep:
    """Delete nothing, because tests have few starts."""
    return LimitSweep(deleted=0, reached=None)


@IMPLEMENTED.of(core.hold_off)
def hold_off(tables: Tables, name: str, key: str, seconds: float) -> None:
    for place, until in list(tables.hold_offs.items()):
        if place[0] == name and until <= tables.now:
            del tables.hold_offs[place]
    until = plus(tables.now, datetime.timedelta(seconds=seconds))
    tables.hold_offs[name, key] = max(until, tables.hold_offs.get((name, key), until))
    put_back_in_line(tables, [row["id"] for row in holders_of(tables, name, key) if row["status"] == TODO])


def _take_excess_back(tables: Tables, name: str) -> None:
    """Put the last of the unclaimed jobs back in line if more jobs have slots than the numbers allow."""
    terms = tables.limits[name].terms
    holders = [row for row in holders_of(tables, name) if row["status"] == TODO]
    holders.sort(key=lambda row: (-row["priority"], row["id"]))
    unclaimed = [
        Unclaimed(row["id"], tables.progress(row["id"]).limit_key or "", tables.weight(row)) for row in holders
    ]
    put_back_in_line(tables, excess_of(tables, name, terms, unclaimed))


@IMPLEMENTED.of(core.hold_off_key_of)
def hold_off_key_of(tables: Tables, job_id: int, seconds: float) -> bool:
    progress = tables.progress(job_id)
    if progress.limit_name is not None:
        hold_off(tables, progress.limit_name, progress.limit_key or "", seconds)
    return progress.limit_name is not None
