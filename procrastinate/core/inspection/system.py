"""The load of the database itself: sizes, connections, and what this role may do."""

from __future__ import annotations

import datetime
from typing import Any

import sqlalchemy as sa

from procrastinate.core.inspection.bounds import load, moment
from procrastinate.core.inspection.records import System, TableSize
from procrastinate.core.tables import jobs, metadata

_revisions = sa.table("procrastinate_alembic_version", sa.column("version_num", sa.Text()))
_HAS_REVISIONS = sa.select(sa.func.to_regclass(sa.literal_column(f"'{_revisions.name}'")).is_not(None))
_REVISION = sa.select(_revisions.c.version_num).order_by(_revisions.c.version_num.desc()).limit(sa.literal_column("1"))


def _setting(name: str) -> sa.ColumnElement[str]:
    return sa.func.current_setting(sa.literal_column(f"'{name}'"), type_=sa.Text())


_activity = sa.table("pg_stat_activity", sa.column("datname"), sa.column("xact_start"), sa.column("pid"))
_JOBS = sa.func.to_regclass(sa.literal_column(f"'{jobs.name}'"))
_SERVER: sa.Select[Any] = sa.select(
    _setting("server_version").label("server_version"),
    sa.func.current_database(type_=sa.Text()).label("database"),
    sa.func.current_schema(type_=sa.Text()).label("schema"),
    sa.func.pg_is_in_recovery(type_=sa.Boolean()).label("is_standby"),
    (_setting("transaction_read_only") == "on").label("is_read_only"),
    sa.func.has_table_privilege(_JOBS, sa.literal_column("'UPDATE'"), type_=sa.Boolean()).label("may_change_jobs"),
    sa.cast(_setting("max_connections"), sa.Integer).label("max_connections"),
    sa.select(sa.func.count())
    .select_from(_activity)
    .where(_activity.c.datname.is_not(None))
    .scalar_subquery()
    .label("connections"),
    sa.select(sa.cast(sa.extract("epoch", sa.func.max(sa.func.now() - _activity.c.xact_start)), sa.Double))
    .where(_activity.c.datname == sa.func.current_database(), _activity.c.pid != sa.func.pg_backend_pid())
    .scalar_subquery()
    .label("oldest_transaction_seconds"),
)
_stat = sa.table(
    "pg_stat_all_tables",
    *map(sa.column, ("relid", "relname", "n_dead_tup", "last_vacuum", "last_autovacuum")),
)
_class = sa.table("pg_class", sa.column("oid"), sa.column("reltuples"))
_TABLES: sa.Select[Any] = (
    sa.select(
        _stat.c.relname.label("name"),
        sa.cast(sa.func.nullif(_class.c.reltuples, -1), sa.BigInteger).label("rows"),
        sa.cast(_stat.c.n_dead_tup, sa.BigInteger).label("dead_rows"),
        sa.func.pg_total_relation_size(_stat.c.relid, type_=sa.BigInteger()).label("size"),
        moment(sa.func.greatest(_stat.c.last_vacuum, _stat.c.last_autovacuum)).label("last_vacuum_at"),
    )
    .select_from(_stat.join(_class, _class.c.oid == _stat.c.relid))
    .where(
        sa.or_(
            *(
                _stat.c.relid == sa.func.to_regclass(sa.literal_column(f"'{table.name}'"))
                for table in metadata.sorted_tables
            )
        )
    )
    .order_by(_stat.c.relname)
)


@load
def load_system(connection: sa.Connection, now: datetime.datetime) -> System:
    """Return the state of the database. Another role's transactions count only if this role may see them."""
    server = connection.execute(_SERVER).one()._mapping
    return System(now=now, revision=read_revision(connection), tables=read_tables(connection), **server)


def read_tables(connection: sa.Connection) -> tuple[TableSize, ...]:
    """Return the sizes of the tables."""
    return tuple(TableSize(**row._mapping) for row in connection.execute(_TABLES))


def read_revision(connection: sa.Connection) -> str | None:
    """Return the newest revision, or ``None`` in a Django project, which keeps its own list of migrations."""
    if not connection.execute(_HAS_REVISIONS).scalar_one():
        return None
    return connection.execute(_REVISION).scalar_one_or_none()
