"""A connection whose transaction is rolled back, and everything on it: requests, tasks and the queue."""

from __future__ import annotations

from collections.abc import Iterator

import flask.testing
import pytest
import sqlalchemy as sa

import procrastinate
from examples.flask_sqlalchemy_app import web
from examples.flask_sqlalchemy_app.application import app, db, queue


@pytest.fixture(scope="session")
def engine() -> Iterator[sa.Engine]:
    """The engine, on a database with all tables."""
    assert app.test_cli_runner().invoke(web.create_tables).exit_code == 0
    with app.app_context():
        db.session.configure(join_transaction_mode="create_savepoint")
        engine = db.engine
    yield engine
    engine.dispose()


@pytest.fixture(autouse=True)
def connection(engine: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[sa.Connection]:
    """The connection of this test. ``db.session`` is led to it, and commits and rolls back savepoints only."""
    with app.app_context():
        engines = db.engines
    with engine.connect() as connection, connection.begin() as transaction:
        monkeypatch.setitem(engines, None, connection)
        yield connection
        transaction.rollback()


@pytest.fixture
def procrastinate_app() -> procrastinate.App:
    """For the fixtures of procrastinate."""
    return queue


@pytest.fixture
def procrastinate_connection(connection: sa.Connection) -> sa.Connection:
    """Where jobs are deferred, looked for and run."""
    return connection


@pytest.fixture
def client() -> flask.testing.FlaskClient:
    """A browser, as it were."""
    return app.test_client()
