"""Lock tables at the beginning of a revision, while other sessions write to them."""

from __future__ import annotations

from collections.abc import Iterable

QUEUE_TABLES = ("procrastinate_jobs", "procrastinate_workers")
"""What every revision locks, in this order. Writers take these locks in the same order: the triggers of the jobs read
the workers."""

_LOCK_TIMEOUT = 200
"""Milliseconds that an attempt waits for each table. Later sessions that need a conflicting lock wait behind it for
that time. It is shorter than ``deadlock_timeout``, so that in a deadlock the migration gives up, and no worker does."""
_PAUSE = 0.5
"""Seconds between two attempts."""
_ATTEMPTS = 430
"""Five minutes in all."""


def lock_tables(others: Iterable[str] = (), *, attempts: int = _ATTEMPTS) -> str:
    """Return a statement that locks tables until the end of the transaction and lets no writer wait for long.

    A statement such as CREATE TRIGGER waits for all open transactions that have written to the table, and every writer
    that comes later waits behind it. So this statement waits briefly, releases its locks, lets the others through and
    tries again. Later statements of the transaction find the locks taken.

    A transaction that runs several revisions keeps the locks of the first while it waits for those of the second. A
    writer that needs the first and holds the second then waits for it without end. So every revision locks all of
    :data:`QUEUE_TABLES`, as strongly as any revision may need. A revision holds these locks for milliseconds. What
    takes longer is built before (:mod:`procrastinate.alembic.ahead`).

    Parameters
    ----------
    others:
        Names of further tables that the revision alters.
    attempts:
        Number of attempts. After the last one the statement fails with SQLSTATE 55P03 (``lock_not_available``) and
        names the server processes that hold the tables. If one of those waits for this transaction, more attempts are
        no use, and the statement fails at once with 40P01 (``deadlock_detected``). ``CREATE INDEX CONCURRENTLY`` does
        so: it has a lock on its table, and waits for all transactions that began before. The transaction may be
        repeated.
    """
    tables = (*QUEUE_TABLES, *sorted(set(others) - set(QUEUE_TABLES)))
    locks = "\n            ".join(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE;" for table in tables)
    names = ", ".join(f"'{table}'::regclass" for table in tables)
    is_others = "lock.granted AND lock.pid <> pg_backend_pid()"
    holds = f"""lock.relation IN ({names}) AND {is_others}
            AND lock.database = (SELECT oid FROM pg_database WHERE datname = current_database())"""  # noqa: S608
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
        WITH RECURSIVE waiting (pid) AS (
            SELECT pg_backend_pid()
            UNION
            SELECT lock.pid
            FROM waiting JOIN pg_locks AS lock ON NOT lock.granted AND waiting.pid = ANY (pg_blocking_pids(lock.pid))
        )
        SELECT string_agg(DISTINCT pid::text, ', ') INTO others
        FROM waiting JOIN pg_locks AS lock USING (pid)
        WHERE {holds};
        IF others IS NOT NULL THEN
            RAISE EXCEPTION 'A session that has locked the tables of the queue waits for this migration'
                USING ERRCODE = 'deadlock_detected',
                    DETAIL = 'Server processes that wait: ' || others,
                    HINT = 'Repeat the migration';
        END IF;
    END LOOP;
    SELECT string_agg(DISTINCT pid::text, ', ') INTO others
    FROM pg_locks AS lock
    WHERE {holds};
    RAISE EXCEPTION 'The tables of the queue are in use, and nothing was changed'
        USING ERRCODE = 'lock_not_available',
            DETAIL = 'Server processes with a lock on them: ' || coalesce(others, 'none any more'),
            HINT = 'End their transactions (pg_stat_activity shows them), and repeat the migration';
END
$do$
"""  # noqa: S608
