"""Flask integration: an app that opens with the Flask app, and tasks that run in the application context."""

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
    """Open the app for a Flask app and return the Flask app.

    No connection is made before a job is deferred, so it is safe to call this before a server forks.
    """
    flask_app.extensions[_KEY] = app.open()
    atexit.register(app.close)
    return flask_app


def get_app(flask_app: flask.Flask | None = None) -> App:
    """Return the app of a Flask app, by default of the current one."""
    found: App = (flask_app or flask.current_app).extensions[_KEY]
    return found


def app_context(flask_app: flask.Flask) -> list[TaskMiddleware]:
    """Return task middleware that runs tasks inside the application context, which Flask's extensions need.

    Use it as ``App(..., worker_defaults={"task_middleware": app_context(flask_app)})``.
    """

    def run(call_next: Callable[[], Any], context: JobContext, worker: Worker) -> Any:
        with flask_app.app_context():
            return call_next()

    async def run_async(call_next: Callable[[], Awaitable[Any]], context: JobContext, worker: Worker) -> Any:
        with flask_app.app_context():
            return await call_next()

    return [run, run_async]
