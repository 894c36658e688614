"""Operations that tell how they were run."""

from __future__ import annotations

import sqlalchemy as sa

from procrastinate.core import NewJob, defer_job
from procrastinate.core.operation_marks import atomic
from tests.database import new_job


def backend_pid(connection: sa.Connection) -> int:
    """The server process of the connection."""
    return connection.execute(sa.text("SELECT pg_backend_pid()")).scalar_one()


def is_in_transaction(connection: sa.Connection) -> bool:
    """Whether a second statement belongs to the transaction of the first."""
    first = connection.execute(sa.text("SELECT pg_current_xact_id()::text")).scalar_one()
    second = connection.execute(sa.text("SELECT pg_current_xact_id_if_assigned()::text")).scalar_one()
    return bool(first == second)


atomic_is_in_transaction = atomic(lambda connection: is_in_transaction(connection))


@atomic
def defer_two_and_fail(connection: sa.Connection) -> None:
    """Insert jobs, and fail before the end."""
    defer_two(connection)
    raise ZeroDivisionError


@atomic
def defer_one_and_sleep(connection: sa.Connection) -> None:
    """Insert a job, and come to no end."""
    defer_one(connection)
    connection.execute(sa.text("SELECT pg_sleep(600)"))


def defer_two(connection: sa.Connection) -> None:
    """Insert two jobs, in two statements."""
    defer_job(connection, new_job())
    defer_job(connection, new_job())


def defer_one(connection: sa.Connection, job: NewJob | None = None) -> int | None:
    """Insert one job."""
    return defer_job(connection, job or new_job())
