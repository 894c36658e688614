"""Lock tables at the beginning of a revision, while other sessions write to them."""

from __future__ import annotations

from collections.abc import Mapping

_LOCK_TIMEOUT = 200
"""Milliseconds that an attempt waits. Later sessions that need a conflicting lock wait behind it for that time."""
_PAUSE = 0.5
"""Seconds between two attempts."""
_ATTEMPTS = 430
"""Five minutes in all."""


def lock_tables(tables: Mapping[str, str], *, attempts: int = _ATTEMPTS) -> str:
    """Return a statement that locks tables until the end of the transaction and lets no writer wait for long.

    A statement such as CREATE TRIGGER waits for all open transactions that have written to the table, and every writer
    that comes later waits behind it. So this statement waits briefly, releases its locks, lets the others through and
    tries again. Later statements of the transaction find the locks taken. Take no stronger lock than the revision
    needs, because a stronger one also blocks readers.

    A transaction that runs several revisions keeps the locks of the first while it waits for those of the second. A
    revision therefore takes all locks that the revisions of its release need.

    Parameters
    ----------
    tables:
        The mode of the lock for each table, in the words of LOCK TABLE.
    attempts:
        Number of attempts. After the last one the statement fails with SQLSTATE 55P03 (``lock_not_available``) and
        names the server processes that hold the tables.
    """
    locks = "\n            ".join(f"LOCK TABLE {table} IN {mode} MODE;" for table, mode in tables.items())
    names = ", ".join(f"'{table}'::regclass" for table in tables)
    return f"""
DO $do$
DECLARE
    former text := current_setting('lock_timeout');
    others text;
BEGIN
    FOR attempt IN 1..{attempts} LOOP
        BEGIN
            PERFORM set_config('lock_timeout', '{_LOCK_TIMEOUT}ms', true);
            {locks}
            PERFORM set_config('lock_timeout', former, true);
            RETURN;
        EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
            PERFORM pg_sleep({_PAUSE});
        END;
    END LOOP;
    SELECT string_agg(DISTINCT pid::text, ', ') INTO others
    FROM pg_locks
    WHERE relation IN ({names}) AND granted AND pid <> pg_backend_pid()
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database());
    RAISE EXCEPTION 'The tables of the queue are in use, and nothing was changed'
        USING ERRCODE = 'lock_not_available',
            DETAIL = 'Server processes with a lock on them: ' || coalesce(others, 'none any more'),
            HINT = 'End their transactions (pg_stat_activity shows them), and repeat the migration';
END
$do$
"""  # noqa: S608
