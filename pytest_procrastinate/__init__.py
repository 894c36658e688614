"""The pytest plugin. pytest loads it in every project of an environment, so it imports only when a fixture needs it.

It is not part of the package ``procrastinate``, because pytest would then import SQLAlchemy too.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from procrastinate import App
    from procrastinate.testing import Jobs, RunAtDefer, WorkerThread

__all__ = [
    "procrastinate_app",
    "procrastinate_connection",
    "procrastinate_jobs",
    "procrastinate_run_at_defer",
    "procrastinate_worker",
    "procrastinate_worker_options",
]

_APP = "procrastinate_app"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the ini option ``procrastinate_app``."""
    parser.addini(_APP, "The app under test, as package.module.name. A Django project needs none.", "string")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With pytest-django, make tests with a worker commit, because a worker sees only committed jobs."""
    if not config.pluginmanager.has_plugin("django"):
        return
    from pytest_django.lazy_django import django_settings_is_configured

    if not django_settings_is_configured():
        return
    for item in items:
        if "procrastinate_worker" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.django_db(transaction=True), append=False)


@pytest.fixture
def procrastinate_app(pytestconfig: pytest.Config) -> App:
    """The app under test: the ini option ``procrastinate_app``, or the Django project's app. You may override it."""
    from procrastinate.testing.default_app import find_app

    try:
        return find_app(pytestconfig.getini(_APP) or None)
    except ValueError as error:
        raise pytest.UsageError(
            f"{error}. Set procrastinate_app in pytest's ini file, or override the fixture"
        ) from None


@pytest.fixture
def procrastinate_connection() -> Any:
    """The connection or session on which jobs are deferred and run. Override it to roll back after each test.

    By default the app's own connection is used.
    """
    return None


@pytest.fixture
def procrastinate_worker_options() -> dict[str, Any]:
    """Worker options for ``procrastinate_jobs`` and ``procrastinate_worker``. Override it to set them."""
    return {}


@pytest.fixture
def procrastinate_jobs(
    request: pytest.FixtureRequest,
    procrastinate_app: App,
    procrastinate_connection: Any,
    procrastinate_worker_options: Any,
) -> Iterator[Jobs]:
    """The jobs of this test: a :class:`procrastinate.testing.Jobs`."""
    from procrastinate.testing import Jobs

    if "db" in request.fixturenames:
        request.getfixturevalue("db")  # must come first, whatever the order in the test's signature
    is_async = inspect.iscoroutinefunction(request.function)
    shared = procrastinate_app.caller_thread().shared() if is_async else contextlib.nullcontext()
    jobs = Jobs(procrastinate_app, connection=procrastinate_connection, worker_options=procrastinate_worker_options)
    with jobs, shared:
        yield jobs


@pytest.fixture
def procrastinate_run_at_defer(procrastinate_jobs: Jobs) -> RunAtDefer:
    """Run jobs when they are deferred, in this test."""
    return procrastinate_jobs.run_at_defer()


@pytest.fixture
def procrastinate_worker(procrastinate_app: App, procrastinate_worker_options: Any) -> Iterator[WorkerThread]:
    """A running worker, for tests that commit. All jobs are deleted at the end."""
    from procrastinate.testing import WorkerThread

    worker = WorkerThread(procrastinate_app, **procrastinate_worker_options)
    worker.deletes_jobs = True
    with worker:
        yield worker
