"""Fixtures of all tests: a database of each test's own, on the embedded server of the run."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from tests import database, share
from tests.missing import is_bare

_XDIST_WORKER = "PYTEST_XDIST_WORKER"


def pytest_configure(config: pytest.Config) -> None:
    _hear_interrupts()
    if _XDIST_WORKER not in os.environ:
        database.create_root()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what another run of CI has: on a second Python, and on a bare machine.

    On a bare machine, of a test that runs behind PgBouncer and elsewhere, only the run behind it is left.
    """
    items[:], left_out = share.select(items)
    config.hook.pytest_deselected(items=left_out)
    if not is_bare():
        return
    behind = {_function(item) for item in items if "pgbouncer" in item.name}
    left_out = [item for item in items if _function(item) in behind and "pgbouncer" not in item.name]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in set(left_out)]


def _function(item: pytest.Item) -> str:
    return item.nodeid.partition("[")[0]


def _hear_interrupts() -> None:
    """A run in the background of a shell (``make test &``) ignores SIGINT, and so would the programs that it starts."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_unconfigure(config: pytest.Config) -> None:
    if _XDIST_WORKER not in os.environ:
        database.remove_root()


@pytest.fixture(scope="session")
def databases() -> Iterator[database.Databases]:
    """Where the databases of this process come from."""
    prefix = f"test_{os.environ.get(_XDIST_WORKER, 'main')}"
    databases = database.Databases(database.start_server(), prefix)
    yield databases
    databases.close()


@pytest.fixture
def database_url(databases: database.Databases) -> Iterator[str]:
    """The URL of a fresh database of this test, with the newest schema."""
    url = databases.create_migrated()
    yield url
    databases.drop(url)


@pytest.fixture
def empty_database_url(databases: database.Databases) -> Iterator[str]:
    """The URL of a fresh database of this test, without a schema."""
    url = databases.create_empty()
    yield url
    databases.drop(url)


@pytest.fixture
def engine(database_url: str) -> Iterator[sa.Engine]:
    """An engine on this test's database."""
    engine = sa.create_engine(database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def connection(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A connection to this test's database, in autocommit."""
    with engine.connect() as connection:
        yield connection.execution_options(isolation_level="AUTOCOMMIT")
