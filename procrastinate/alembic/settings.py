"""What every way of running the migrations agrees on."""

from __future__ import annotations

import importlib
import pathlib

import sqlalchemy as sa

from procrastinate._text.logs import get_logger

VERSION_TABLE = "procrastinate_alembic_version"
"""Its own, so that it never meets the user's ``alembic_version``."""

# Modules of a frozen program may lack __file__.
SCRIPT_LOCATION = pathlib.Path(importlib.import_module("procrastinate.alembic").__path__[0])
VERSIONS_LOCATION = SCRIPT_LOCATION / "versions"

_LOCK_CLASS = 0x70726F63
_MIGRATION_LOCK = 1
_FETCHES_LOCK = 2
MIGRATION_LOCK_KEY = f"{_LOCK_CLASS}, {_MIGRATION_LOCK}"
"""The key of the advisory lock that a migration holds, for SQL that takes it itself."""
FETCHES_LOCK_KEY = f"{_LOCK_CLASS}, {_FETCHES_LOCK}"
"""The key of the advisory lock by which fetches of Procrastinate 3.x know that the columns of the jobs may change."""


_logger = get_logger(__name__)

_TRY = sa.select(sa.func.pg_try_advisory_xact_lock(_LOCK_CLASS, _MIGRATION_LOCK))
_HOLD_FETCHES = sa.select(sa.func.pg_advisory_xact_lock(_LOCK_CLASS, _FETCHES_LOCK))
_COLUMNS = sa.text(
    "SELECT string_agg(format('%s %s', attname, atttypid), ', ' ORDER BY attnum) FROM pg_attribute "
    "WHERE attrelid = to_regclass('procrastinate_jobs') AND attnum > 0 AND NOT attisdropped"
)
_HOLD_UNTIL = """
IF to_regprocedure('procrastinate_fetch_job_v2(varchar[], bigint)') IS NOT NULL THEN
    EXECUTE format(
        'COMMENT ON FUNCTION procrastinate_fetch_job_v2(varchar[], bigint) IS %L',
        'Fetches nothing before ' || to_char({moment}, 'YYYY-MM-DD"T"HH24:MI:SS.USOF')
    );
END IF"""
HOLD_LATE_FETCHES = _HOLD_UNTIL.format(moment="clock_timestamp() + interval '3 seconds'")
"""Part of a ``DO`` block. The function reads its comment (``procrastinate_0007``). The seconds are for the commit.
On a busy machine it may take long."""
FETCHES_NOTHING_BEFORE = (
    "substring(obj_description(to_regprocedure('procrastinate_fetch_job_v2(varchar[], bigint)'), 'pg_proc') "
    "FROM '^Fetches nothing before ([0-9T:.+-]+)$')::timestamptz"
)
"""The time in that comment, for the fetch that reads it. ``NULL`` if it has none."""
# A session that holds the lock of fetches is still at work: this one in an open transaction, or another one.
LET_FETCHES_GO_ON = f"""DO $do$
BEGIN
IF EXISTS (
    SELECT FROM pg_locks
    WHERE locktype = 'advisory' AND classid = {_LOCK_CLASS} AND objid = {_FETCHES_LOCK} AND pid = pg_backend_pid()
) OR NOT pg_try_advisory_xact_lock({FETCHES_LOCK_KEY}) THEN
    RETURN;
END IF;
IF {FETCHES_NOTHING_BEFORE} > clock_timestamp() THEN{_HOLD_UNTIL.format(moment="clock_timestamp()")};
END IF;
END
$do$"""
"""For after the commit: only fetches that began before it are held from now on."""
_WAIT = sa.select(sa.func.pg_advisory_xact_lock(_LOCK_CLASS, _MIGRATION_LOCK))
# An advisory lock does not let the session hear what other sessions have created: `to_regclass` would still say that
# their tables do not exist. The first lock on a table does. No other statement of a migration reads this one.
_HEAR_OF_NEW_TABLES = sa.text("SELECT FROM pg_catalog.pg_tablespace LIMIT 0")
_HOLDERS = sa.text(
    "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND classid = :class AND objid = :lock "
    "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
).bindparams(**{"class": _LOCK_CLASS, "lock": _MIGRATION_LOCK})


def hold_migration_lock(connection: sa.Connection) -> None:
    """Let one process migrate at a time: the others wait here, and then find nothing left to do.

    The lock ends with the transaction. Any session can hold it, so one that waits says for which.
    """
    if connection.execute(_TRY).scalar_one():
        return
    holders = ", ".join(str(pid) for pid in connection.execute(_HOLDERS).scalars())
    _logger.warning(
        "Another session migrates, or holds the advisory lock of migrations. This one waits for it: server process %s",
        holders or "(gone)",
        extra={"action": "migration_waits"},
    )
    connection.execute(_WAIT)
    connection.execute(_HEAR_OF_NEW_TABLES)


def hold_fetches_of_3x(connection: sa.Connection) -> str | None:
    """Let workers of Procrastinate 3.x fetch nothing until the transaction ends. What they fetch just now ends first.

    A fetch answers with a row of the table. If a column comes in between, the answer has more than its query expects,
    and the worker ends.

    Returns
    -------
    The columns of the jobs, for :func:`hold_late_fetches_of_3x`.
    """
    connection.execute(_HOLD_FETCHES)
    columns: str | None = connection.execute(_COLUMNS).scalar_one()
    return columns


def hold_late_fetches_of_3x(connection: sa.Connection, former_columns: str | None) -> None:
    """Let fetches of Procrastinate 3.x find nothing that began before this transaction ends, and come after its end.

    To be called as the last thing in the transaction. If it has not changed the columns, nothing is done.

    Parameters
    ----------
    former_columns:
        What :func:`hold_fetches_of_3x` has returned.
    """
    if former_columns is not None and connection.execute(_COLUMNS).scalar_one() != former_columns:
        block = f"DO $do$ BEGIN {HOLD_LATE_FETCHES}; END $do$"
        connection.execute(sa.text(block.replace(":", r"\:")))


def let_fetches_of_3x_go_on(connection: sa.Connection) -> None:
    """Let fetches of Procrastinate 3.x find jobs again, as soon as a migration has committed.

    To be called after the transaction. Within it, or while another session migrates, nothing is done. Fetches then go
    on by themselves, seconds after the end of the migration.
    """
    connection.execute(sa.text(LET_FETCHES_GO_ON.replace(":", r"\:")))
