"""Adopts the tables of 3.10: runs the steps, reports each one, and tries again while other sessions hold a lock."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from functools import partial

import sqlalchemy as sa

from procrastinate import exceptions
from procrastinate._durations import duration
from procrastinate._text.logs import get_logger
from procrastinate.alembic.adoption.state import check
from procrastinate.alembic.adoption.statements import drop_unfinished
from procrastinate.alembic.adoption.steps import Step, pending, steps
from procrastinate.core.errors import is_deadlock, is_lock_timeout
from procrastinate.core.health import read_clock

Report = Callable[[str], object]

_logger = get_logger(__name__)
_PAUSES = (0.2, 0.5, 1.0, 2.0, 5.0)
"""Seconds between two tries for a lock. The last one holds for all later tries."""
_GIVE_UP_AFTER = 600.0
SECONDS_A_MILLION = 6.0
"""How long the indexes of a million jobs take, on a small machine."""


def report_to_log(line: str) -> None:
    """Say in the log how far the adoption is."""
    _logger.info(line, extra={"action": "adopt_schema"})


def adopt(connection: sa.Connection, report: Report = report_to_log) -> None:
    """Upgrade tables of 3.10, while its workers and writers go on. The connection is in autocommit.

    Parameters
    ----------
    report:
        Called with a line for people before and after each step.

    Raises
    ------
    SchemaConflict
        The tables are older than 3.10, another role owns them, or the user has columns or tables under names that this
        release needs. Nothing was changed.
    ConnectorException
        A lock was not to be had in ten minutes. What was done stays, and the next call goes on from there.
    """
    check(connection)
    todo = pending(connection)
    for number, step in enumerate(todo, start=1):
        report(f"{number}/{len(todo)} {step.what} (locks: {step.locks})")
        started = read_clock(connection)
        for statement in step.statements:
            _run(connection, statement, step, partial(with_patience, report=report, index=step.index), report)
        report(f"    {duration(read_clock(connection) - started)}")


def adopt_in_transaction(connection: sa.Connection, report: Report = report_to_log) -> None:
    """Upgrade tables of 3.10 within the transaction that is open. Writers wait until it ends.

    Raises
    ------
    SchemaConflict
        As for :func:`adopt`.
    """
    check(connection)
    setting = sa.func.current_setting("lock_timeout", type_=sa.Text())
    before = connection.execute(sa.select(setting)).scalar_one()
    for step in steps(concurrently=False):
        for statement in step.statements:
            _run(connection, statement, step, execute, report)
    # Each step has set its own for the rest of the transaction, which is the caller's.
    connection.execute(sa.select(sa.func.set_config("lock_timeout", before, sa.true())))


def execute(connection: sa.Connection, statement: str) -> int:
    """Execute a statement as it is written, and return how many rows it has changed."""
    # Of text, SQLAlchemy reads :names as parameters.
    return connection.execute(sa.text(statement.replace(":", r"\:"))).rowcount


def _run(
    connection: sa.Connection,
    statement: str,
    step: Step,
    run: Callable[[sa.Connection, str], int],
    report: Report,
) -> None:
    changed = total = run(connection, statement)
    while step.until_done and changed > 0:
        report(f"    {total:,} rows")
        changed = run(connection, statement)
        total += changed


def with_patience(connection: sa.Connection, statement: str, report: Report, index: str | None = None) -> int:
    """Execute a statement, again and again while others hold the lock that it needs. They are named.

    Parameters
    ----------
    index:
        What the statement builds. If a try before has not finished it, it is dropped first.

    Returns
    -------
    How many rows it has changed.
    """
    begun = read_clock(connection)
    for pause in _pauses():
        try:
            if index is not None:
                _drop_what_is_left(connection, index, report)
            return execute(connection, statement)
        except Exception as error:
            is_passing = is_lock_timeout(error) or is_deadlock(error)
            if not is_passing or read_clock(connection) - begun > _GIVE_UP_AFTER:
                raise
        report(f"    others hold the lock: {_holders(connection)}. The next try is in {duration(pause)}")
        _sleep(connection, pause)
    raise AssertionError("unreachable")


def _pauses() -> Iterator[float]:
    yield from _PAUSES
    while True:
        yield _PAUSES[-1]


def _sleep(connection: sa.Connection, seconds: float) -> None:
    """Let the server wait: in async code, the event loop goes on. Two that adopt at once do not keep step."""
    connection.execute(_SLEEP, {"seconds": seconds * random.uniform(0.8, 1.2)})


_SLEEP = sa.text("SELECT pg_sleep(:seconds)")

_HOLDERS = sa.text(
    """
    SELECT DISTINCT format('server process %s (%s, its transaction is %s old)', activity.pid, activity.state,
        date_trunc('second', now() - activity.xact_start))
    FROM pg_locks AS lock
    JOIN pg_stat_activity AS activity ON activity.pid = lock.pid
    WHERE lock.granted AND lock.pid <> pg_backend_pid() AND activity.xact_start IS NOT NULL
        AND (lock.relation IN (
                to_regclass('procrastinate_jobs'), to_regclass('procrastinate_workers'),
                to_regclass('procrastinate_events'), to_regclass('procrastinate_periodic_defers')
            ) OR (lock.locktype = 'advisory' AND lock.classid = 1886547811 AND lock.database = (
                SELECT oid FROM pg_database WHERE datname = current_database()
            )))
    """
)


def _holders(connection: sa.Connection) -> str:
    return ", ".join(connection.execute(_HOLDERS).scalars()) or "they are gone by now"


_IS_UNFINISHED = sa.text("SELECT count(*) > 0 FROM pg_index WHERE indexrelid = to_regclass(:name) AND NOT indisvalid")


def _drop_what_is_left(connection: sa.Connection, name: str, report: Report) -> None:
    """Drop an index that a run before has begun and not finished. ``IF NOT EXISTS`` would take it for good.

    One that another session builds just now is waited for.
    """
    if connection.execute(_IS_UNFINISHED, {"name": name}).scalar_one():
        execute(connection, drop_unfinished(name))
        report(f"    {name} was there and not finished: it is built again")


def require(condition: bool, message: str) -> None:
    """Refuse to go on.

    Raises
    ------
    SchemaConflict
        The condition does not hold.
    """
    if not condition:
        raise exceptions.SchemaConflict(message)
