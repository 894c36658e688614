"""Limits in memory: the operations on limits, and the admission of jobs in line.

Each operation is documented at the function of the same name in :mod:`procrastinate.core`. There are no openings in
memory: an admission looks at every line. It runs whenever a job leaves a slot, and at each promotion.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from procrastinate import core
from procrastinate.core import Admission, LimitDefinition, LimitKey, LineSweep, Readiness, StoredLimit
from procrastinate.core.share import KeyState, LimitTerms, share_out

if TYPE_CHECKING:
    from procrastinate.testing.rows import JobRow
    from procrastinate.testing.tables import Tables

Places: TypeAlias = "dict[str, list[JobRow]]"


@dataclasses.dataclass(slots=True)
class LimitRow:
    """A row of ``procrastinate_limits``. ``None`` for a definition that no worker has given yet."""

    defined: LimitDefinition | None = None
    set_concurrency: int | None = None
    set_total: int | None = None

    @property
    def terms(self) -> LimitTerms:
        """The numbers that hold now."""
        concurrency = None if self.defined is None else self.defined.concurrency
        total = None if self.defined is None else self.defined.total
        return LimitTerms(
            concurrency=concurrency if self.set_concurrency is None else self.set_concurrency,
            total=total if self.set_total is None else self.set_total,
        )


def admit(tables: Tables) -> Admission:
    """Give the free slots to the jobs in line."""
    admitted = 0
    names = {tables.progress(row["id"]).limit_name for row in tables.where(tables.is_in_line)}
    for name in sorted(one for one in names if one is not None and one in tables.limits):
        terms = tables.limits[name].terms
        if terms != LimitTerms():
            admitted += _admit_of(tables, name, terms)
    return Admission(admitted=admitted)


def _admit_of(tables: Tables, name: str, terms: LimitTerms) -> int:
    admitted = 0
    while True:
        held = _held(tables, name)
        line = _fitting(tables, _line(tables, name), terms)
        keys = [KeyState(key=key, held=held[key], weight=tables.weight(rows[0])) for key, rows in line.items()]
        shares = share_out(terms, keys, held_in_all=held.total(), at_most=len(tables.jobs))
        chosen = [row for key, slots in shares.by_key.items() for row in _first_of(tables, line[key], slots)]
        verdict = _verdict(tables, sorted(chosen, key=lambda row: (-row["priority"], row["id"])))
        if not verdict:
            return admitted
        tables.update({job_id: {"readiness": readiness} for job_id, readiness in verdict.items()})
        admitted += sum(readiness is Readiness.PROMOTED for readiness in verdict.values())


def _held(tables: Tables, name: str) -> Counter[str]:
    """Return the number of slots that are taken, by key."""
    held: Counter[str] = Counter()
    for row in _holders(tables, name):
        held[tables.progress(row["id"]).limit_key or ""] += tables.weight(row)
    return held


def _fitting(tables: Tables, line: Places, terms: LimitTerms) -> Places:
    """Return the lines without the jobs that are too heavy for the limit."""
    fitting = {key: [row for row in rows if tables.weight(row) <= terms.heaviest] for key, rows in line.items()}
    return {key: rows for key, rows in fitting.items() if rows}


def _first_of(tables: Tables, rows: Sequence[JobRow], slots: int) -> Sequence[JobRow]:
    """Return the first jobs that take no more slots than these."""
    needed = itertools.accumulate(map(tables.weight, rows))
    return rows[: sum(number <= slots for number in needed)]


def _verdict(tables: Tables, rows: Sequence[JobRow]) -> dict[int, Readiness]:
    """Promote the jobs, but park those whose lock is held."""
    held = set(tables.holders())
    verdict: dict[int, Readiness] = {}
    for row in rows:
        verdict[row["id"]] = Readiness.PARKED if row["lock"] in held else Readiness.PROMOTED
        if row["lock"] is not None:
            held.add(row["lock"])
    return verdict


def _holders(tables: Tables, name: str, key: str | None = None) -> list[JobRow]:
    return [row for row in tables.where(tables.holds_slot) if _is_of(tables, row, name, key)]


def _line(tables: Tables, name: str, key: str | None = None) -> Places:
    """Return the jobs in line by key, each line and the keys in the order of their first jobs.

    Jobs of paused queues are left out.
    """
    rows = [
        row
        for row in tables.where(tables.is_in_line)
        if _is_of(tables, row, name, key) and row["queue_name"] not in tables.paused_queues()
    ]
    line: Places = {}
    for row in sorted(rows, key=lambda row: (-row["priority"], row["id"])):
        line.setdefault(tables.progress(row["id"]).limit_key or "", []).append(row)
    return line


def _is_of(tables: Tables, row: JobRow, name: str, key: str | None) -> bool:
    progress = tables.progress(row["id"])
    return progress.limit_name == name and key in (None, progress.limit_key)


def admit_jobs(
    tables: Tables,
    *,
    limit: int = 500,
    paused: Collection[str] = (),
    set_aside: Sequence[int] = (),
    one_by_one: bool = False,
) -> Admission:
    return admit(tables)


def define_limits(tables: Tables, definitions: Sequence[LimitDefinition]) -> list[str]:
    _refuse_what_is_missing(definitions)
    changed = [one for one in definitions if tables.limits.get(one.name, LimitRow()).defined != one]
    for one in changed:
        tables.limits.setdefault(one.name, LimitRow()).defined = one
    admit(tables)
    return sorted(one.name for one in changed)


def _refuse_what_is_missing(definitions: Sequence[LimitDefinition]) -> None:
    for one in definitions:
        if one.rates or one.total_rates:
            raise NotImplementedError(
                f"The limit {one.name!r} has a rate, and rates have no in-memory form: test it against a database"
            )
        if one.fair:
            raise NotImplementedError(
                f"The limit {one.name!r} is fair, and turns have no in-memory form: test it against a database"
            )


def set_limit(tables: Tables, definition: LimitDefinition) -> None:
    _refuse_what_is_missing([definition])
    row = tables.limits.setdefault(definition.name, LimitRow())
    row.set_concurrency = row.set_concurrency if definition.concurrency is None else definition.concurrency
    row.set_total = row.set_total if definition.total is None else definition.total
    admit(tables)


def reset_limit(tables: Tables, name: str) -> bool:
    row = tables.limits.get(name)
    if row is not None:
        row.set_concurrency = row.set_total = None
        admit(tables)
    return row is not None


def list_defined_limits(tables: Tables) -> list[str]:
    return sorted(name for name, row in tables.limits.items() if row.defined is not None)


def list_limits(tables: Tables) -> list[StoredLimit]:
    rows = [row for row in tables.jobs.values() if tables.holds_slot(row) or tables.is_in_line(row)]
    names = {tables.progress(row["id"]).limit_name for row in rows} | set(tables.limits)
    return [_stored(tables, name) for name in sorted(name for name in names if name is not None)]


def _stored(tables: Tables, name: str) -> StoredLimit:
    row = tables.limits.get(name, LimitRow())
    return StoredLimit(
        name=name,
        is_defined=row.terms != LimitTerms(),
        concurrency=row.terms.concurrency,
        total=row.terms.total,
        is_set=row.set_concurrency is not None or row.set_total is not None,
        held=_held(tables, name).total(),
        in_line=sum(map(len, _line(tables, name).values())),
    )


def show_limit(tables: Tables, name: str, key: str) -> LimitKey:
    holders, line = _holders(tables, name, key), _line(tables, name, key).get(key, [])
    return LimitKey(
        name=name,
        key=key,
        held=sum(map(tables.weight, holders)),
        running=sum(tables.weight(row) for row in holders if row["status"] == "doing"),
        in_line=len(line),
        oldest_id=min((row["id"] for row in holders), default=None),
        next_id=line[0]["id"] if line else None,
        next_weight=tables.weight(line[0]) if line else 1,
    )


def sweep_lines(tables: Tables, *, start: tuple[str, str] | None = None, limit: int = 1000) -> LineSweep:
    undefined = tuple(one.name for one in list_limits(tables) if one.in_line and not one.is_defined)
    return LineSweep(opened=admit(tables).admitted, reached=None, undefined=undefined)


def hold_off(tables: Tables, name: str, key: str, seconds: float) -> None:
    raise NotImplementedError(
        f"A job holds off the limit {name!r}, and hold-offs have no in-memory form: test it against a database"
    )


def hold_off_key_of(tables: Tables, job_id: int, seconds: float) -> bool:
    name = tables.progress(job_id).limit_name
    if name is not None:
        hold_off(tables, name, "", seconds)
    return False


IMPLEMENTED: dict[Callable[..., Any], Callable[..., Any]] = {
    core.admit_jobs: admit_jobs,
    core.define_limits: define_limits,
    core.hold_off: hold_off,
    core.hold_off_key_of: hold_off_key_of,
    core.list_limits: list_limits,
    core.list_defined_limits: list_defined_limits,
    core.reset_limit: reset_limit,
    core.set_limit: set_limit,
    core.show_limit: show_limit,
    core.sweep_lines: sweep_lines,
}
