"""The operation that gives free slots of limits to the jobs in line.

Only an admission raises the number of jobs that have a slot. It takes the turn in a statement of its own, before those
that count: what it counts is younger than the commit of the admission before. A job that leaves hands its slot to one
other job, in a trigger, so the number does not grow.
"""

from __future__ import annotations

import dataclasses
import sys
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from procrastinate.core.arrays import array_param, is_not_set_aside, is_one_of, transpose, unnest
from procrastinate.core.enums import Readiness
from procrastinate.core.errors import is_row_refused
from procrastinate.core.hold_offs import read_hold_offs
from procrastinate.core.operation_marks import atomic
from procrastinate.core.promote import lock_holders, turn_taken
from procrastinate.core.rates import (
    RATES,
    keep_windows,
    open_windows_at,
    read_rates,
    read_room_of_all,
    read_rooms,
    seconds_to_next_window,
    take_open_windows,
)
from procrastinate.core.share import KeyState, LimitTerms, share_out
from procrastinate.core.tables import (
    UNDECIDED,
    holds_lock,
    holds_slot,
    is_in_line,
    is_parked,
    jobs,
    limits,
    openings,
)
from procrastinate.core.timeouts import end_when_left_alone
from procrastinate.core.turns import keep_last_turn, read_last_turn, within_capacity

ADMITTED_AT_ONCE = 500
"""How many openings one admission looks at, and how many jobs of a limit it lets go."""
_PARKED_AT_ONCE = 100
"""How many jobs of paused queues one look at a key takes out of its line."""
_KEYS_AT_ONCE = 1000
"""How many keys of a limit over all keys one admission looks at."""


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
    """How an admission decides. See :func:`admit_jobs` for the parameters."""

    limit: int
    paused: frozenset[str]
    set_aside: tuple[int, ...]
    one_by_one: bool

    @property
    def spare(self) -> int:
        """How many more jobs than there are slots are read of each key."""
        return _PARKED_AT_ONCE if self.paused else 0


@dataclasses.dataclass(frozen=True, slots=True)
class _Candidate:
    id: int
    key: str
    readiness: Readiness


@dataclasses.dataclass(frozen=True, slots=True)
class _Round:
    """What one look at the lines of some keys has decided."""

    candidates: Sequence[_Candidate]
    ended: frozenset[str]
    """Keys of which no more jobs are in line."""
    refused: tuple[Refusal, ...]

    @property
    def given(self) -> Counter[str]:
        """The number of jobs of each key that have got a slot."""
        return Counter(one.key for one in self.candidates if one.readiness is Readiness.PROMOTED)

    @property
    def undecided(self) -> tuple[int, ...]:
        """The jobs that stay in line. The next rounds pass them over, so that the jobs behind them get their slots."""
        return tuple(one.id for one in self.candidates if one.readiness is Readiness.IN_LINE)


_TAKE_TURN = sa.select(turn_taken())
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
        .returning(openings.c.lock, openings.c.limit_name, openings.c.limit_key)
    )


_TAKE_OPENINGS = _take_openings()


def _unpark() -> sa.Update:
    """Let the next job of each free lock be looked at. For a lock that has a holder, the holder will do it."""
    freed = sa.func.unnest(array_param("locks", sa.Text())).table_valued("lock", name="freed").render_derived()
    holder, waiting = jobs.alias("holder"), jobs.alias("waiting")
    is_held = sa.select(holder.c.id).where(holder.c.lock == freed.c.lock, holds_lock(holder)).exists()
    head = (
        sa.select(waiting.c.id)
        .where(waiting.c.lock == freed.c.lock, is_parked(waiting))
        .order_by(waiting.c.priority.desc(), waiting.c.id)
        .limit(1)
        .with_for_update(skip_locked=True)
        .lateral("head")
    )
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
_READ_TERMS = sa.select(*TERMS, *RATES).where(limits.c.name == sa.any_(array_param("names", sa.Text())))


def _count_held(name: sa.ColumnElement[Any], key: sa.ColumnElement[Any] | None) -> sa.ScalarSelect[int]:
    """Count the slots that are taken. The condition is that of the index, in full: the planner looks for it."""
    holder = jobs.alias("holder")
    count = sa.select(sa.func.count()).where(holds_slot(holder), holder.c.limit_name == name)
    return (count if key is None else count.where(holder.c.limit_key == key)).scalar_subquery()


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
    head = jobs.alias("head")
    first = (
        sa.select(head.c.priority, head.c.id)
        .where(is_in_line(head), head.c.limit_name == _NAME, head.c.limit_key == walk.c.key)
        .order_by(head.c.priority.desc(), head.c.id)
        .limit(1)
        .lateral("first")
    )
    return (
        sa.select(walk.c.key, walk.c.step, _count_held(_NAME, walk.c.key).label("held"))
        .select_from(walk.join(first, sa.true()))
        .order_by(first.c.priority.desc(), first.c.id)
    )


