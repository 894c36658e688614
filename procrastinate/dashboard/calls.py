"""How a view asks for data: it yields a call, and the host runs it on its kind of connection."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Generator
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

import sqlalchemy as sa

from procrastinate import exceptions
from procrastinate._text.logs import get_logger
from procrastinate.connector import BaseConnector
from procrastinate.core.errors import sqlstate
from procrastinate.core.lock_timeouts import briefly

logger = get_logger("procrastinate.dashboard")

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class Trouble(enum.StrEnum):
    """Why the database did not answer a call."""

    AWAY = "away"
    SLOW = "slow"
    RIGHTS = "rights"
    READ_ONLY = "read_only"
    LOCKED = "locked"
    VALUE = "value"
    SCHEMA = "schema"
    FULL = "full"
    STOPPED = "stopped"
    OTHER = "other"


@dataclasses.dataclass(frozen=True)
class Loaded(Generic[R]):
    """The answer of a call: a value, or the problem that a panel shows in its place, and what kind of problem it is."""

    value: R | None = None
    problem: str | None = None
    trouble: Trouble = Trouble.OTHER

    @property
    def failure(self) -> str:
        """The code of the message after an action that the database has not done."""
        return f"failed_{self.trouble}"


@dataclasses.dataclass(frozen=True)
class Call(Generic[R]):
    """An operation on the database with its arguments."""

    operation: Callable[..., R]
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = dataclasses.field(default_factory=dict)


Calls = Generator[Call[Any], Loaded[Any], T]
"""A generator that yields calls and returns a value. Views are such generators, for sync and async hosts alike."""


def call(operation: Callable[Concatenate[sa.Connection, P], R], *args: P.args, **kwargs: P.kwargs) -> Calls[Loaded[R]]:
    """Run an operation: ``answer = yield from call(load_job, 12)``."""
    return (yield Call(operation, args, kwargs))


def change(
    operation: Callable[Concatenate[sa.Connection, P], R], *args: P.args, **kwargs: P.kwargs
) -> Calls[Loaded[R]]:
    """Run an operation that changes rows, as :func:`call` does, and wait only briefly for locks of other sessions.

    A visitor who has given up would otherwise see the change come later, and each such request would keep a thread.
    """
    return (yield Call(briefly, (operation, *args), kwargs))


def drive(calls: Calls[T], connector: BaseConnector) -> T:
    """Run a generator of calls from synchronous code, and return its value."""
    answer: Loaded[Any] | None = None
    while True:
        try:
            asked = next(calls) if answer is None else calls.send(answer)
        except StopIteration as end:
            value: T = end.value
            return value
        try:
            answer = Loaded(connector.run(asked.operation, *asked.args, **asked.kwargs))
        except exceptions.ConnectorException as error:
            answer = _not_loaded(error)


async def drive_async(calls: Calls[T], connector: BaseConnector) -> T:
    """Asynchronous version of :func:`drive`."""
    answer: Loaded[Any] | None = None
    while True:
        try:
            asked = next(calls) if answer is None else calls.send(answer)
        except StopIteration as end:
            value: T = end.value
            return value
        try:
            answer = Loaded(await connector.run_async(asked.operation, *asked.args, **asked.kwargs))
        except exceptions.ConnectorException as error:
            answer = _not_loaded(error)


PROBLEMS = {
    Trouble.AWAY: "The database cannot be reached.",
    Trouble.SLOW: "The database took longer than two seconds and the query was stopped.",
    Trouble.RIGHTS: "The database role may not do this. Grant it the rights, or show the dashboard with another role.",
    Trouble.READ_ONLY: "The database is read-only: it is a standby, or its settings allow no changes.",
    Trouble.LOCKED: "Another session holds a lock on the row or table.",
    Trouble.VALUE: "The database does not accept a value of this address.",
    Trouble.SCHEMA: (
        "The tables are not those of this release. Run procrastinate schema --apply, or manage.py migrate in Django."
    ),
    Trouble.FULL: "The database is out of connections, memory or disk space.",
    Trouble.STOPPED: "The database is shutting down or starting.",
    Trouble.OTHER: "The database refused the query.",
}
"""What pages say of each kind of trouble."""
_TROUBLES = {
    "57014": Trouble.SLOW,
    "42501": Trouble.RIGHTS,
    "25006": Trouble.READ_ONLY,
    "55P03": Trouble.LOCKED,
}
_TROUBLES_OF_CLASS = {
    "08": Trouble.AWAY,
    "22": Trouble.VALUE,
    "42": Trouble.SCHEMA,
    "53": Trouble.FULL,
    "57": Trouble.STOPPED,
}


def _not_loaded(error: BaseException) -> Loaded[Any]:
    """Return what happened, without values and addresses, which the text of a driver's error may contain."""
    message, extra = "The dashboard could not read the database", {"action": "dashboard_problem"}
    if isinstance(error, exceptions.SchemaNotApplied | exceptions.DatabaseUnavailable):
        # The page asks again every few seconds, and a traceback says no more than the message.
        logger.warning("%s: %s", message, error, extra=extra)
    else:
        logger.warning(message, exc_info=error, extra=extra)
    if isinstance(error, exceptions.ReplicaBehind):
        return Loaded(problem=f"{error}.")
    code = sqlstate(error) or "08000"
    trouble = _TROUBLES.get(code) or _TROUBLES_OF_CLASS.get(code[:2], Trouble.OTHER)
    if trouble is Trouble.OTHER:
        return Loaded(problem=f"The database refused the query with the code {code}.")
    return Loaded(problem=PROBLEMS[trouble], trouble=trouble)
