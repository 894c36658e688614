"""Whether a worker may prepare statements on a connection: only if the server's session is its own.

A pooler that shares sessions among transactions hands a prepared statement, and the settings with which it was
planned, to another client. Such a pooler shows itself: it tells its clients of a server process that is not the one
that answers.
"""

from __future__ import annotations

import sys
from typing import Any

import sqlalchemy as sa

from procrastinate.adapters.connections.fast_path import PREPARES
from procrastinate.core.worker_session import SESSION, WorkerSession, begin_worker_session, session_of

MARKED_ONLY = sys.maxsize
"""A ``prepare_threshold`` of psycopg's that no statement reaches. Those that are marked are prepared all the same."""


def defaults_suit(connection: sa.Connection) -> bool:
    """Return whether autocommit is READ COMMITTED and may write here: asked once a connection, of the server."""
    known = session_of(connection)
    if known is None:
        known = connection.info[SESSION] = _begin(connection)
        connection.rollback()  # of the transaction that an engine with echo has begun: the level cannot change in one
    return known.suits


def _begin(connection: sa.Connection) -> WorkerSession:
    driver: Any = connection.connection.driver_connection
    session = begin_worker_session(connection, backend_pid=driver.info.backend_pid)
    connection.info[PREPARES] = session.is_direct
    if not session.is_direct and driver.prepare_threshold == MARKED_ONLY:
        driver.prepare_threshold = None
    return session
