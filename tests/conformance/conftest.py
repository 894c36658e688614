"""The ``run`` fixture, once for each kind of connection."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import psycopg
import pytest
from psycopg import sql

from procrastinate.core import metadata
from tests.conformance.kinds import KINDS, Kind
from tests.conformance.runs import Run
from tests.database import Databases, libpq_url


@pytest.fixture(scope="module")
def shared_database_url(databases: Databases) -> Iterator[str]:
    """The URL of a database that the tests of a module share: there are many, and a clone for each takes long."""
    url = databases.create_migrated()
    yield url
    databases.drop(url)


@pytest.fixture(scope="module")
def empty_tables(shared_database_url: str) -> Iterator[Callable[[], None]]:
    """Deletes all rows of the shared database, and lets ids count from one again.

    TRUNCATE would take seventy times as long as the deletion of the few rows that a test leaves.
    """
    tables = [table.name for table in metadata.sorted_tables]
    with psycopg.connect(libpq_url(shared_database_url), autocommit=True) as connection:
        connection.execute("SET lock_timeout = '10s'")
        connection.execute("SET session_replication_role = replica")  # no triggers
        sequences = [name for (name,) in connection.execute("SELECT sequencename FROM pg_sequences")]

        def empty() -> None:
            with connection.pipeline():
                for table in tables:
                    connection.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(table)))
                for sequence in sequences:
                    connection.execute("SELECT setval(%s, 1, false)", [sequence])

        yield empty


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> Kind:
    """A kind of connection."""
    kind: Kind = request.param
    return kind


@pytest.fixture(scope="module")
def shared_run(request: pytest.FixtureRequest, kind: Kind) -> Iterator[Run | None]:
    """Runs operations on the shared database; ``None`` for a kind that has none."""
    if not kind.has_database:
        yield None
        return
    with kind.open(request.getfixturevalue("shared_database_url")) as run:
        yield run


@pytest.fixture
def run(request: pytest.FixtureRequest, kind: Kind, shared_run: Run | None) -> Iterator[Run]:
    """Runs operations on a database that is empty, with ids that count from one."""
    if shared_run is not None:
        empty_tables = request.getfixturevalue("empty_tables")
        yield shared_run
        empty_tables()
        return
    needs_database = request.node.get_closest_marker("needs_database")
    if needs_database is not None:
        pytest.skip(f"There is no database: {needs_database.kwargs['reason']}")
    with kind.open("") as run:
        yield run
