"""The lines of limits in memory: the admission of jobs in line.

:mod:`procrastinate.core.admit` documents the rules. There are no openings in memory: an admission looks at every line.
"""

from __future__ import annotations

import datetime
import itertools
import sys
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

from procrastinate.core import Admission, Readiness
from procrastinate.core.rates import later
from procrastinate.core.share import KeyState, LimitTerms, Shares, Unclaimed, excess, share_out
from procrastinate.testing.limit_rows import LeftSlot
from procrastinate.testing.rates import held_off_until, room_of

if TYPE_CHECKING:
    from procrastinate.testing.rows import JobRow
    from procrastinate.testing.tables import Tables

Places: TypeAlias = "dict[str, list[JobRow]]"


def admit(tables: Tables) -> Admission:
    """Give the free slots to the jobs in line."""
    names = {tables.progress(row["id"]).limit_name for row in tables.where(tables.is_in_line)}
    defined = {name: tables.limits[name].terms for name in sorted(name for name in names if name in tables.limits)}
    parts = [_admit_of(tables, name, terms) for name, terms in defined.items() if terms != LimitTerms()]
    starts_in = [part.next_start_in for part in parts if part.next_start_in is not None]
    return Admission(admitted=sum(part.admitted for part in parts), next_start_in=min(starts_in, default=None))


def hand_over(tables: Tables, left: Collection[LeftSlot]) -> bool:
    """Let the next jobs of these keys have the slots that jobs have left, and no more slots than these.

    Return whether jobs wait for an admission. Only it knows which job is next if other numbers than the concurrency
    hold, if the key is held off, or if the next job needs a lock or more slots.
    """
    freed: Counter[tuple[str, str]] = Counter()
    for slot in left:
        freed[slot.name, slot.key] += slot.weight
    is_awaited = False
    for (name, key), slots in sorted(freed.items()):
        given = _next_jobs(tables, name, key, slots)
        tables.update({row["id"]: {"readiness": Readiness.PROMOTED} for row in given})
        has_more = sum(map(tables.weight, given)) < slots and bool(line_of(tables, name))
        is_awaited = is_awaited or has_more
    return is_awaited


def _next_jobs(tables: Tables, name: str, key: str, freed: int) -> Sequence[JobRow]:
    """Return the jobs that get the slots of their key which have become free."""
    terms = tables.limits[name].terms if name in tables.limits else LimitTerms()
    if terms.concurrency is None or terms != LimitTerms(concurrency=terms.concurrency):
        return ()
    if held_off_until(tables, name, key) is not None:
        return ()
    free = min(freed, terms.concurrency - held_by_key(tables, name)[key])
    line = _fitting(tables, line_of(tables, name, key), terms).get(key, [])
    return [row for row in _first_of(tables, line, free) if row["lock"] is None]


def _admit_of(tables: Tables, name: str, terms: LimitTerms) -> Admission:
    """Give away the slots of one limit, in rounds: the line of a key may be shorter than its share."""
    admitted = 0
    keys = _keys_in_order(tables, name, terms)
    capacity = _capacity(tables, name, terms)
    while True:
        line = _fitting(tables, line_of(tables, name), terms)
        shares = _shares(tables, name, terms, {key: line[key] for key in keys if key in line}, capacity)
        chosen = [row for key, slots in shares.by_key.items() for row in _first_of(tables, line[key], slots)]
        verdict = _verdict(tables, sorted(chosen, key=lambda row: (-row["priority"], row["id"])))
        if not verdict:
            next_start = _next_start(tables, name, terms, line, awaited=shares.awaited)
            starts_in = None if next_start is None else (next_start - tables.now).total_seconds()
            return Admission(admitted=admitted, next_start_in=starts_in)
        tables.update({job_id: {"readiness": readiness} for job_id, readiness in verdict.items()})
        promoted = {job_id for job_id, readiness in verdict.items() if readiness is Readiness.PROMOTED}
        admitted += len(promoted)
        served = {tables.progress(job_id).limit_key or "" for job_id in promoted}
        last_key = next((key for key in reversed(shares.by_key) if key in served), None)
        if last_key is not None:
            tables.last_keys[name] = last_key


def _keys_in_order(tables: Tables, name: str, terms: LimitTerms) -> list[str]:
    """Return the keys in line that are not held off, first the one whose turn it is."""
    keys = list(_fitting(tables, line_of(tables, name), terms))
    if terms.is_fair:
        last = tables.last_keys.get(name)
        keys.sort(key=lambda key: (last is not None and key <= last, key))
    return [key for key in keys if held_off_until(tables, name, key) is None]


