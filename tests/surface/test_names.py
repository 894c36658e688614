"""The names that 3.x programs import are still in their places."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

import procrastinate
from procrastinate import exceptions

NAMES = {
    "procrastinate": "App BaseConnector BaseRetryStrategy Blueprint JobContext PsycopgConnector RetryDecision "
    "RetryStrategy SyncPsycopgConnector AiopgConnector Psycopg2Connector __version__ __author__ __author_email__ "
    "__license__ __url__",
    "procrastinate.app": "App",
    "procrastinate.blueprints": "Blueprint",
    "procrastinate.builtin_tasks": "remove_old_jobs",
    "procrastinate.cli": "main",
    "procrastinate.connector": "BaseConnector BaseAsyncConnector Notify",
    "procrastinate.contrib.aiopg": "AiopgConnector",
    "procrastinate.contrib.psycopg2": "Psycopg2Connector",
    "procrastinate.contrib.sqlalchemy": "SQLAlchemyPsycopg2Connector",
    "procrastinate.contrib.sphinx": "setup",
    "procrastinate.exceptions": "AlreadyEnqueued AppNotOpen CallerModuleUnknown ConnectorException FunctionPathError "
    "InvalidTimestamp JobAborted JobRetry LoadFromPathError MiddlewareKindMismatch MissingApp MovedElsewhere NoResult "
    "ProcrastinateException RunTaskError SyncConnectorConfigurationError TaskAlreadyRegistered TaskNotFound "
    "UnboundTaskError UniqueViolation",
    "procrastinate.job_context": "AbortReason JobContext JobResult",
    "procrastinate.jobs": "AbortJobRequested DEFAULT_PRIORITY DEFAULT_QUEUE DeleteJobCondition Job JobDeferrer "
    "JobInserted Notification Status",
    "procrastinate.manager": "JobManager NotificationCallback QUEUEING_LOCK_CONSTRAINT",
    "procrastinate.middleware": "TaskMiddleware WorkerMiddleware compose is_async_middleware",
    "procrastinate.periodic": "MARGIN MAX_DELAY PeriodicDeferrer PeriodicRegistry PeriodicTask TaskAtTime",
    "procrastinate.psycopg_connector": "PsycopgConnector",
    "procrastinate.retry": "BaseRetryStrategy RetryDecision RetryStrategy RetryValue get_retry_strategy",
    "procrastinate.schema": "SchemaManager",
    "procrastinate.shell": "ProcrastinateShell",
    "procrastinate.sync_psycopg_connector": "SyncPsycopgConnector",
    "procrastinate.tasks": "ConfigureTaskOptions Task configure_task",
    "procrastinate.testing": "InMemoryConnector",
    "procrastinate.types": "JSONDict JSONValue JobToDefer TimeDeltaParams",
    "procrastinate.utils": "add_namespace async_to_sync datetime_from_timedelta_params get_full_path import_all "
    "load_from_path queues_display sync_to_async utcnow",
    "procrastinate.worker": "ABORT_JOB_POLLING_INTERVAL FETCH_JOB_POLLING_INTERVAL WORKER_CONCURRENCY WORKER_NAME "
    "Worker",
}


@pytest.mark.parametrize("module", NAMES)
def test_names_are_where_they_were(module: str) -> None:
    loaded = importlib.import_module(module)
    assert [name for name in NAMES[module].split() if not hasattr(loaded, name)] == []


def test_a_star_import_brings_what_it_brought() -> None:
    assert sorted(procrastinate.__all__) == [
        *("App", "BaseConnector", "BaseRetryStrategy", "Blueprint", "JobContext"),
        *("PsycopgConnector", "RetryDecision", "RetryStrategy", "SyncPsycopgConnector"),
    ]


def test_the_package_says_what_it_is() -> None:
    about = (procrastinate.__author__, procrastinate.__author_email__, procrastinate.__license__, procrastinate.__url__)
    assert procrastinate.__version__.startswith("4.")
    assert all(isinstance(one, str) for one in about)


@pytest.mark.parametrize(
    ("stub", "path"),
    [
        (procrastinate.AiopgConnector, "procrastinate.contrib.aiopg.AiopgConnector"),
        (procrastinate.Psycopg2Connector, "procrastinate.contrib.psycopg2.Psycopg2Connector"),
    ],
)
def test_what_has_moved_says_where_it_is(stub: procrastinate._legacy.Moved, path: str) -> None:
    with pytest.raises(exceptions.MovedElsewhere, match=path):
        stub(dsn="")
    with pytest.raises(exceptions.MovedElsewhere, match=path):
        _ = stub.open
    assert not hasattr(stub, "__wrapped__")  # `inspect` can read the module without an error


def test_importing_the_package_imports_no_framework() -> None:
    code = "import procrastinate, sys; print([m for m in ('django', 'flask', 'fastapi', 'sphinx') if m in sys.modules])"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == "[]"


def test_helpers_work_as_they_did() -> None:
    from procrastinate import utils

    async def double(number: int) -> int:
        return 2 * number

    assert utils.async_to_sync(double, number=2) == 4
    assert utils.async_to_sync(utils.sync_to_async, abs, -3) == 3
    assert utils.utcnow() <= utils.datetime_from_timedelta_params({"seconds": 1})
    assert utils.add_namespace("task", "ns") == "ns:task"
    assert utils.queues_display(["a", "b"]) == "queues a, b"
