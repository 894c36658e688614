"""The ``run`` fixture, once for each kind of connection."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from procrastinate.core import metadata
from tests.conformance.kinds import KINDS, Kind, Run
from tests.database import Databases, libpq_url


@pytest.fixture(scope="module")
def shared_database_url(databases: Databases) -> Iterator[str]:
    """The URL of a database that the tests of a module share: there are many, and a clone for each takes long."""
    url = databases.create_migrated()
    yield url
    databases.drop(url)


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
        database_url = request.getfixturevalue("shared_database_url")
        yield shared_run
        _empty(database_url)
        return
    needs_database = request.node.get_closest_marker("needs_database")
    if needs_database is not None:
        pytest.skip(f"There is no database: {needs_database.kwargs['reason']}")
    with kind.open("") as run:
        yield run


def _empty(database_url: str) -> None:
    tables = ", ".join(table.name for table in metadata.sorted_tables)
    with psycopg.connect(libpq_url(database_url)) as connection:
        connection.execute("SET lock_timeout = '10s'")
        connection.execute(f"TRUNCATE {tables} RESTART IDENTITY")  # type: ignore[call-overload]
