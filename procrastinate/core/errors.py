"""The database failures that are expected here, recognised by SQLSTATE, whatever the driver wraps them in.

Codes: https://www.postgresql.org/docs/current/errcodes-appendix.html
"""

from __future__ import annotations

from collections.abc import Iterator

import sqlalchemy as sa

from procrastinate import exceptions
from procrastinate.core.tables import jobs

UNIQUE_VIOLATION = "23505"
LOCK_NOT_AVAILABLE = "55P03"
DEADLOCK_DETECTED = "40P01"
UNDEFINED_TABLE = "42P01"
UNDEFINED_COLUMN = "42703"
UNDEFINED_OBJECT = "42704"
UNDEFINED_FUNCTION = "42883"
_SINCE_THE_FIRST_REVISION = (jobs.c.readiness.name, jobs.c.finished_at.name)
_SCHEMA_TOO_OLD = {UNDEFINED_TABLE, UNDEFINED_COLUMN, UNDEFINED_OBJECT, UNDEFINED_FUNCTION}

_PASSING = {
    "40001",  # serialization_failure
    "40P01",  # deadlock_detected
    "55P03",  # lock_not_available
    "57014",  # query_canceled: statement_timeout
    "57P05",  # idle_session_timeout
    "25P03",  # idle_in_transaction_session_timeout
    "25006",  # read_only_sql_transaction: a standby, until it is promoted
}
_REFUSED_FOR_NOW = {UNIQUE_VIOLATION, DEADLOCK_DETECTED, LOCK_NOT_AVAILABLE, "40001", "57014"}
_PASSING_CLASSES = {
    "08",  # connection exceptions
    "53",  # insufficient resources: too many connections, disk full
    "57",  # operator intervention: shutdown, crash, cannot connect now
    "58",  # system errors
}


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error, what SQLAlchemy keeps in ``orig``, and the causes."""
    seen: set[int] = set()
    todo: list[BaseException | None] = [error]
    while todo:
        current = todo.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        todo += [current.__cause__, getattr(current, "orig", None)]


def sqlstate(error: BaseException) -> str | None:
    """The SQLSTATE of a database error, or ``None`` (as when the server was never reached)."""
    for current in _chain(error):
        code = getattr(current, "sqlstate", None) or getattr(current, "pgcode", None)
        if isinstance(code, str):
            return code
        details = current.args[0] if current.args else None
        if isinstance(details, dict) and isinstance(details.get("C"), str):  # pg8000
            return str(details["C"])
    return None


def constraint_name(error: BaseException) -> str | None:
    """The constraint that a database error is about, if it is about one."""
    for current in _chain(error):
        # psycopg and psycopg2 keep it in diag, asyncpg in the error; pg8000 in a dict of the protocol's fields.
        details = current.args[0] if current.args else None
        name = (
            getattr(getattr(current, "diag", None), "constraint_name", None)
            or getattr(current, "constraint_name", None)
            or (details.get("n") if isinstance(details, dict) else None)
        )
        if isinstance(name, str):
            return name
    return None


def is_unique_violation(error: BaseException) -> bool:
    """Somebody else was faster."""
    return sqlstate(error) == UNIQUE_VIOLATION


def is_lock_timeout(error: BaseException) -> bool:
    """Somebody has locked what was wanted, and did not let go in time."""
    return sqlstate(error) == LOCK_NOT_AVAILABLE


def is_deadlock(error: BaseException) -> bool:
    """Two waited for each other, and this one was sent away."""
    return sqlstate(error) == DEADLOCK_DETECTED


def is_invalid_value(error: BaseException) -> bool:
    """A value is not one that the column takes, now or ever: data exception, or integrity constraint violation."""
    return (sqlstate(error) or "")[:2] in ("22", "23")


def is_refused_for_now(error: BaseException) -> bool:
    """Return whether the database has refused this very statement, and may take it in a moment.

    True for unique violations, serialization failures, deadlocks, lock timeouts and statement timeouts. A trigger of
    the user's may raise any of them each time, and a statement over many rows may always exceed its timeout.
    """
    return sqlstate(error) in _REFUSED_FOR_NOW


def is_passing(error: BaseException) -> bool:
    """The same statement may well work in a moment: nothing is wrong with it."""
    code = sqlstate(error)
    if code is not None:
        return code in _PASSING or code[:2] in _PASSING_CLASSES
    return any(_is_lost_connection(current) for current in _chain(error))


def _is_lost_connection(error: BaseException) -> bool:
    if isinstance(error, (OSError, exceptions.DatabaseUnavailable, sa.exc.TimeoutError)):
        return True
    # Drivers have classes of their own below those that all share; core knows no driver.
    names = {cls.__name__ for cls in type(error).__mro__}
    return not names.isdisjoint(("OperationalError", "InterfaceError", "ConnectionDoesNotExistError"))


def translate(error: BaseException) -> exceptions.ConnectorException:
    """The exception that users see for an error of the database or its driver.

    The text is the server's own message: SQLAlchemy's would repeat the statement and the job's arguments.

    Tables without a column that the jobs have had since the first revision are those of 3.x.
    """
    if isinstance(error, exceptions.ConnectorException):
        return error
    code = sqlstate(error)
    message = _server_message(error)
    if code == UNDEFINED_COLUMN and any(name in message for name in _SINCE_THE_FIRST_REVISION):
        return exceptions.TablesOf3x()
    if code in _SCHEMA_TOO_OLD:
        return exceptions.SchemaNotApplied(f"{exceptions.SchemaNotApplied.__doc__} (PostgreSQL says: {message})")
    if code == UNIQUE_VIOLATION:
        return exceptions.UniqueViolation(message, constraint_name=constraint_name(error))
    if _means_unreachable(code) and any(_is_lost_connection(current) for current in _chain(error)):
        return exceptions.DatabaseUnavailable(f"The database cannot be reached: {message}")
    return exceptions.ConnectorException(f"Database error: {message}")


def _means_unreachable(code: str | None) -> bool:
    return code is None or code == "53300" or code[:2] in ("08", "57")


def _server_message(error: BaseException) -> str:
    original = list(_chain(error))[-1]
    return str(original).strip() or type(original).__name__