_READ_LINE = _read_line()
_COUNT_IN_ALL = sa.select(_count_held(_NAME, None))
_some_keys = sa.func.unnest(array_param("keys", sa.Text())).table_valued("key", name="some").render_derived()
_READ_KEYS = sa.select(_some_keys.c.key, _count_held(_NAME, _some_keys.c.key).label("held"))


def _heads() -> Any:
    """Lock the first jobs in line of each key. A row that another session has locked is passed over."""
    share = unnest({"key": sa.Text(), "number": sa.Integer()}, name="share")
    waiting = jobs.alias("waiting")
    head = (
        sa.select(waiting.c.id, waiting.c.lock, waiting.c.priority, waiting.c.queue_name)
        .where(
            is_in_line(waiting),
            waiting.c.limit_name == _NAME,
            waiting.c.limit_key == share.c.key,
            is_not_set_aside(waiting.c.id),
        )
        .order_by(waiting.c.priority.desc(), waiting.c.id)
        .limit(share.c.number)
        .with_for_update(skip_locked=True)
        .lateral("head")
    )
    columns = (share.c.key, head.c.id, head.c.lock, head.c.priority, head.c.queue_name)
    return sa.select(*columns).select_from(share.join(head, sa.true()))


_HEADS = _heads()
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

    For a worker. A lock that another session gives away at the same moment is a unique violation
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
    if not connection.execute(_TAKE_TURN).scalar_one():
        return Admission(again=True, had_turn=False)
    manner = _Manner(limit, frozenset(paused), tuple(set_aside), one_by_one)
    opened = connection.execute(_TAKE_OPENINGS, {"limit": limit}).all()
    locks = sorted({row.lock for row in opened if row.lock is not None})
    if locks and not one_by_one:
        _unpark_next(connection, locks)
    keys: dict[str, set[str]] = {}
    for row in opened:
        if row.limit_name is not None and row.limit_key is not None:
            keys.setdefault(row.limit_name, set()).add(row.limit_key)
    opened_windows = take_open_windows(connection, limit)
    for name, key in opened_windows:
        keys.setdefault(name, set()).add(key)
    defined = _read_terms(connection, keys)
    parts = [_admit_of(connection, name, terms, keys[name], manner) for name, terms in defined]
    starts_in = [part.next_start_in for part in parts if part.next_start_in is not None]
    return Admission(
        admitted=sum(part.admitted for part in parts),
        again=bool(locks) or limit in (len(opened), len(opened_windows)) or any(part.again for part in parts),
        undecided=sum(part.undecided for part in parts),
        next_start_in=min(starts_in, default=None),
        refused=tuple(refusal for part in parts for refusal in part.refused),
    )


def _unpark_next(connection: sa.Connection, locks: Sequence[str]) -> None:
    """Let the next job of each lock be looked at. One with a limit gets in line, so the lock stays open."""
    unparked = connection.execute(_UNPARK, {"locks": locks}).all()
    passed_by = [{"lock": row.lock} for row in unparked if row.limit_name is not None]
    if passed_by:
        connection.execute(sa.insert(openings), passed_by)


def _read_terms(connection: sa.Connection, names: Iterable[str]) -> list[tuple[str, LimitTerms]]:
    """Read the limits that are defined. Jobs of the others stay in line."""
    wanted = sorted(names)
    rows: Iterable[Any] = connection.execute(_READ_TERMS, {"names": wanted}) if wanted else ()
    return sorted(((row.name, terms_of(row)) for row in rows), key=lambda named: named[0])


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
    terms = within_capacity(connection, terms)
    read = _read_keys(connection, name, terms, looked_at)
    held_off = read_hold_offs(connection, name, [one.key for one in read])
    keys = [dataclasses.replace(one, room=0) if one.key in held_off else one for one in read]
    of_all = read_room_of_all(connection, name, terms.total_rates)
    room_in_all = sys.maxsize if of_all is None else of_all.free
    held_in_all = 0 if terms.total is None else connection.execute(_COUNT_IN_ALL, {"name": name}).scalar_one()
    has_more_keys = terms.is_over_all_keys and len(keys) >= _KEYS_AT_ONCE
    examined = admitted = 0
    undecided: tuple[int, ...] = ()
    refused: tuple[Refusal, ...] = ()
    last_key = None
    while shares := share_out(
        terms, keys, held_in_all=held_in_all, at_most=min(manner.limit - examined, room_in_all - admitted)
    ):
        rest = dataclasses.replace(manner, set_aside=manner.set_aside + undecided)
        one_round = _decide(connection, name, shares, rest)
        last_key = next((key for key in reversed(shares) if one_round.given[key]), last_key)
        given = one_round.given.total()
        examined += len(one_round.candidates)
        admitted, held_in_all = admitted + given, held_in_all + given
        undecided += one_round.undecided
        refused += one_round.refused
        keys = _keys_after(keys, one_round)
    if terms.is_fair and last_key is not None:
        keep_last_turn(connection, name, last_key)
    again = examined >= manner.limit or (has_more_keys and admitted > 0)
    if undecided or again:
        connection.execute(_OPEN_AGAIN, {"name": name, "keys": sorted(looked_at)})
    if terms.has_rates:
        others = [one.key for one in read if one.key not in held_off]
        keep_windows(connection, name, others, terms.rates, terms.total_rates)
    open_windows_at(connection, name, held_off)
    has_windows = terms.has_rates or bool(held_off)
    next_start_in = seconds_to_next_window(connection) if has_windows else None
    return Admission(
        admitted=admitted, undecided=len(undecided), again=again, refused=refused, next_start_in=next_start_in
    )


