"""Hold-offs: no job of a key of a limit gets a slot until a time, because a job of the key was told to wait.

The time is stored by the server's clock. An admission gives a key that is held off no slot, and triggers leave the
slots of such a key to an admission.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from procrastinate.core.arrays import array_param, is_one_of
from procrastinate.core.defaults import LONGEST
from procrastinate.core.errors import is_lock_timeout, is_row_refused
from procrastinate.core.lock_timeouts import wait_briefly
from procrastinate.core.operation_marks import atomic
from procrastinate.core.promote import turn_awaited
from procrastinate.core.rates import open_windows_at, seconds_long
from procrastinate.core.tables import IN_LINE, PROMOTED, TODO, hold_offs, holds_slot, jobs

_NAME = sa.bindparam("name", type_=sa.Text())
_KEY = sa.bindparam("key", type_=sa.Text())
_TAKE_TURN = sa.select(turn_awaited())


def _forget() -> sa.Delete:
    """Delete the hold-offs of a limit that are over, and pass over a row that another session has locked."""
    over = (
        sa.select(hold_offs.c.limit_key)
        .where(hold_offs.c.limit_name == _NAME, hold_offs.c.until <= sa.func.clock_timestamp())
        .with_for_update(skip_locked=True)
    )
    return sa.delete(hold_offs).where(hold_offs.c.limit_name == _NAME, is_one_of(hold_offs.c.limit_key, over))


_FORGET = _forget()


def _readable(until: sa.ColumnElement[Any]) -> sa.ColumnElement[datetime.datetime]:
    """Return the time, or the longest hold-off from now if that is earlier. Drivers refuse ``infinity``."""
    longest = sa.func.now() + seconds_long(sa.literal(LONGEST, sa.Double()))
    return sa.func.least(until, longest, type_=sa.DateTime(timezone=True)).label("until")


_new = insert(hold_offs).values(
    limit_name=_NAME,
    limit_key=_KEY,
    until=sa.func.clock_timestamp() + seconds_long(sa.bindparam("seconds", type_=sa.Double())),
)
_HOLD_OFF = _new.on_conflict_do_update(
    index_elements=["limit_name", "limit_key"],
    set_={"until": sa.func.greatest(hold_offs.c.until, _new.excluded.until)},
).returning(_readable(hold_offs.c.until))


def _take_back() -> sa.Update:
    """Put the jobs that have a slot and that no worker has claimed back in line. A claim in progress goes on."""
    admitted = jobs.alias("admitted")
    ids = (
        sa.select(admitted.c.id)
        .where(
            holds_slot(admitted),
            admitted.c.status == TODO,
            admitted.c.readiness == PROMOTED,
            admitted.c.limit_name == _NAME,
            admitted.c.limit_key == _KEY,
        )
        .with_for_update(key_share=True, skip_locked=True)
    )
    return (
        sa.update(jobs)
        .where(is_one_of(jobs.c.id, ids))
        .values(readiness=IN_LINE, scheduled_at=sa.func.coalesce(jobs.c.scheduled_at, sa.func.now()))
    )


_TAKE_BACK = _take_back()


@atomic
def hold_off(connection: sa.Connection, name: str, key: str, seconds: float) -> None:
    """Let no further job of a key of a limit start for this many seconds.

    A hold-off that ends later stays. Hold-offs of the limit that are over are deleted.
    """
    _take_turn(connection)
    connection.execute(_FORGET, {"name": name})
    place = {"name": name, "key": key}
    until = connection.execute(_HOLD_OFF, {**place, "seconds": seconds}).scalar_one()
    _take_slots_back(connection, place)
    open_windows_at(connection, name, {key: until})


def _take_slots_back(connection: sa.Connection, place: Mapping[str, str]) -> None:
    """Take the slots of unclaimed jobs. If the database refuses to change one of them, all keep their slots."""
    try:
        with connection.begin_nested():
            connection.execute(_TAKE_BACK, place)
    except sa.exc.DBAPIError as error:
        if not is_row_refused(error):
            raise


_PLACE_OF_JOB = sa.select(jobs.c.limit_name, jobs.c.limit_key).where(
    jobs.c.id == sa.bindparam("job_id", type_=sa.BigInteger()), jobs.c.limit_name.is_not(None)
)


@atomic
def hold_off_key_of(connection: sa.Connection, job_id: int, seconds: float) -> bool:
    """Hold off the key of a job. Return false if the job has no limit."""
    place = connection.execute(_PLACE_OF_JOB, {"job_id": job_id}).one_or_none()
    if place is not None:
        hold_off(connection, place.limit_name, place.limit_key, seconds)
    return place is not None


def _take_turn(connection: sa.Connection) -> None:
    """Wait for the end of an admission that has not seen the hold-off, so that the jobs it admits are taken back.

    Any session can hold the lock for long, so the hold-off does not wait long for it.
    """
    try:
        with connection.begin_nested():
            wait_briefly(connection)
            connection.execute(_TAKE_TURN)
    except sa.exc.DBAPIError as error:
        if not is_lock_timeout(error):
            raise


_READ = sa.select(hold_offs.c.limit_key, _readable(hold_offs.c.until)).where(
    hold_offs.c.limit_name == _NAME,
    hold_offs.c.limit_key == sa.any_(array_param("keys", sa.Text())),
    hold_offs.c.until > sa.func.clock_timestamp(),
)


def read_hold_offs(connection: sa.Connection, name: str, keys: Sequence[str]) -> dict[str, datetime.datetime]:
    """Return the ends of the hold-offs that are not over yet, of these keys of a limit."""
    if not keys:
        return {}
    return {row.limit_key: row.until for row in connection.execute(_READ, {"name": name, "keys": list(keys)})}
