"""The operation that gives free slots of limits to the jobs in line.

Only an admission raises the number of jobs that have a slot. It takes the turn in a statement of its own, before those
that count: what it counts is younger than the commit of the admission before. A job that leaves hands its slot to one
other job, in a trigger, so the number does not grow.
"""

from __future__ import annotations

import dataclasses
import datetime
import sys
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from procrastinate.core.arrays import array_param, is_one_of, transpose, unnest
from procrastinate.core.enums import Readiness
from procrastinate.core.errors import is_row_refused
from procrastinate.core.hold_offs import read_hold_offs
from procrastinate.core.limit_locks import limit_is_changed, limit_kept
from procrastinate.core.lines import KEYS_AT_ONCE, Held, Lines, read_held, with_rooms
from procrastinate.core.lock_timeouts import end_when_left_alone, waits_briefly
from procrastinate.core.lowering import take_slots_back
from procrastinate.core.operation_marks import atomic
from procrastinate.core.pauses import is_open
from procrastinate.core.promote import turn_taken
from procrastinate.core.rates import (
    ALL_RATES,
    RATES,
    forget_starts,
    keep_windows,
    longest_window,
    open_windows_at,
    read_rates,
    read_room_of_all,
    seconds_to_next_window,
    take_open_windows,
)
from procrastinate.core.served_queues import may_have_slot, served_queues
from procrastinate.core.share import KeyState, LimitTerms, Shares, share_out
from procrastinate.core.tables import (
    UNDECIDED,
    holds_lock,
    is_in_line,
    jobs,
    limits,
    openings,
)
from procrastinate.core.turns import keep_last_turn, within_capacity
from procrastinate.core.verdicts import first_parked, lock_holders

ADMITTED_AT_ONCE = 500
"""How many openings one admission looks at, and how many jobs of a limit it lets go."""
LONGEST_CHANGE = datetime.timedelta(seconds=0.5)
"""How long an admission waits for a transaction that changes a limit, counted from its beginning."""
_PARKED_AT_ONCE = 100
"""How many jobs of paused and unserved queues one look at a key takes out of its line."""


