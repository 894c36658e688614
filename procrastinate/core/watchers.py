"""Which workers look after the others: they remove dead workers, rescue jobs, sweep, and go on with operations.

If each of 200 workers does, the same looks are made 200 times, and take 5 % of a core when there are no jobs. A few
are enough. A worker learns with each heartbeat whether it is one of them.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from procrastinate.core.tables import workers

MOST_WATCHERS = 8
"""Number of workers that look after the others."""
LATE = 1.25
"""Intervals without a heartbeat after which a worker is watched, and is no watcher."""
LOOP_BLOCKED = 3.0
"""Intervals without a turn of its event loop after which a worker is no watcher: its heartbeat has its own thread, its
looks have not. A heartbeat tells of the turn before, so a healthy worker has up to 2.25."""
CLOCK_SET_BACK = -1.0
"""Seconds since a heartbeat below which the clock was set back after it."""


def epoch(time: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """Return a time in seconds since 1970, exact. Unlike a difference of times, it takes ``infinity``, too."""
    return sa.extract("epoch", time)


def age(time: sa.ColumnElement[Any]) -> sa.ColumnElement[float]:
    """Return the seconds since a time."""
    return sa.cast(epoch(sa.func.now()) - epoch(time), sa.Double())


def seconds_between(earlier: sa.ColumnElement[Any], later: sa.ColumnElement[Any]) -> sa.ColumnElement[float]:
    """Return the seconds from one time to another, or NULL if one of them is infinite."""
    are_finite = sa.and_(sa.func.isfinite(earlier), sa.func.isfinite(later))
    return sa.case((are_finite, sa.cast(epoch(later) - epoch(earlier), sa.Double())))


def is_watcher(interval: sa.ColumnElement[float]) -> sa.ColumnElement[bool]:
    """Return the condition "this worker, whose row is updated, is one of those that look after the others".

    The first ones by id are. Those count before it that are alive, of the same release, and look at least as often.
    What their rows say is data: a value that is no number of seconds counts for nothing.

    Parameters
    ----------
    interval:
        Seconds between two heartbeats of the worker.
    """
    other = workers.alias("other")
    before = (
        sa.select(other.c.id)
        .where(
            other.c.id < workers.c.id,
            other.c.version == workers.c.version,
            other.c.state == "running",
            other.c.heartbeat_interval <= interval,
            age(other.c.last_heartbeat).between(CLOCK_SET_BACK, interval * LATE),
            age(other.c.loop_beat_at).between(CLOCK_SET_BACK, interval * LOOP_BLOCKED),
        )
        .limit(sa.literal_column(str(MOST_WATCHERS)))
        .correlate(workers)
        .subquery("before")
    )
    return sa.select(sa.func.count() < MOST_WATCHERS).select_from(before).scalar_subquery()
