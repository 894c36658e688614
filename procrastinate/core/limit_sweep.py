"""Delete what limits have left behind: starts that no rate reaches any more, and hold-offs that are over.

Admissions delete the starts of the limits that they look at, and a hold-off deletes those of its limit. Nothing looks
at a limit that was renamed, was removed or has lost its rates.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

from procrastinate.core.arrays import is_one_of, unnest
from procrastinate.core.operation_marks import atomic
from procrastinate.core.promote import turn_taken
from procrastinate.core.rates import ALL_RATES, longest_window, seconds_long
from procrastinate.core.tables import hold_offs, limits, starts

WITHOUT_RATES = datetime.timedelta(days=31)
"""For how long the starts of a limit are kept that has no rates now. It may get them back."""
_LIMITS_AT_ONCE = 100


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LimitSweep:
    """Result of one step of the sweep: the number of rows it deleted, and the limit after which the next step starts.

    ``reached`` is ``None`` at the end: the next step starts from the beginning.
    """

    deleted: int
    reached: str | None


_TAKE_TURN = sa.select(turn_taken())


def _walk() -> sa.Select[Any]:
    """Walk from limit to limit through the index of the starts, with one probe each."""
    first = sa.select(sa.func.min(starts.c.limit_name)).where(
        starts.c.limit_name > sa.bindparam("after", type_=sa.Text())
    )
    walk = sa.select(
        first.scalar_subquery().label("name"), sa.literal_column("1", type_=sa.Integer()).label("step")
    ).cte("walk", recursive=True)
    further = starts.alias("further")
    following = sa.select(sa.func.min(further.c.limit_name)).where(further.c.limit_name > walk.c.name)
    walk = walk.union_all(
        sa.select(following.scalar_subquery(), walk.c.step + 1).where(
            walk.c.name.is_not(None), walk.c.step < _LIMITS_AT_ONCE
        )
    )
    return (
        sa.select(walk.c.name, ALL_RATES)
        .select_from(walk.outerjoin(limits, limits.c.name == walk.c.name))
        .where(walk.c.name.is_not(None))
        .order_by(walk.c.step)
    )


_WALK = _walk()


def _forget() -> sa.Delete:
    """Delete the oldest starts of some limits, a bounded number."""
    limit = sa.bindparam("limit", type_=sa.Integer())
    kept = unnest({"name": sa.Text(), "seconds": sa.Double()}, name="kept")
    old = (
        sa.select(starts.c.id)
        .where(starts.c.limit_name == kept.c.name, starts.c.at <= sa.func.now() - seconds_long(kept.c.seconds))
        .order_by(starts.c.at)
        .limit(limit)
        .lateral("old")
    )
    ids = sa.select(old.c.id).select_from(kept.join(old, sa.true())).limit(limit)
    return sa.delete(starts).where(is_one_of(starts.c.id, ids))


_FORGET = _forget()
_IS_OVER = hold_offs.c.until <= sa.func.clock_timestamp()
_OVER = (
    sa.select(hold_offs.c.limit_name, hold_offs.c.limit_key)
    .where(_IS_OVER)
    .limit(sa.bindparam("limit", type_=sa.Integer()))
)
_FORGET_HOLD_OFFS = sa.delete(hold_offs).where(
    sa.tuple_(hold_offs.c.limit_name, hold_offs.c.limit_key).in_(_OVER), _IS_OVER
)


def _kept_for(all_rates: str | None) -> float:
    return longest_window(all_rates) if all_rates else WITHOUT_RATES.total_seconds()


@atomic
def sweep_limits(connection: sa.Connection, *, after: str | None = None, limit: int = 1000) -> LimitSweep:
    """Delete up to ``limit`` starts, and as many hold-offs, that have no effect any more.

    It takes the turn of admissions, which delete such rows as well. If another session has the turn, nothing is done.

    Parameters
    ----------
    after:
        The limit after which to start: ``reached`` of the previous step, ``None`` for the beginning.
    """
    if not connection.execute(_TAKE_TURN).scalar_one():
        return LimitSweep(deleted=0, reached=after or "")
    over = connection.execute(_FORGET_HOLD_OFFS, {"limit": limit}).rowcount
    rows = connection.execute(_WALK, {"after": after or ""}).all()
    old = _forget_starts(connection, rows, limit)
    if limit in (over, old):
        return LimitSweep(deleted=old + over, reached=after or "")
    return LimitSweep(deleted=old + over, reached=rows[-1].name if len(rows) == _LIMITS_AT_ONCE else None)


def _forget_starts(connection: sa.Connection, rows: Iterable[sa.Row[Any]], limit: int) -> int:
    kept = {row.name: _kept_for(row.all_rates) for row in rows}
    if not kept:
        return 0
    parameters = {"name_list": list(kept), "seconds_list": list(kept.values()), "limit": limit}
    return connection.execute(_FORGET, parameters).rowcount
