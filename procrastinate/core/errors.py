"""Recognise expected database failures by SQLSTATE, whatever exception the driver raises.

Codes: https://www.postgresql.org/docs/current/errcodes-appendix.html
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import sqlalchemy as sa

from procrastinate import exceptions
from procrastinate.core.tables import jobs

FOREIGN_KEY_VIOLATION = "23503"
UNIQUE_VIOLATION = "23505"
LOCK_NOT_AVAILABLE = "55P03"
DEADLOCK_DETECTED = "40P01"
SERIALIZATION_FAILURE = "40001"
STATEMENT_TIMEOUT = "57014"
PROGRAM_LIMIT_EXCEEDED = "54000"
"""A value is too long for an index, for example. It enters some indexes only when the job gets its lock."""
UNDEFINED_TABLE = "42P01"
UNDEFINED_COLUMN = "42703"
UNDEFINED_OBJECT = "42704"
UNDEFINED_FUNCTION = "42883"
_SINCE_THE_FIRST_REVISION = (jobs.c.readiness.name, jobs.c.finished_at.name)
_SCHEMA_TOO_OLD = {UNDEFINED_TABLE, UNDEFINED_COLUMN, UNDEFINED_OBJECT, UNDEFINED_FUNCTION}

_PASSING = {
    SERIALIZATION_FAILURE,
    "40P01",  # deadlock_detected
    "55P03",  # lock_not_available
    STATEMENT_TIMEOUT,
    "57P05",  # idle_session_timeout
    "25P03",  # idle_in_transaction_session_timeout
    "25006",  # read_only_sql_transaction: a standby, until its promotion
}
_REFUSED_FOR_NOW = {UNIQUE_VIOLATION, DEADLOCK_DETECTED, LOCK_NOT_AVAILABLE, SERIALIZATION_FAILURE, STATEMENT_TIMEOUT}
_PASSING_CLASSES = {
    "08",  # connection exceptions
    "53",  # insufficient resources: too many connections, disk full
    "57",  # operator intervention: shutdown, crash, cannot connect now
    "58",  # system errors
}

_OWN_PREFIX = "procrastinate_"
# Classes of errors that concern a statement, a role or a session. All others, and those of the user, concern a row.
_STATEMENT_CLASSES = _PASSING_CLASSES | {"00", "01", "02", "03", "09", "0A", "0B", "0F", "0L", "0P", "0Z", "24", "25"}
_STATEMENT_CLASSES |= {"26", "28", "2B", "2D", "34", "3B", "3D", "3F", "40", "42", "54", "72", "F0", "HV", "XX"}


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield the error, its SQLAlchemy ``orig`` and its causes."""
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
    """Return the SQLSTATE of a database error, or ``None`` if it has none (for example, without a connection)."""
    for current in _chain(error):
        code = getattr(current, "sqlstate", None) or getattr(current, "pgcode", None)
        if isinstance(code, str):
            return code
        details = current.args[0] if current.args else None
        if isinstance(details, dict) and isinstance(details.get("C"), str):  # pg8000
            return str(details["C"])
    return None


def code_of(error: BaseException) -> str:
    """Return the SQLSTATE of an error, or the name of its class. It never holds a value."""
    return sqlstate(error) or type(error).__name__


def constraint_name(error: BaseException) -> str | None:
    """Return the name of the violated constraint, or ``None``."""
    for current in _chain(error):
        # psycopg and psycopg2 keep the name in diag, asyncpg in the error, pg8000 in a dict of protocol fields.
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
    """Return True for a unique violation (23505)."""
    return sqlstate(error) == UNIQUE_VIOLATION


def is_referenced(error: BaseException) -> bool:
    """Return True if a foreign key of the user refers to a row that would be deleted (23503)."""
    return sqlstate(error) == FOREIGN_KEY_VIOLATION


def is_lock_timeout(error: BaseException) -> bool:
    """Return True for a lock timeout (55P03)."""
    return sqlstate(error) == LOCK_NOT_AVAILABLE


