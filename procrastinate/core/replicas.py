"""How far a replica is behind its primary."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

_REPLAYED: Any = sa.func.pg_last_wal_replay_lsn()
_RECEIVED: Any = sa.func.pg_last_wal_receive_lsn()
# Every role may see that there is a receiver. Only some roles may see what it does.
_IS_RECEIVING = sa.exists().select_from(sa.text("pg_catalog.pg_stat_wal_receiver"))
_SINCE_LAST_COMMIT = sa.extract(
    "epoch", sa.cast(sa.func.clock_timestamp() - sa.func.pg_last_xact_replay_timestamp(), sa.Interval())
)
_LAG = sa.select(
    sa.case(
        (sa.not_(sa.func.pg_is_in_recovery()), sa.cast(0, sa.Double())),
        (sa.and_(_IS_RECEIVING, _REPLAYED >= _RECEIVED), sa.cast(0, sa.Double())),
        else_=sa.cast(_SINCE_LAST_COMMIT, sa.Double()),
    )
)
_ANYTHING: sa.Select[Any] = sa.select(sa.literal_column("1"))


def measure_lag(connection: sa.Connection) -> float | None:
    """Return how many seconds this server is behind its primary, or ``None`` if it does not know.

    A server that is no standby is not behind, and neither is one that has replayed all that it received. A standby
    without a connection to its primary is as far behind as its last transaction is old, because it cannot know better.
    """
    lag: float | None = connection.execute(_LAG).scalar_one()
    return None if lag is None else max(0.0, float(lag))


def reach(connection: sa.Connection) -> float:
    """Return 0 as the seconds that this server is behind, for an app that reads it however old it is."""
    connection.execute(_ANYTHING)
    return 0.0
