"""The locks that a revision takes on tables that others write to, at its beginning."""

from __future__ import annotations

from collections.abc import Mapping

_LOCK_TIMEOUT = 200
"""Milliseconds that an attempt waits. All who come later with a conflicting lock wait behind it for that time."""
_PAUSE = 0.5
"""Seconds between two attempts."""
_ATTEMPTS = 430
"""Five minutes in all."""


def lock_tables(tables: Mapping[str, str], *, attempts: int = _ATTEMPTS) -> str:
    """Return a statement that locks tables until the end of the transaction, and keeps no writer waiting for long.

    A statement such as CREATE TRIGGER waits for all open transactions that have written to the table, and every writer
    that comes later waits behind it. So this statement waits briefly, gives back all that it has, lets the others
    through and tries again. What follows in the transaction finds the locks there. The lock of a writer and that of a
    reader conflict with different ones: take no stronger lock than the revision needs.

    A transaction that runs several revisions keeps the locks of the first while it waits for those of the second. A
    revision therefore takes all locks that the revisions of its release need.

    Parameters
    ----------
    tables:
        The mode of the lock for each table, as LOCK TABLE has it.
    attempts:
        After so many, the statement fails with the state 55P03 (``lock_not_available``) and names the server processes
        that hold the tables.
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
