"""Advisory locks of limits: admissions keep the numbers of a limit, and a session that changes them waits for those."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from procrastinate.core.promote import table_of_jobs


def limit_kept(name: sa.ColumnElement[Any]) -> sa.ColumnElement[bool]:
    """Keep others from changing a limit until the end of the transaction, unless a change is under way.

    Many sessions may keep a limit at once. What they read of it in a later statement holds until they end.
    """
    return sa.func.pg_try_advisory_xact_lock_shared(_key_of_limit(name), type_=sa.Boolean())


def limit_taken(name: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """Wait for those that keep a limit, as long as the lock timeout allows, and let none keep it until the end."""
    return sa.func.pg_advisory_xact_lock(_key_of_limit(name))


def limit_is_changed(name: sa.ColumnElement[Any], within: sa.ColumnElement[Any]) -> sa.ColumnElement[bool]:
    """Return the condition "a transaction changes the limit that began within this time".

    A role that may not see when it began does not wait for it.
    """
    lock = sa.table("pg_locks", *map(sa.column, ("locktype", "classid", "objid", "mode", "granted", "pid")))
    session = sa.table("pg_stat_activity", sa.column("pid"), sa.column("xact_start"))
    upper, lower = (sa.cast(column, sa.BigInteger) for column in (lock.c.classid, lock.c.objid))
    return (
        sa.select(lock.c.pid)
        .join(session, session.c.pid == lock.c.pid)
        .where(
            lock.c.locktype == "advisory",
            upper.bitwise_lshift(sa.literal_column("32")).bitwise_or(lower) == _key_of_limit(name),
            lock.c.mode == "ExclusiveLock",
            lock.c.granted,
            session.c.xact_start > sa.func.clock_timestamp() - within,
        )
        .exists()
    )


def _key_of_limit(name: sa.ColumnElement[Any]) -> sa.ColumnElement[int]:
    return sa.func.hashtextextended(name, table_of_jobs(), type_=sa.BigInteger())