def _capacity(tables: Tables, name: str, terms: LimitTerms) -> int:
    """Return how many jobs of the limit may have slots at once, whatever their weights."""
    if not terms.is_fair:
        return sys.maxsize
    heads = [rows[0] for rows in _fitting(tables, line_of(tables, name), terms).values()]
    queues = {row["queue_name"] for row in (*heads, *holders_of(tables, name))}
    slots = 0
    for worker_id in tables.workers:
        identity = tables.worker_identities.get(worker_id)
        if identity is None or not identity.queues or queues.intersection(identity.queues):
            slots += 1 if identity is None else identity.concurrency
    return max(slots, 1)


def _shares(tables: Tables, name: str, terms: LimitTerms, line: Places, capacity: int) -> Shares:
    """Decide how many slots each key gets."""
    holders = holders_of(tables, name)
    held = held_by_key(tables, name)
    keys = []
    for key, rows in line.items():
        weight = tables.weight(rows[0])
        room = room_of(tables, name, key, terms.rates, weight=weight)
        keys.append(KeyState(key=key, held=held[key], weight=weight, room=sys.maxsize if room is None else room.free))
    of_all = room_of(tables, name, None, terms.total_rates, weight=1)
    return share_out(
        terms,
        keys,
        held_in_all=held.total(),
        at_most=min(len(tables.jobs), capacity - len(holders)),
        room_in_all=sys.maxsize if of_all is None else of_all.free,
    )


def excess_of(tables: Tables, name: str, terms: LimitTerms, unclaimed: Sequence[Unclaimed]) -> Sequence[int]:
    """Return the ids of the jobs that have a slot too many, of those that no worker has claimed."""
    if terms == LimitTerms():
        return [one.id for one in unclaimed]
    held = held_by_key(tables, name)
    own: Counter[str] = Counter()
    for one in unclaimed:
        own[one.key] += one.weight
    rooms = {}
    for key, slots in own.items():
        room = room_of(tables, name, key, terms.rates, weight=1)
        left = sys.maxsize if terms.concurrency is None else terms.concurrency - held[key]
        rooms[key] = slots + (left if room is None else min(left, room.free))
    of_all = room_of(tables, name, None, terms.total_rates, weight=1)
    left_in_all = sys.maxsize if terms.total is None else terms.total - held.total()
    return excess(
        unclaimed,
        rooms,
        room_in_all=own.total() + (left_in_all if of_all is None else min(left_in_all, of_all.free)),
        jobs_in_all=_capacity(tables, name, terms) - len(holders_of(tables, name)) + len(unclaimed),
        heaviest=terms.heaviest,
    )


def _next_start(
    tables: Tables, name: str, terms: LimitTerms, line: Places, *, awaited: int
) -> datetime.datetime | None:
    """Return when the rates and hold-offs let the next job of a key in line start that they stop now."""
    times = []
    for key, rows in line.items():
        own = next_start_of(tables, name, key, terms, weight=tables.weight(rows[0]), weight_in_all=max(awaited, 1))
        times += [] if own is None else [own]
    return min(times, default=None)


def next_start_of(
    tables: Tables, name: str, key: str, terms: LimitTerms, *, weight: int, weight_in_all: int
) -> datetime.datetime | None:
    """Return the time before which rates and hold-offs let no job of a key start, or ``None`` if one may start now."""
    own = room_of(tables, name, key, terms.rates, weight=weight)
    of_all = room_of(tables, name, None, terms.total_rates, weight=weight_in_all)
    by_rates = later(None if own is None else own.opens_at, None if of_all is None else of_all.opens_at)
    return later(by_rates, held_off_until(tables, name, key))


def held_by_key(tables: Tables, name: str) -> Counter[str]:
    """Return the number of slots that are taken, by key."""
    held: Counter[str] = Counter()
    for row in holders_of(tables, name):
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


def _verdict(tables: Tables, rows: Sequence[JobRow]) -> Mapping[int, Readiness]:
    """Promote the jobs, but park those whose lock is held."""
    held = set(tables.holders())
    verdict: dict[int, Readiness] = {}
    for row in rows:
        verdict[row["id"]] = Readiness.PARKED if row["lock"] in held else Readiness.PROMOTED
        if row["lock"] is not None:
            held.add(row["lock"])
    return verdict


def holders_of(tables: Tables, name: str, key: str | None = None) -> list[JobRow]:
    """Return the jobs that have slots, of one key or of all."""
    return [row for row in tables.where(tables.holds_slot) if tables.is_of(row, name, key)]


def line_of(tables: Tables, name: str, key: str | None = None) -> Places:
    """Return the jobs in line by key, each line and the keys in the order of their first jobs.

    Jobs of queues that are paused, or that no worker serves, are left out.
    """
    rows = [
        row
        for row in tables.where(tables.is_in_line)
        if tables.is_of(row, name, key) and row["queue_name"] not in tables.paused_queues() and tables.is_served(row)
    ]
    line: Places = {}
    for row in sorted(rows, key=lambda row: (-row["priority"], row["id"])):
        line.setdefault(tables.progress(row["id"]).limit_key or "", []).append(row)
    return line
