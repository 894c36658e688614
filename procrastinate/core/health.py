"""Operations that ask the database about itself: whether it is fit for use, and what the time is."""

from __future__ import annotations

import time
from typing import Any

import sqlalchemy as sa

from procrastinate.core.operation_marks import plain
from procrastinate.core.tables import jobs


def read_clock(connection: sa.Connection) -> float:
    """Return the time of the database's clock, on which all workers agree, in seconds since 1970."""
    return float(connection.execute(_CLOCK).scalar_one())


_CLOCK: sa.Select[Any] = sa.select(sa.cast(sa.extract("epoch", sa.func.clock_timestamp()), sa.Double()))


def clock_difference(connection: sa.Connection) -> float:
    """Return by how many seconds the clock of this machine is ahead of the database's, or 0 if they may agree."""
    before = time.time()
    database = read_clock(connection)
    after = time.time()
    return min(0.0, after - database) + max(0.0, before - database)


def jobs_table_exists(connection: sa.Connection) -> bool:
    """Return whether the schema has been applied (in the schema that the connection looks in)."""
    statement = sa.select(sa.func.to_regclass(sa.bindparam("name", type_=sa.Text())).is_not(None))
    return bool(connection.execute(statement, {"name": jobs.name}).scalar_one())


def _setting(name: str) -> sa.ColumnElement[str]:
    return sa.func.current_setting(name, type_=sa.Text())


def autocommit_suits() -> sa.ColumnElement[bool]:
    """Return whether a transaction that says nothing of itself is READ COMMITTED here, and may write."""
    return sa.and_(
        _setting("default_transaction_isolation") == "read committed",
        _setting("default_transaction_read_only") == "off",
    )


def list_unfit_settings(connection: sa.Connection) -> list[str]:
    """Return the settings of this session with which no worker can do its work, as ``name = value``."""
    row = connection.execute(_SETTINGS).one()
    return [f"{name} = {value}" for name, value in row._mapping.items() if _UNFIT[name] == value]


_UNFIT = {
    "array_nulls": "off",  # outcomes are written as arrays that have gaps
    "session_replication_role": "replica",  # no trigger fires: no history, no notification, no lock is handed on
}


def _settings() -> sa.Select[Any]:
    columns: list[sa.ColumnElement[Any]] = [_setting(name).label(name) for name in _UNFIT]
    return sa.select(*columns)


_SETTINGS = plain(_settings())
