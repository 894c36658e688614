"""Rates: how many jobs of a limit may start in any window of time, and when the next one may.

A trigger records each start with the server's clock, in the statement that claims the job. An admission counts those
starts, and a job with a slot that no worker has claimed yet counts as one that starts now. So a claim may come as late
as it likes. Take the starts of a window, and of these the job that was admitted last: its admission has counted all
the others.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from procrastinate.core.arrays import is_one_of, unnest
from procrastinate.core.defaults import CLOCK_TOLERANCE, LARGEST_COUNT, LONGEST
from procrastinate.core.limit_locks import limit_kept
from procrastinate.core.tables import (
    PROMOTED,
    TODO,
    at_least_one,
    holds_slot,
    is_in_line,
    jobs,
    limits,
    slots_of,
    starts,
    windows,
)
from procrastinate.core.windows import first_window


@dataclasses.dataclass(frozen=True, order=True, slots=True)
class RateTerms:
    """At most ``count`` starts in any window of this many ``seconds``. A heavy job counts as several."""

    count: int
    seconds: float


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Room:
    """How many more starts the rates allow now. The number is negative if there were more than they allow.

    If the next job counts as more, ``opens_at`` is the time of its start.
    """

    free: int
    opens_at: datetime.datetime | None = None


_NO_STARTS = RateTerms(0, LONGEST)


def write_rates(rates: Sequence[RateTerms]) -> str | None:
    """Return rates as the column has them: ``"10/1.0 1000/3600.0"``. No rates are ``None``."""
    return " ".join(f"{rate.count}/{rate.seconds!r}" for rate in sorted(rates)) or None


def read_rates(text: str | None) -> tuple[RateTerms, ...]:
    """Return the rates of a column. One that cannot be read, such as that of a later release, lets no job start.

    Plain SQL may have stored larger numbers than the code can define.
    """
    return tuple(_read_rate(part) for part in (text or "").split())


def _read_rate(text: str) -> RateTerms:
    count, _, seconds = text.partition("/")
    try:
        rate = RateTerms(min(int(count), LARGEST_COUNT), min(float(seconds), LONGEST))
    except ValueError:
        return _NO_STARTS
    return rate if rate.count >= 1 and rate.seconds > 0 else _NO_STARTS


RATES = (
    sa.func.coalesce(limits.c.set_rates, limits.c.rates).label("rates"),
    sa.func.coalesce(limits.c.set_total_rates, limits.c.total_rates).label("total_rates"),
)
"""The rates that hold, for a key and for all keys together."""

_NAME = sa.bindparam("name", type_=sa.Text())


def seconds_long(seconds: sa.ColumnElement[Any]) -> sa.ColumnElement[datetime.timedelta]:
    """Return an interval of this many seconds."""
    return sa.func.make_interval(0, 0, 0, 0, 0, 0, seconds, type_=sa.Interval())


def _reach(period: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """Return how far after ``now()`` a start may lie and count.

    While a transaction lasts, others start jobs. A start that lies further off was recorded by a clock that was wrong
    and has been set back. It would keep the jobs of its key waiting until the server's clock gets there.
    """
    return sa.func.greatest(period, sa.literal(datetime.timedelta(seconds=CLOCK_TOLERANCE), sa.Interval()))


def _read_room(*, of_all_keys: bool) -> sa.Select[Any]:
    """Return the query for the room that each rate leaves to each key.

    One statement counts the starts and the jobs that have a slot and have not started. A job that starts at the same
    time is then counted once, as one or the other. ``now()`` is never later than the snapshot, so no start that belongs
    to the window is left out.
    """
    key = unnest({"key": sa.Text(), "weight": sa.Integer()}, name="asked")
    rate = unnest({"count": sa.Integer(), "seconds": sa.Double()}, name="rate")
    waiting = jobs.alias("waiting")
    period = seconds_long(rate.c.seconds)
    in_window = [
        starts.c.limit_name == _NAME,
        starts.c.at > sa.func.now() - period,
        starts.c.at <= sa.func.now() + _reach(period),
    ]
    unstarted = [holds_slot(waiting), waiting.c.status == TODO, waiting.c.readiness == PROMOTED]
    unstarted.append(waiting.c.limit_name == _NAME)
    if not of_all_keys:
        in_window.append(starts.c.limit_key == key.c.key)
        unstarted.append(waiting.c.limit_key == key.c.key)
    taken = sa.select(slots_of(waiting).label("number")).where(*unstarted).lateral("taken")
    weight = sa.func.sum(at_least_one(starts.c.weight))
    started = sa.select(sa.func.coalesce(weight, 0).label("number")).where(*in_window).lateral("started")
    # The start that must leave the window: there is room if only the newer ones are in it. Jobs that have not started
    # are the newest of all.
    numbered = sa.select(starts.c.at, weight.over(order_by=starts.c.at.desc()).label("number")).where(*in_window)
    newest = numbered.correlate(key, rate).subquery()  # a subquery in FROM is not correlated by itself
    room = rate.c.count - key.c.weight
    last = (
        sa.select(newest.c.at)
        .where(newest.c.number > room - taken.c.number)
        .order_by(newest.c.at.desc())
        .limit(1)
        .scalar_subquery()
    )
    opening = sa.case((taken.c.number > room, sa.func.now()), else_=last) + period
    return sa.select(
        key.c.key,
        key.c.weight,
        (rate.c.count - taken.c.number - started.c.number).label("free"),
        opening.label("opens_at"),
    ).select_from(key.join(rate, sa.true()).join(taken, sa.true()).join(started, sa.true()))


_READ_ROOM = _read_room(of_all_keys=False)
_READ_ROOM_OF_ALL = _read_room(of_all_keys=True)


def read_rooms(
    connection: sa.Connection, name: str, weights: Mapping[str, int], rates: Sequence[RateTerms]
) -> dict[str, Room]:
    """Return what the rates of a limit leave to each of the keys. Without rates, the answer is empty.

    Parameters
    ----------
    weights:
        The keys, and the weight of the next job of each.
    """
    return _rooms(connection, _READ_ROOM, name, weights, rates)


def read_room_of_all(
    connection: sa.Connection, name: str, rates: Sequence[RateTerms], *, weight: int = 1
) -> Room | None:
    """Return what the rates over all keys of a limit leave, or ``None`` if there are no such rates.

    Parameters
    ----------
    weight:
        The weight of the next job.
    """
    return _rooms(connection, _READ_ROOM_OF_ALL, name, {"": weight}, rates).get("")


def _rooms(
    connection: sa.Connection,
    statement: sa.Select[Any],
    name: str,
    weights: Mapping[str, int],
    rates: Sequence[RateTerms],
) -> dict[str, Room]:
    if not rates or not weights:
        return {}
    parameters = {
        "name": name,
        "key_list": list(weights),
        "weight_list": list(weights.values()),
        "count_list": [rate.count for rate in rates],
        "seconds_list": [rate.seconds for rate in rates],
    }
    rooms: dict[str, Room] = {}
    for row in connection.execute(statement, parameters):
        opening = row.opens_at if row.free < row.weight else None
        room = rooms.get(row.key, Room(free=row.free))
        rooms[row.key] = Room(free=min(room.free, row.free), opens_at=later(room.opens_at, opening))
    return rooms


def later(one: datetime.datetime | None, other: datetime.datetime | None) -> datetime.datetime | None:
    """Return the later one of two times. ``None`` means that there is no time to wait for."""
    known = [time for time in (one, other) if time is not None]
    return max(known, default=None)


def next_start(
    connection: sa.Connection,
    name: str,
    key: str,
    rates: Sequence[RateTerms],
    total_rates: Sequence[RateTerms],
    *,
    weight: int = 1,
) -> datetime.datetime | None:
    """Return the time before which the rates let no job of a key start, or ``None`` if one may start now.

    Parameters
    ----------
    weight:
        The weight of the job.
    """
    own = read_rooms(connection, name, {key: weight}, rates).get(key)
    of_all = read_room_of_all(connection, name, total_rates, weight=weight)
    return later(None if own is None else own.opens_at, None if of_all is None else of_all.opens_at)


def _take_windows() -> Any:
    first = (
        sa.select(windows.c.id)
        .where(windows.c.opens_at <= sa.func.now())
        .order_by(windows.c.opens_at)
        .limit(sa.bindparam("limit", type_=sa.Integer()))
        .with_for_update(skip_locked=True)
    )
    taken = sa.delete(windows).where(is_one_of(windows.c.id, first))
    return taken.returning(windows.c.limit_name, windows.c.limit_key, limit_kept(windows.c.limit_name).label("is_kept"))


_TAKE_WINDOWS = _take_windows()


def take_open_windows(connection: sa.Connection, limit: int) -> list[sa.Row[Any]]:
    """Remove the windows that have opened, at most ``limit``, and return their limits and keys.

    ``is_kept`` is false for a limit that another session changes.
    """
    return list(connection.execute(_TAKE_WINDOWS, {"limit": limit}))


def _keep_windows() -> Any:
    new = unnest({"key": sa.Text(), "opens_at": sa.DateTime(timezone=True)}, name="new")
    waiting = jobs.alias("waiting")
    has_line = (
        sa.select(waiting.c.id)
        .where(is_in_line(waiting), waiting.c.limit_name == _NAME, waiting.c.limit_key == new.c.key)
        .exists()
    )
    rows = sa.select(_NAME, new.c.key, new.c.opens_at).where(has_line).limit(sa.bindparam("limit", type_=sa.Integer()))
    statement = insert(windows).from_select(["limit_name", "limit_key", "opens_at"], rows)
    return statement.on_conflict_do_update(
        index_elements=["limit_name", "limit_key"], set_={"opens_at": statement.excluded.opens_at}
    )


_KEEP_WINDOWS = _keep_windows()
_LONGEST = seconds_long(sa.bindparam("seconds", type_=sa.Double()))
_FORGOTTEN_AT_ONCE = 1000


def _forget() -> sa.Delete:
    """Delete a bounded number of the starts that no rate reaches: the oldest, and the latest, if a clock was ahead.

    Each part follows the order of an index, so a plan that is made without the numbers reads no more either.
    """

    def first(condition: sa.ColumnElement[bool], order: sa.ColumnElement[Any], name: str) -> sa.Select[Any]:
        found = sa.select(starts.c.id).where(starts.c.limit_name == _NAME, condition).order_by(order)
        found = found.limit(sa.literal_column(str(_FORGOTTEN_AT_ONCE)))
        return sa.select(found.subquery(name).c.id)

    old = first(starts.c.at <= sa.func.now() - _LONGEST, starts.c.at, "old")
    ahead = first(starts.c.at > sa.func.now() + _reach(_LONGEST), starts.c.at.desc(), "ahead")
    forgotten = sa.union_all(old, ahead).subquery("forgotten")
    return sa.delete(starts).where(is_one_of(starts.c.id, sa.select(forgotten.c.id)))


_FORGET_STARTS = _forget()
ALL_RATES = sa.func.concat_ws(
    " ", limits.c.rates, limits.c.total_rates, limits.c.set_rates, limits.c.set_total_rates, type_=sa.Text()
).label("all_rates")
"""The rates of the code and those of an operator, whichever hold now: the others may hold again in a moment."""


def longest_window(all_rates: str | None) -> float:
    """Return the length of the longest window of all rates of a limit, or of the longest there can be without rates."""
    return max((rate.seconds for rate in read_rates(all_rates)), default=LONGEST)


def forget_starts(connection: sa.Connection, name: str, kept_for: float) -> None:
    """Delete starts of a limit that are older than this many seconds. No rate reaches them. The next call goes on."""
    connection.execute(_FORGET_STARTS, {"name": name, "seconds": kept_for})


def keep_windows(
    connection: sa.Connection,
    name: str,
    weights: Mapping[str, int],
    rates: Sequence[RateTerms],
    total_rates: Sequence[RateTerms],
    *,
    awaited: int = 0,
) -> None:
    """Note when to look at the keys in line again, because the rates let no more jobs start now.

    If the rate over all keys is used up, one of the keys does for all.

    Parameters
    ----------
    weights:
        The keys, and the weight of the next job of each.
    awaited:
        The weight of the job for which all keys wait. 0 if they wait for none.
    """
    of_all = read_room_of_all(connection, name, total_rates, weight=max(awaited, 1))
    if of_all is not None and of_all.opens_at is not None:
        openings = dict.fromkeys(weights, of_all.opens_at)
    else:
        rooms = read_rooms(connection, name, weights, rates)
        openings = {key: room.opens_at for key, room in rooms.items() if room.opens_at is not None}
    open_windows_at(connection, name, openings, limit=None if of_all is None or of_all.opens_at is None else 1)


def open_windows_at(
    connection: sa.Connection, name: str, times: Mapping[str, datetime.datetime], *, limit: int | None = None
) -> None:
    """Note when an admission must look at keys again: those that have jobs in line, ``limit`` of them at most."""
    if times:
        parameters = {"name": name, "key_list": list(times), "opens_at_list": list(times.values())}
        connection.execute(_KEEP_WINDOWS, {**parameters, "limit": len(times) if limit is None else limit})


# The difference of the times themselves is an error before PostgreSQL 17 if one of them is infinite.
_NEXT_WINDOW = sa.select(sa.extract("epoch", first_window()) - sa.extract("epoch", sa.func.clock_timestamp()))


def seconds_to_next_window(connection: sa.Connection) -> float | None:
    """Return the seconds until the next window opens, or ``None`` if no job waits for one."""
    seconds = connection.execute(_NEXT_WINDOW).scalar_one()
    return None if seconds is None else float(seconds)
