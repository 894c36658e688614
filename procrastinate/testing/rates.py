"""Rates of limits in memory: which starts count, and when the next job may start.

:mod:`procrastinate.core.rates` documents the rules. All starts are kept, because tests have few.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from procrastinate.core import RateTerms, Readiness
from procrastinate.core.defaults import CLOCK_TOLERANCE
from procrastinate.core.rates import Room, later
from procrastinate.testing.clock import plus
from procrastinate.testing.limit_rows import StartRow
from procrastinate.testing.rows import TODO

if TYPE_CHECKING:
    from procrastinate.testing.row_change import RowChange
    from procrastinate.testing.tables import Tables

_TOLERANCE = datetime.timedelta(seconds=CLOCK_TOLERANCE)


def record_starts(tables: Tables, changes: Iterable[RowChange]) -> None:
    """Record the start of each claimed job whose limit has a rate."""
    for change in changes:
        name, key = change.progress.limit_name, change.progress.limit_key or ""
        if name is not None and name in tables.limits and tables.limits[name].terms.has_rates:
            tables.starts.append(StartRow(name, key, tables.now, tables.weight(change.row)))


def line_up_returned(tables: Tables, changes: Iterable[RowChange]) -> None:
    """Put a job back in line that its worker gives back unstarted, if it must not start again without an admission."""
    put_back_in_line(
        tables,
        [
            change.row["id"]
            for change in changes
            if _waits_again(tables, change.progress.limit_name, change.progress.limit_key or "")
        ],
    )


def put_back_in_line(tables: Tables, ids: Sequence[int]) -> None:
    """Put jobs that have a slot and have not started back in line."""
    if ids:
        scheduled = {job_id: tables.jobs[job_id]["scheduled_at"] or tables.now for job_id in ids}
        tables.update(
            {job_id: {"readiness": Readiness.IN_LINE, "scheduled_at": at} for job_id, at in scheduled.items()}
        )


def _waits_again(tables: Tables, name: str | None, key: str) -> bool:
    if name is None or name not in tables.limits:
        return False
    is_admitted_alone = tables.limits[name].terms.has_rates or held_off_until(tables, name, key) is not None
    return is_admitted_alone or _is_exceeded(tables, name, key)


def _is_exceeded(tables: Tables, name: str, key: str) -> bool:
    """Return true if more slots are taken than the limit has, because it was lowered."""
    terms = tables.limits[name].terms
    holders = [row for row in tables.where(tables.holds_slot) if tables.is_of(row, name)]
    of_key = sum(tables.weight(row) for row in holders if tables.is_of(row, name, key))
    in_all = sum(map(tables.weight, holders))
    is_key_exceeded = terms.concurrency is not None and of_key > terms.concurrency
    return is_key_exceeded or (terms.total is not None and in_all > terms.total)


def held_off_until(tables: Tables, name: str, key: str) -> datetime.datetime | None:
    """Return the end of the hold-off of a key, or ``None`` if there is none or it is over."""
    until = tables.hold_offs.get((name, key))
    return until if until is not None and until > tables.now else None


def room_of(tables: Tables, name: str, key: str | None, rates: Sequence[RateTerms], *, weight: int) -> Room | None:
    """Return what rates leave to the next job of a key, or of all keys for ``None``. Without rates, return ``None``.

    Parameters
    ----------
    weight:
        The weight of the next job.
    """
    room: Room | None = None
    for one in [_room(tables, name, key, rate, weight) for rate in rates]:
        opens_at = one.opens_at if room is None else later(room.opens_at, one.opens_at)
        room = Room(free=one.free if room is None else min(room.free, one.free), opens_at=opens_at)
    return room


def _room(tables: Tables, name: str, key: str | None, rate: RateTerms, weight: int) -> Room:
    period = datetime.timedelta(seconds=rate.seconds)
    newest_first = [
        start
        for start in sorted(tables.starts, key=lambda start: start.at, reverse=True)
        if start.name == name
        and key in (None, start.key)
        and tables.now - period < start.at <= plus(tables.now, max(period, _TOLERANCE))
    ]
    taken = _unstarted(tables, name, key)
    free = rate.count - taken - sum(start.weight for start in newest_first)
    if free >= weight:
        return Room(free=free)
    # Jobs that have not started are the newest of all. Then the newest start that must leave the window.
    leaves_at = tables.now
    for start in newest_first if taken <= rate.count - weight else []:
        taken += start.weight
        if taken > rate.count - weight:
            leaves_at = start.at
            break
    return Room(free=free, opens_at=plus(leaves_at, period))


def _unstarted(tables: Tables, name: str, key: str | None) -> int:
    """Return the weight of the jobs that have a slot and that no worker has claimed."""
    admitted = tables.where(lambda row: row["status"] == TODO and tables.holds_slot(row))
    return sum(tables.weight(row) for row in admitted if tables.is_of(row, name, key))
