"""The load for the head of each page: the database, whether it takes changes, and whether queues are paused."""

from __future__ import annotations

import datetime
from typing import Any

import sqlalchemy as sa

from procrastinate.core.inspection.bounds import bounded_count, load, to_count
from procrastinate.core.inspection.records import ServerState
from procrastinate.core.pauses import lasts
from procrastinate.core.tables import jobs, paused_queues

_COUNTED = 100


def _table(table: sa.Table) -> sa.ColumnElement[Any]:
    return sa.func.to_regclass(sa.literal_column(f"'{table.name}'"))


_SERVER: Any = sa.select(
    sa.func.current_database(type_=sa.Text()).label("database"),
    sa.func.pg_is_in_recovery(type_=sa.Boolean()).label("is_standby"),
    (sa.func.current_setting(sa.literal_column("'transaction_read_only'"), type_=sa.Text()) == "on").label(
        "is_read_only"
    ),
    # NULL if there is no such table.
    sa.func.has_any_column_privilege(_table(jobs), sa.literal_column("'UPDATE'"), type_=sa.Boolean()).label(
        "may_change"
    ),
    sa.func.has_any_column_privilege(_table(paused_queues), sa.literal_column("'SELECT'"), type_=sa.Boolean()).label(
        "may_read_pauses"
    ),
)
_PAUSED: sa.Select[Any] = sa.select(
    bounded_count(sa.select(sa.literal_column("1")).select_from(paused_queues).where(lasts()), _COUNTED)
)


@load
def load_server_state(connection: sa.Connection, now: datetime.datetime) -> ServerState:
    """Return what each page says of the database. It needs no right and no table."""
    server = connection.execute(_SERVER).one()
    paused = connection.execute(_PAUSED).scalar_one() if server.may_read_pauses else 0
    return ServerState(
        now=now,
        database=server.database,
        is_standby=server.is_standby,
        is_read_only=server.is_read_only,
        may_change_jobs=server.may_change is not False,
        paused_queues=to_count(paused, _COUNTED),
    )
