"""What these tests count and break: the connections that a database has."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import sqlalchemy as sa


@pytest.fixture
def count_jobs(engine: sa.Engine) -> Callable[[], int]:
    """How many jobs others see: those that are committed."""

    def count() -> int:
        with engine.connect() as connection:
            return connection.execute(sa.text("SELECT count(*) FROM procrastinate_jobs")).scalar_one()

    return count


@pytest.fixture
def count_connections(connection: sa.Connection) -> Callable[[], int]:
    """How many connections the database has, without the one that asks."""
    others = sa.text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    return lambda: connection.execute(others).scalar_one()


@pytest.fixture
def end_connections(connection: sa.Connection) -> Callable[[], int]:
    """End all connections to the database but the one that does it, as a restart of the server would."""
    end = sa.text(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    return lambda: len(connection.execute(end).all())
