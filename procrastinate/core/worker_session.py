"""The session of a worker's connection: what it is like, and how it plans the statements that the worker prepares."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from procrastinate.core.health import autocommit_suits
from procrastinate.core.operation_marks import plain

_PLANNING: Mapping[str, str] = {
    "plan_cache_mode": "force_generic_plan",  # one plan for all values: planning takes longer than most statements
    "enable_seqscan": "off",  # a plan that is made for an empty table is kept while the table grows
    "jit": "off",  # on PostgreSQL 17 and before, a table that has to be read whole looks costly enough to compile for
}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class WorkerSession:
    """What the first statement of a connection finds out.

    Parameters
    ----------
    is_direct:
        Whether no pooler stands between the client and the server. Then the session is the client's alone, and keeps
        what is prepared and set in it.
    suits:
        Whether a transaction that says nothing of itself is READ COMMITTED, and may write.
    """

    is_direct: bool
    suits: bool


SESSION = "procrastinate_session"
"""The name under which ``connection.info`` has the :class:`WorkerSession`."""


def session_of(connection: sa.Connection) -> WorkerSession | None:
    """Return what is known of the session, or ``None`` if the connection is no worker's."""
    return connection.info.get(SESSION)


def begin_worker_session(connection: sa.Connection, *, backend_pid: int) -> WorkerSession:
    """Look at a new session, and set how it plans if it is the client's alone.

    Parameters
    ----------
    backend_pid:
        The server process that the client was told of when it connected. A pooler tells of none that exists.
    """
    row = connection.execute(_BEGIN, {"backend_pid": backend_pid}).one()
    return WorkerSession(is_direct=row.is_direct, suits=row.suits)


def _begin() -> sa.Select[Any]:
    is_direct = sa.func.pg_backend_pid() == sa.bindparam("backend_pid", type_=sa.Integer())
    settings = (
        sa.case((is_direct, sa.func.set_config(name, value, sa.false(), type_=sa.Text()))).label(name)
        for name, value in _PLANNING.items()
    )
    return sa.select(is_direct.label("is_direct"), autocommit_suits().label("suits"), *settings)


_BEGIN = plain(_begin())