def is_statement_timeout(error: BaseException) -> bool:
    """Return True if the statement was cut off (57014): by a ``statement_timeout``, or by a user."""
    return sqlstate(error) == STATEMENT_TIMEOUT


def is_deadlock(error: BaseException) -> bool:
    """Return True if PostgreSQL chose this transaction to end a deadlock (40P01)."""
    return sqlstate(error) == DEADLOCK_DETECTED


def is_invalid_value(error: BaseException) -> bool:
    """Return True if the column can never take the value (data exception or integrity constraint violation)."""
    return (sqlstate(error) or "")[:2] in ("22", "23")


def is_refused_for_now(error: BaseException) -> bool:
    """Return True if the database refused this statement and may accept it in a moment.

    True for unique violations, serialization failures, deadlocks, lock timeouts and statement timeouts. A user's
    trigger may raise any of them every time, and a statement over many rows may always exceed its timeout.
    """
    return sqlstate(error) in _REFUSED_FOR_NOW


def is_row_refused(error: BaseException) -> bool:
    """Return True if the database refuses to change one row, and may well change others.

    A trigger, a constraint, a foreign key or a row-level policy of the user refuses it. A trigger raises any code, one
    of its own too, and it may contain a mistake. A trigger of this project may lack a right or a table that only some
    rows need, such as those with a limit. Unique violations of this project's indexes are races, which callers handle.
    """
    code = sqlstate(error)
    if code is None or is_passing(error):
        return False
    if _is_of_policy(error) or _is_of_users_function(error):
        return True
    if code[:2] == "42" and any(_FUNCTION.search(context) for context in _details(error, "context", "context", "W")):
        return True
    if code == UNIQUE_VIOLATION:
        return not (constraint_name(error) or "").startswith(_OWN_PREFIX)
    return code == PROGRAM_LIMIT_EXCEEDED or code[:2] not in _STATEMENT_CLASSES


def _details(error: BaseException, diag_name: str, attribute: str, field: str) -> Iterator[str]:
    """Yield a field of the server's error, which each driver keeps in its own place."""
    for current in _chain(error):
        fields = current.args[0] if current.args else None
        values = (
            getattr(getattr(current, "diag", None), diag_name, None),
            getattr(current, attribute, None),
            fields.get(field) if isinstance(fields, dict) else None,
        )
        yield from (value for value in values if isinstance(value, str))


def _is_of_policy(error: BaseException) -> bool:
    """Return True if a row-level policy refuses a row. A missing right has the same code."""
    routines = _details(error, "source_function", "server_source_function", "R")
    return any(routine == "ExecWithCheckOptions" for routine in routines)


def _is_of_users_function(error: BaseException) -> bool:
    """Return True if a function that is not one of this project's raised the error: a trigger of the user."""
    for context in _details(error, "context", "context", "W"):
        function = _FUNCTION.search(context)
        if function is not None:
            return not function[1].startswith(_OWN_PREFIX)
    return False


_FUNCTION = re.compile(r"(?:PL/\w+(?:[ -][Ff]un\w+)?|SQL[ -][Ff]un\w+) (?:\"?\w+\"?[.])?\"?(\w+)\"?[( ]")
"""The function in which an error arose is the first one of its context. A context may begin with a statement of it."""


_CHANGED = re.compile(rf'(?:INSERT INTO|UPDATE|DELETE FROM)\s+"?({_OWN_PREFIX}\w+)', re.IGNORECASE)


def _refusal(error: BaseException) -> str:
    """Return which function of the user raised the error, and the tables whose change may have called it.

    A change of a job leads to changes of other tables, so the text of the statement may name more than one. It is empty
    for all other errors.
    """
    if not _is_of_users_function(error):
        return ""
    context = next(_details(error, "context", "context", "W"))
    function = _FUNCTION.search(context)
    statement = context.partition('SQL statement "')[2].partition('"\n')[0]
    statement = statement or next((text for one in _chain(error) if (text := getattr(one, "statement", None))), "")
    tables = " or ".join(dict.fromkeys(_CHANGED.findall(statement)))
    by = f"raised by the function {function[1]}" if function is not None else "raised by a function"
    return f" ({by}, called by a change of {tables})" if tables else f" ({by})"


