"""Flask: an app that is open wherever the Flask app runs, and tasks that run in the Flask app's context."""

from __future__ import annotations

import atexit
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import flask

from procrastinate.app import App

if TYPE_CHECKING:
    from procrastinate.job_context import JobContext
    from procrastinate.middleware import TaskMiddleware
    from procrastinate.worker import Worker

_KEY = "procrastinate"


def init_app(flask_app: flask.Flask, app: App) -> flask.Flask:
    """Open the app for this Flask app, and return the latter.

    Connections are made when a job is first deferred: it may be called before a server forks.
    """
    flask_app.extensions[_KEY] = app.open()
    atexit.register(app.close)
    return flask_app


def get_app(flask_app: flask.Flask | None = None) -> App:
    """The app of a Flask app: of the current one by default."""
    found: App = (flask_app or flask.current_app).extensions[_KEY]
    return found


def app_context(flask_app: flask.Flask) -> list[TaskMiddleware]:
    """Task middleware by which tasks run inside the application context, where Flask's extensions work.

    Use it as ``App(..., worker_defaults={"task_middleware": app_context(flask_app)})``.
    """

    def run(call_next: Callable[[], Any], context: JobContext, worker: Worker) -> Any:
        with flask_app.app_context():
            return call_next()

    async def run_async(call_next: Callable[[], Awaitable[Any]], context: JobContext, worker: Worker) -> Any:
        with flask_app.app_context():
            return await call_next()

    return [run, run_async]