def _read_keys(connection: sa.Connection, name: str, terms: LimitTerms, looked_at: set[str]) -> list[KeyState]:
    """Read the keys that may get a slot, with the room that their rates leave."""
    keys = _read_keys_held(connection, name, terms, looked_at)
    rooms = read_rooms(connection, name, [one.key for one in keys], terms.rates)
    return [dataclasses.replace(one, room=rooms[one.key].free) if rooms else one for one in keys]


def _read_keys_held(connection: sa.Connection, name: str, terms: LimitTerms, looked_at: set[str]) -> list[KeyState]:
    """Read the keys that may get a slot. A slot of a limit over all keys may go to any key in line.

    If there are many keys in line, those after the one that has just left come first, so that each gets its turn. The
    keys of a fair limit always begin after the one that got the last slot. Those to look at come last: if their limit
    has more keys than one look reads, all the others may have no room.
    """
    if not terms.is_over_all_keys:
        return _read_some_keys(connection, name, looked_at)
    first = read_last_turn(connection, name) if terms.is_fair else min(looked_at)
    after, all_keys = _walk_line(connection, name, first)
    rows = [*all_keys, *after]
    if terms.is_fair:  # by turn, whatever the priorities of the jobs
        rows = sorted(after, key=lambda row: row.step) + sorted(all_keys, key=lambda row: row.step)
    keys = {row.key: KeyState(key=row.key, held=row.held) for row in rows}
    is_all = len(keys) < _KEYS_AT_ONCE
    return [*keys.values(), *([] if is_all else _read_some_keys(connection, name, looked_at - keys.keys()))]


def _read_some_keys(connection: sa.Connection, name: str, keys: Collection[str]) -> list[KeyState]:
    rows = connection.execute(_READ_KEYS, {"name": name, "keys": sorted(keys)}) if keys else ()
    return [KeyState(key=row.key, held=row.held) for row in rows]


def _walk_line(connection: sa.Connection, name: str, first: str | None) -> tuple[list[sa.Row[Any]], list[sa.Row[Any]]]:
    """Read the keys in line after the ``first``, and those from the beginning on if fewer than a thousand follow."""

    def read(after: str | None, limit: int) -> list[sa.Row[Any]]:
        return list(connection.execute(_READ_LINE, {"name": name, "after": after, "limit": limit}))

    following = [] if first is None else read(first, _KEYS_AT_ONCE)
    missing = _KEYS_AT_ONCE - len(following)
    return following, read(None, missing) if missing > 0 else []


def _decide(connection: sa.Connection, name: str, shares: Mapping[str, int], manner: _Manner) -> _Round:
    """Lock the first jobs in line, and give them their slots, or park them behind the holders of their locks.

    Jobs of paused queues leave the line: those behind them must not be looked for again and again.
    """
    numbers = {key: share + manner.spare for key, share in shares.items()}
    parameters = {
        "name": name,
        "key_list": list(numbers),
        "number_list": list(numbers.values()),
        "set_aside": list(manner.set_aside),
    }
    heads = sorted(connection.execute(_HEADS, parameters).all(), key=lambda row: (-row.priority, row.id))
    found = Counter(row.key for row in heads)
    parked = [row for row in heads if row.queue_name in manner.paused]
    chosen = _first_of_each([row for row in heads if row.queue_name not in manner.paused], shares)
    candidates = [
        *(_Candidate(id=row.id, key=row.key, readiness=Readiness.PARKED) for row in parked),
        *_candidates(connection, chosen),
    ]
    refused = _move(connection, [one for one in candidates if one.readiness is not Readiness.IN_LINE], manner)
    ids = {refusal.job_id for refusal in refused}
    candidates = [dataclasses.replace(one, readiness=Readiness.IN_LINE) if one.id in ids else one for one in candidates]
    ended = {key for key, number in numbers.items() if found[key] < number}
    return _Round(candidates, frozenset(ended), refused)


def _first_of_each(heads: Sequence[sa.Row[Any]], shares: Mapping[str, int]) -> list[sa.Row[Any]]:
    """Return as many of the jobs of each key as there are slots for it."""
    taken: Counter[str] = Counter()
    chosen = []
    for row in heads:
        if taken[row.key] < shares[row.key]:
            chosen.append(row)
            taken[row.key] += 1
    return chosen


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
        yield _Candidate(id=row.id, key=row.key, readiness=readiness)
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
    """Return the keys that may have more jobs in line, with the slots that they have now."""
    given = one_round.given
    return [
        dataclasses.replace(one, held=one.held + given[one.key], room=one.room - given[one.key])
        for one in keys
        if one.key not in one_round.ended
    ]