def is_passing(error: BaseException) -> bool:
    """Return True if the statement is fine and may succeed in a moment."""
    code = sqlstate(error)
    if code is not None:
        return code in _PASSING or code[:2] in _PASSING_CLASSES
    return any(_is_lost_connection(current) for current in _chain(error))


def _is_lost_connection(error: BaseException) -> bool:
    if isinstance(error, (OSError, exceptions.DatabaseUnavailable, sa.exc.TimeoutError)):
        return True
    # Drivers derive their own classes from the common ones, and core knows no driver. So compare names.
    names = {cls.__name__ for cls in type(error).__mro__}
    return not names.isdisjoint(("OperationalError", "InterfaceError", "ConnectionDoesNotExistError"))


def translate(error: BaseException) -> exceptions.ConnectorException:
    """Return the public exception for an error of the database or its driver.

    The text is the server's own message, because SQLAlchemy's repeats the statement and the job's arguments. For the
    same reason, the detail of a refused row is left out. A missing column that every revision of this project has means
    that the tables are those of 3.x.
    """
    if isinstance(error, exceptions.ConnectorException):
        return error
    code = sqlstate(error)
    message = _server_message(error)
    # The later lines of the message show the statement, which names these columns, whichever one is missing.
    first_line = message.partition("\n")[0]
    if code == UNDEFINED_COLUMN and any(name in first_line for name in _SINCE_THE_FIRST_REVISION):
        return exceptions.TablesOf3x()
    if code in _SCHEMA_TOO_OLD:
        return exceptions.SchemaNotApplied(
            f"{exceptions.SchemaNotApplied.default_message()} PostgreSQL says: {first_line}"
        )
    if code == UNIQUE_VIOLATION:
        constraint = constraint_name(error)
        hint = _WHY_TAKEN if constraint == _KEY_OF_JOBS else ""
        return exceptions.UniqueViolation(f"{message}{hint}", constraint_name=constraint)
    if _means_unreachable(code) and any(_is_lost_connection(current) for current in _chain(error)):
        return exceptions.DatabaseUnavailable(f"The database cannot be reached: {message}")
    hint = _WHY_STOPPED if code == STATEMENT_TIMEOUT else ""
    return exceptions.ConnectorException(f"Database error: {message}{hint}")


_KEY_OF_JOBS = "procrastinate_jobs_pkey"
_WHY_TAKEN = (
    ". The sequence of the ids is behind them, as after a copy of the tables without sequences: `procrastinate doctor` "
    "shows the statement that sets it"
)
_WHY_STOPPED = (
    ". A time limit has stopped it, unless an administrator has. The database may be busy, or another session may have "
    "locked a table"
)


def _means_unreachable(code: str | None) -> bool:
    return code is None or code == "53300" or (code[:2] in ("08", "57") and code != STATEMENT_TIMEOUT)


def _server_message(error: BaseException) -> str:
    original = list(_chain(error))[-1]
    first, line, rest = (_without_values(error, original).strip() or type(original).__name__).partition("\n")
    return first + _refusal(error) + line + rest


def _without_values(error: BaseException, original: BaseException) -> str:
    """Return the text of an error without the detail of a refused row.

    It shows the row, with the arguments of the job, or the values of a key.
    """
    if not is_invalid_value(error):
        return str(original)
    fields = original.args[0] if original.args else None
    if isinstance(fields, dict):  # pg8000
        return str({key: value for key, value in fields.items() if key != "D"})
    text = str(original)
    for detail in _details(error, "message_detail", "detail", "D"):
        text = re.sub(rf"\s*\w+ ?: *{re.escape(detail)}", "", text)  # the label may be translated
    return text