@dataclasses.dataclass(frozen=True, slots=True)
class Refusal:
    """A job that the database refuses to change, and its error."""

    job_id: int
    error: Exception


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Admission:
    """Result of an admission.

    ``admitted`` jobs are ready for a fetch. ``again`` is true if more remains to decide. ``undecided`` is the number
    of jobs that stay in line because a row on which they depend is locked. ``had_turn`` is false if another session has
    the turn, and nothing was done. ``refused`` jobs stay in line. ``next_start_in`` is the time in seconds until a
    rate or a hold-off lets the next job start, or ``None`` if no job waits for one.
    """

    admitted: int = 0
    again: bool = False
    undecided: int = 0
    had_turn: bool = True
    next_start_in: float | None = None
    refused: tuple[Refusal, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class _Manner:
    """How an admission decides. See :func:`admit_jobs` for the parameters.

    ``served`` are the queues that workers serve, or ``None`` for all.
    """

    limit: int
    paused: frozenset[str]
    served: frozenset[str] | None
    set_aside: tuple[int, ...]
    one_by_one: bool

    def is_shut(self, queue: str | None) -> bool:
        """Return whether jobs of a queue get no slot, because it is paused or no worker serves it."""
        return queue in self.paused or (self.served is not None and queue not in self.served)


@dataclasses.dataclass(frozen=True, slots=True)
class _Candidate:
    id: int
    key: str
    weight: int
    readiness: Readiness


@dataclasses.dataclass(frozen=True, slots=True)
class _Round:
    """What one look at the lines of some keys has decided."""

    candidates: Sequence[_Candidate]
    ended: frozenset[str]
    """Keys of which no more jobs are in line."""
    weights: Mapping[str, int]
    """The weight of the next job of each key that was looked at, or 1 if it is not known."""
    refused: tuple[Refusal, ...]
    has_shut: bool
    """Whether there were jobs of paused or unserved queues."""

    @property
    def promoted(self) -> list[_Candidate]:
        return [one for one in self.candidates if one.readiness is Readiness.PROMOTED]

    @property
    def undecided(self) -> tuple[int, ...]:
        """The jobs that stay in line. The next rounds pass them over, so that the jobs behind them get their slots."""
        return tuple(one.id for one in self.candidates if one.readiness is Readiness.IN_LINE)


@dataclasses.dataclass(frozen=True, slots=True)
class _Given:
    """What the rounds of an admission have given away."""

    examined: int = 0
    jobs: int = 0
    slots: int = 0
    undecided: tuple[int, ...] = ()
    refused: tuple[Refusal, ...] = ()
    last_key: str | None = None
    has_shut: bool = False

    def with_round(self, one_round: _Round, *, keys: Iterable[str]) -> _Given:
        """Return the sum with another round. The last key is the last of ``keys`` that got a slot."""
        promoted = one_round.promoted
        given = {one.key for one in promoted}
        return _Given(
            examined=self.examined + len(one_round.candidates),
            jobs=self.jobs + len(promoted),
            slots=self.slots + sum(one.weight for one in promoted),
            undecided=self.undecided + one_round.undecided,
            refused=self.refused + one_round.refused,
            last_key=next((key for key in keys if key in given), self.last_key),
            has_shut=self.has_shut or one_round.has_shut,
        )


# The trigger takes back what a release without weights gives away of a limit that has heavy jobs.
_KNOWS_WEIGHTS = sa.func.set_config("procrastinate.weights", "known", sa.true())
_TAKE_TURN = sa.select(turn_taken().label("is_ours"), served_queues().label("served"), _KNOWS_WEIGHTS, waits_briefly())
_NAME = sa.bindparam("name", type_=sa.Text())


def _take_openings() -> Any:
    first = (
        sa.select(openings.c.id)
        .order_by(openings.c.id)
        .limit(sa.bindparam("limit", type_=sa.Integer()))
        .with_for_update(skip_locked=True)
    )
    return (
        sa.delete(openings)
        .where(is_one_of(openings.c.id, first))
        .returning(
            openings.c.lock,
            openings.c.limit_name,
            openings.c.limit_key,
            limit_kept(openings.c.limit_name).label("is_kept"),
        )
    )


_TAKE_OPENINGS = _take_openings()


def _unpark() -> sa.Update:
    """Let the next job of each free lock be looked at. For a lock that has a holder, the holder will do it.

    A job that would be parked again because of its queue is passed over. The lock would be looked at without end.
    """
    freed = sa.func.unnest(array_param("locks", sa.Text())).table_valued("lock", name="freed").render_derived()
    holder = jobs.alias("holder")
    is_held = sa.select(holder.c.id).where(holder.c.lock == freed.c.lock, holds_lock(holder)).exists()
    head = first_parked(freed.c.lock, is_open, may_have_slot)
    heads = sa.select(head.c.id).select_from(freed.join(head, sa.true())).where(~is_held)
    return (
        sa.update(jobs)
        .where(is_one_of(jobs.c.id, heads))
        .values(readiness=UNDECIDED)
        .returning(jobs.c.lock, jobs.c.limit_name)
    )


_UNPARK = _unpark()
TERMS = (
    limits.c.name,
    sa.func.coalesce(limits.c.set_concurrency, limits.c.concurrency).label("concurrency"),
    sa.func.coalesce(limits.c.set_total, limits.c.total).label("total"),
    limits.c.fair,
)
_READ_TERMS = sa.select(*TERMS, *RATES, ALL_RATES).where(limits.c.name == sa.any_(array_param("names", sa.Text())))


_changed = sa.func.unnest(array_param("names", sa.Text())).table_valued("name", name="changed").render_derived()
_CHANGED = sa.select(_changed.c.name).where(
    limit_is_changed(_changed.c.name, sa.bindparam("within", type_=sa.Interval()))
)

_wanted = unnest({"id": sa.BigInteger(), "lock": sa.Text(), "priority": sa.Integer()}, name="asked")
_READ_HOLDERS = sa.select(lock_holders(sa.select(_wanted.c.id, _wanted.c.lock, _wanted.c.priority).cte("asked_for")))
_decided = unnest({"id": sa.BigInteger(), "readiness": sa.Integer()}, name="decided")
_DECIDE = (
    sa.update(jobs)
    .where(jobs.c.id == _decided.c.id, is_in_line(), is_one_of(jobs.c.id, sa.select(_decided.c.id)))
    .values(readiness=_decided.c.readiness)
)
_named = sa.func.unnest(array_param("keys", sa.Text())).table_valued("key", name="named").render_derived()
_OPEN_AGAIN = sa.insert(openings).from_select(["limit_name", "limit_key"], sa.select(_NAME, _named.c.key))


@atomic
def admit_jobs(
    connection: sa.Connection,
    *,
    limit: int = ADMITTED_AT_ONCE,
    paused: Collection[str] = (),
    set_aside: Sequence[int] = (),
    one_by_one: bool = False,
) -> Admission:
    """Give free slots to the jobs in line, for the limits and locks of at most ``limit`` openings.

    For a worker, which fetches no job before the end of this. So it waits at most half a second for a row that a user
    has locked, and then raises a lock timeout (:func:`~procrastinate.core.errors.is_lock_timeout`). A lock that another
    session gives away at the same moment is a unique violation
    (:func:`~procrastinate.core.errors.is_unique_violation`). Call again then.

    Parameters
    ----------
    limit:
        Maximum number of openings, and of jobs of each limit, that are looked at.
    paused:
        Queues whose jobs are parked and get no slot.
    set_aside:
        Ids of jobs to pass over.
    one_by_one:
        Change each job in a savepoint of its own, because the database has refused to change one of them. The sweep of
        parked jobs frees the locks.
    """
    end_when_left_alone(connection)
    turn = connection.execute(_TAKE_TURN).one()
    if not turn.is_ours:
        return Admission(again=True, had_turn=False)
    served = None if turn.served is None else frozenset(turn.served)
    manner = _Manner(limit, frozenset(paused), served, tuple(set_aside), one_by_one)
    opened = connection.execute(_TAKE_OPENINGS, {"limit": limit}).all()
    locks = sorted({row.lock for row in opened if row.lock is not None})
    if locks and not one_by_one:
        _unpark_next(connection, locks)
    opened_windows = take_open_windows(connection, limit)
    keys, put_off = _keys_of(connection, [*opened, *opened_windows])
    if put_off:
        connection.execute(sa.insert(openings), put_off)
    defined = read_terms(connection, keys)
    parts = [_admit_of(connection, name, terms, keys[name], manner) for name, terms in defined]
    starts_in = [part.next_start_in for part in parts if part.next_start_in is not None]
    return Admission(
        admitted=sum(part.admitted for part in parts),
        again=bool(locks) or limit in (len(opened), len(opened_windows)) or any(part.again for part in parts),
        undecided=len(put_off) + sum(part.undecided for part in parts),
        next_start_in=min(starts_in, default=None),
        refused=tuple(refusal for part in parts for refusal in part.refused),
    )


def _keys_of(
    connection: sa.Connection, rows: Iterable[sa.Row[Any]]
) -> tuple[dict[str, set[str]], list[dict[str, str]]]:
    """Return the keys to look at by limit, and the openings of limits that other sessions change at the moment.

    Such a session takes back what it sees, so nothing is given away until it ends. No job waits long for that: if the
    transaction stays open, admissions go on by the former numbers.
    """
    keys: dict[str, set[str]] = {}
    changing = set()
    for row in rows:
        if row.limit_name is not None and row.limit_key is not None:
            keys.setdefault(row.limit_name, set()).add(row.limit_key)
            if not row.is_kept:
                changing.add(row.limit_name)
    asked = {"names": sorted(changing), "within": LONGEST_CHANGE}
    waits = sorted(connection.execute(_CHANGED, asked).scalars()) if changing else ()
    return keys, [{"limit_name": name, "limit_key": key} for name in waits for key in sorted(keys.pop(name))]


def _unpark_next(connection: sa.Connection, locks: Sequence[str]) -> None:
    """Let the next job of each lock be looked at. One with a limit gets in line, so the lock stays open."""
    unparked = connection.execute(_UNPARK, {"locks": locks}).all()
    passed_by = [{"lock": row.lock} for row in unparked if row.limit_name is not None]
    if passed_by:
        connection.execute(sa.insert(openings), passed_by)


def read_terms(connection: sa.Connection, names: Iterable[str]) -> list[tuple[str, LimitTerms]]:
    """Read the limits that are defined. Jobs of the others stay in line, and so do those of a row without numbers."""
    wanted = sorted(names)
    rows: Iterable[Any] = connection.execute(_READ_TERMS, {"names": wanted}) if wanted else ()
    terms = {row.name: dataclasses.replace(terms_of(row), kept_for=longest_window(row.all_rates)) for row in rows}
    return [(name, terms[name]) for name in sorted(terms) if terms[name] != LimitTerms()]


def terms_of(row: sa.Row[Any]) -> LimitTerms:
    """Return the numbers of a limit from a row with the columns ``TERMS`` and ``RATES``."""
    return LimitTerms(
        concurrency=row.concurrency,
        total=row.total,
        rates=read_rates(row.rates),
        total_rates=read_rates(row.total_rates),
        is_fair=bool(row.fair),
    )


def _admit_of(
    connection: sa.Connection, name: str, terms: LimitTerms, looked_at: set[str], manner: _Manner
) -> Admission:
    """Give away the slots of one limit, in rounds: the line of a key may be shorter than its share."""
    held = read_held(connection, name, terms)
    lines = Lines(connection, name, terms, held, paused=manner.paused, served=manner.served, set_aside=manner.set_aside)
    in_line = lines.read_keys(looked_at)
    if _is_exceeded(terms, held, in_line):
        take_slots_back(connection, name, terms)
    queues = {one.queue for one in in_line if not manner.is_shut(one.queue)}
    terms = within_capacity(connection, terms, queues | held.queues)
    held_off = read_hold_offs(connection, name, [one.key for one in in_line])
    others = [one for one in in_line if one.key not in held_off]
    keys = with_rooms(connection, name, others, terms.rates)
    of_all = read_room_of_all(connection, name, terms.total_rates)
    given = _Given()
    while True:
        shares = share_out(
            terms,
            keys,
            held_in_all=held.slots + given.slots,
            at_most=min(manner.limit - given.examined, held.jobs_left(terms) - given.jobs),
            room_in_all=sys.maxsize if of_all is None else of_all.free - given.slots,
        )
        if not shares.by_key:
            break
        one_round = _decide(connection, lines, shares, keys, given, manner)
        given = given.with_round(one_round, keys=reversed(shares.by_key))
        keys = _keys_after(keys, one_round)
    if terms.is_fair and given.last_key is not None:
        keep_last_turn(connection, name, given.last_key)
    has_more_keys = terms.is_over_all_keys and len(in_line) >= KEYS_AT_ONCE
    # The queues behind a job that is parked are not known yet, so the capacity may be too low.
    may_have_more = (has_more_keys and given.jobs > 0) or (terms.is_fair and given.has_shut)
    again = given.examined >= manner.limit or may_have_more
    if given.undecided or again:
        connection.execute(_OPEN_AGAIN, {"name": name, "keys": sorted(looked_at)})
    if terms.has_rates:
        weights = {one.key: one.weight for one in (*others, *keys)}
        forget_starts(connection, name, terms.kept_for)
        keep_windows(connection, name, weights, terms.rates, terms.total_rates, awaited=shares.awaited)
    open_windows_at(connection, name, held_off)
    has_windows = terms.has_rates or bool(held_off)
    return Admission(
        admitted=given.jobs,
        undecided=len(given.undecided),
        again=again,
        refused=given.refused,
        next_start_in=seconds_to_next_window(connection) if has_windows else None,
    )


def _is_exceeded(terms: LimitTerms, held: Held, in_line: Sequence[KeyState]) -> bool:
    """Return whether more slots are taken than the limit has, because it was lowered. Running jobs keep theirs."""
    by_key = terms.concurrency is not None and any(one.held > terms.concurrency for one in in_line)
    return by_key or (terms.total is not None and held.slots > terms.total)


def _decide(
    connection: sa.Connection,
    lines: Lines,
    shares: Shares,
    keys: Sequence[KeyState],
    given: _Given,
    manner: _Manner,
) -> _Round:
    """Lock the first jobs in line, and give them their slots, or park them behind the holders of their locks.

    Jobs of paused and unserved queues leave the line: those behind them must not be looked for again and again.
    """
    weights = {one.key: one.weight for one in keys}
    numbers = {key: slots // weights[key] for key, slots in shares.by_key.items()}
    spare = _PARKED_AT_ONCE if manner.paused or given.has_shut else 0
    wanted = {key: number + spare for key, number in numbers.items()}
    heads = lines.lock_heads(wanted, given.undecided)
    found = Counter(row.key for row in heads)
    parked = [row for row in heads if manner.is_shut(row.queue_name)]
    open_heads = [row for row in heads if not manner.is_shut(row.queue_name)]
    chosen, too_heavy = _first_of_each(open_heads, shares, numbers)
    candidates = [
        *(_Candidate(id=row.id, key=row.key, weight=row.weight, readiness=Readiness.PARKED) for row in parked),
        *_candidates(connection, chosen),
    ]
    refused = _move(connection, [one for one in candidates if one.readiness is not Readiness.IN_LINE], manner)
    ids = {refusal.job_id for refusal in refused}
    candidates = [dataclasses.replace(one, readiness=Readiness.IN_LINE) if one.id in ids else one for one in candidates]
    ended = {key for key, number in wanted.items() if found[key] < number and key not in too_heavy}
    next_weights = dict.fromkeys(shares.by_key, 1) | too_heavy
    return _Round(candidates, frozenset(ended), next_weights, refused, has_shut=bool(parked))


def _first_of_each(
    heads: Sequence[sa.Row[Any]], shares: Shares, numbers: Mapping[str, int]
) -> tuple[list[sa.Row[Any]], dict[str, int]]:
    """Return the first jobs of each key that fit into its share, and the weight of each that does not fit.

    No job passes one of its key that does not fit. Otherwise lighter jobs would take each slot that becomes free.
    """
    left = dict(shares.by_key)
    taken: Counter[str] = Counter()
    chosen = []
    too_heavy: dict[str, int] = {}
    for row in heads:
        if row.key in too_heavy or taken[row.key] >= numbers[row.key]:
            continue
        if row.weight > left[row.key]:
            too_heavy[row.key] = row.weight
            continue
        chosen.append(row)
        taken[row.key] += 1
        left[row.key] -= row.weight
    return chosen, too_heavy


def _candidates(connection: sa.Connection, heads: Sequence[sa.Row[Any]]) -> Iterator[_Candidate]:
    """Decide on jobs for which there are slots."""
    wanted = [row for row in heads if row.lock is not None]
    holders: dict[str, Any] = {}
    if wanted:
        asked: dict[str, Any] = transpose(wanted, ("id", "lock", "priority"))
        holders = {row.lock: row for row in connection.execute(_READ_HOLDERS, asked)}
    locks: set[str] = set()
    for row in heads:
        readiness = _readiness(row.lock, holders.get(row.lock), is_first=row.lock not in locks)
        yield _Candidate(id=row.id, key=row.key, weight=row.weight, readiness=readiness)
        locks.add(row.lock)


def _move(connection: sa.Connection, moved: Sequence[_Candidate], manner: _Manner) -> tuple[Refusal, ...]:
    """Write the decisions, and return the jobs that the database refuses to change."""
    if not manner.one_by_one:
        if moved:
            connection.execute(_DECIDE, transpose(moved, ("id", "readiness")))
        return ()
    refused = []
    for one in moved:
        try:
            with connection.begin_nested():
                connection.execute(_DECIDE, transpose([one], ("id", "readiness")))
        except sa.exc.DBAPIError as error:
            if not is_row_refused(error):
                raise
            refused.append(Refusal(one.id, error))
    return tuple(refused)


def _readiness(lock: str | None, holder: Any, *, is_first: bool) -> Readiness:
    """Decide on a job for which there is a slot, as a promotion does.

    A job is parked behind a holder only while the row of the holder is locked. It could leave unseen otherwise.
    """
    if lock is None:
        return Readiness.PROMOTED
    if not is_first:
        return Readiness.PARKED
    if holder.seen_id is None:
        return Readiness.PROMOTED
    return Readiness.IN_LINE if holder.kept_id is None else Readiness.PARKED


def _keys_after(keys: Sequence[KeyState], one_round: _Round) -> list[KeyState]:
    """Return the keys that may have more jobs in line, with the slots that they have now.

    The weight of a next job is known if it did not fit. Otherwise the next round tries whether one slot is enough. A
    key that was not looked at keeps its weight, so each round either gives something away or learns a higher weight.
    """
    given: Counter[str] = Counter()
    for one in one_round.promoted:
        given[one.key] += one.weight
    return [
        dataclasses.replace(
            one,
            held=one.held + given[one.key],
            room=one.room - given[one.key],
            weight=one_round.weights.get(one.key, one.weight),
        )
        for one in keys
        if one.key not in one_round.ended
    ]
