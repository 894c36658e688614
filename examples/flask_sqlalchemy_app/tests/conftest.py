"""Fixtures that run requests, tasks and the queue on one connection, in a transaction that is rolled back."""

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
    """The engine of a database with all tables."""
    assert app.test_cli_runner().invoke(web.create_tables).exit_code == 0
    with app.app_context():
        db.session.configure(join_transaction_mode="create_savepoint")
        engine = db.engine
    yield engine
    engine.dispose()


@pytest.fixture(autouse=True)
def connection(engine: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[sa.Connection]:
    """This test's connection. ``db.session`` uses it, and commits and rolls back savepoints only."""
    with app.app_context():
        engines = db.engines
    with engine.connect() as connection, connection.begin() as transaction:
        monkeypatch.setitem(engines, None, connection)
        yield connection
        transaction.rollback()


@pytest.fixture
def procrastinate_app() -> procrastinate.App:
    """The app for Procrastinate's fixtures."""
    return queue


@pytest.fixture
def procrastinate_connection(connection: sa.Connection) -> sa.Connection:
    """The connection on which jobs are deferred, found and run."""
    return connection


@pytest.fixture
def client() -> flask.testing.FlaskClient:
    """A test client."""
    return app.test_client()
