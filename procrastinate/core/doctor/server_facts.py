"""What is read of the server. Every role may read it, but for the state of other roles' sessions."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from procrastinate.core.tables import metadata

_SERVER = sa.text(
    "SELECT current_setting('server_version_num')::int AS version_number, "
    "current_setting('server_version') AS version, "
    "pg_is_in_recovery() AS is_standby, "
    "current_setting('default_transaction_read_only') = 'on' AS is_read_only, "
    "current_setting('synchronous_commit') AS synchronous_commit, "
    "current_setting('autovacuum') = 'on' AND current_setting('track_counts') = 'on' AS vacuums, "
    "current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int AS connections, "
    "(SELECT count(*) FROM pg_stat_activity WHERE datname IS NOT NULL)::int AS connections_used, "
    "(SELECT age(datfrozenxid) FROM pg_database WHERE datname = current_database())::bigint AS transaction_ids"
)
_RESET_TIMEOUT = sa.text("SELECT reset_val::float8 / 1000 FROM pg_settings WHERE name = 'statement_timeout'")
_TRANSACTIONS = sa.text(
    "SELECT pid, coalesce(application_name, '') AS application, state, "
    "extract(epoch FROM now() - xact_start)::float8 AS seconds FROM pg_stat_activity "
    "WHERE pid <> pg_backend_pid() AND datname = current_database() AND backend_type = 'client backend' "
    "AND xact_start < now() - make_interval(secs => :seconds) ORDER BY xact_start LIMIT 10"
)
_PREPARED = sa.text(
    "SELECT gid, extract(epoch FROM now() - prepared)::float8 AS seconds FROM pg_prepared_xacts "
    "WHERE database = current_database() AND prepared < now() - make_interval(secs => :seconds) "
    "ORDER BY prepared LIMIT 10"
)
_SLOTS = sa.text(
    "SELECT slot_name::text AS name, age(coalesce(xmin, catalog_xmin))::bigint AS transaction_ids "
    "FROM pg_replication_slots WHERE NOT active AND coalesce(xmin, catalog_xmin) IS NOT NULL ORDER BY 2 DESC LIMIT 10"
)
_STATISTICS = sa.table(
    "pg_stat_all_tables",
    *map(sa.column, ("relid", "relname", "n_live_tup", "n_dead_tup")),
)
_CLASSES = sa.table("pg_class", *map(sa.column, ("oid", "reltuples", "reloptions")))
_TABLES: Any = (
    sa.select(
        sa.cast(_STATISTICS.c.relname, sa.Text()).label("name"),
        sa.cast(_STATISTICS.c.n_live_tup, sa.BigInteger()).label("live"),
        sa.cast(_STATISTICS.c.n_dead_tup, sa.BigInteger()).label("dead"),
        sa.cast(sa.func.greatest(_CLASSES.c.reltuples, 0), sa.BigInteger()).label("rows"),
        sa.func.coalesce(
            sa.literal_column("'autovacuum_enabled=false'") == sa.any_(_CLASSES.c.reloptions), sa.false()
        ).label("is_left_out"),
    )
    .select_from(_STATISTICS.join(_CLASSES, _CLASSES.c.oid == _STATISTICS.c.relid))
    .where(
        sa.or_(
            *(
                _STATISTICS.c.relid == sa.func.to_regclass(sa.literal_column(f"'{name}'"))
                for name in sorted(metadata.tables)
            )
        )
    )
    .order_by(_STATISTICS.c.relname)
)


def read_server(connection: sa.Connection) -> Any:
    """Return version, settings and connections of the server."""
    return connection.execute(_SERVER).one()


def read_reset_timeout(connection: sa.Connection) -> float:
    """Return the statement timeout with which sessions of this role start, in seconds. 0 means no limit."""
    return float(connection.execute(_RESET_TIMEOUT).scalar_one())


def list_old_transactions(connection: sa.Connection, seconds: float) -> list[Any]:
    """Return the sessions whose transaction is older than this, of those that this role may see."""
    return list(connection.execute(_TRANSACTIONS, {"seconds": seconds}))


def list_old_prepared_transactions(connection: sa.Connection, seconds: float) -> list[Any]:
    """Return the prepared transactions that are older than this."""
    return list(connection.execute(_PREPARED, {"seconds": seconds}))


def list_idle_slots(connection: sa.Connection) -> list[Any]:
    """Return the replication slots that nothing reads and that keep dead rows."""
    return list(connection.execute(_SLOTS))


def read_tables(connection: sa.Connection) -> list[Any]:
    """Return the number of live and dead rows of our tables, as PostgreSQL estimates them."""
    return list(connection.execute(_TABLES))
