"""Wiring an app into Flask."""

from __future__ import annotations

import flask
import pytest

import procrastinate
from procrastinate.contrib.flask import app_context, get_app, init_app

EXTENSION = "shop"


@pytest.fixture
def app(database_url: str) -> procrastinate.App:
    """An app that is not open."""
    return procrastinate.App(connector=database_url)


def test_init_app_opens_the_app(app: procrastinate.App) -> None:
    """And may be called for each Flask app of a factory."""
    for _ in range(2):
        flask_app = flask.Flask(__name__)
        assert init_app(flask_app, app) is flask_app
        assert app.check_connection()
    app.close()


def test_the_app_is_found(app: procrastinate.App) -> None:
    """Of the current Flask app, or of a given one."""
    flask_app = init_app(flask.Flask(__name__), app)
    assert get_app(flask_app) is app
    with flask_app.app_context():
        assert get_app() is app
    app.close()


async def test_tasks_run_in_the_application_context(app: procrastinate.App) -> None:
    """Sync ones and async ones."""
    flask_app = flask.Flask(__name__)
    names = []

    @app.task
    def sync_task() -> None:
        names.append(flask.current_app.name)

    @app.task
    async def async_task() -> None:
        names.append(flask.current_app.name)

    async with app.open_async():
        await sync_task.defer_async()
        await async_task.defer_async()
        await app.run_worker_async(wait=False, install_signal_handlers=False, task_middleware=app_context(flask_app))
    assert names == [__name__, __name__]
