"""A worker that is frozen in the middle of an operation does not keep rows from the others."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from procrastinate import core, exceptions
from procrastinate.adapters.connections.worker_connector import WorkerConnector
from procrastinate.core.lock_timeouts import LONGEST_PAUSE
from tests.database import new_job
from tests.worker.running import connector_for

IDLE = sa.text("SELECT current_setting('idle_in_transaction_session_timeout')")
OF_WORKERS = [
    core.fetch_jobs,
    core.finish_jobs,
    core.release_jobs,
    core.list_late_workers,
    core.list_unknown_jobs,
    core.promote_jobs,
    core.register_worker,
    core.remove_dead_workers,
    core.rescue_jobs,
    core.retry_jobs,
    core.return_unknown_jobs,
    core.sweep_parked_jobs,
    core.update_heartbeat,
]


@pytest.fixture
def connector(database_url: str) -> Iterator[WorkerConnector]:
    connector = connector_for(database_url)
    connector.open()
    yield connector
    connector.close()


@core.atomic
def read_idle_timeout(connection: sa.Connection) -> Any:
    return connection.execute(IDLE).scalar()


@pytest.mark.parametrize("operation", OF_WORKERS, ids=lambda operation: operation.__name__)
def test_what_workers_do_again_and_again_leaves_no_transaction_open(operation: Any) -> None:
    """The server commits by itself: between a statement and its commit, a worker cannot be frozen."""
    assert not core.is_atomic(operation)


def test_the_rows_of_a_worker_that_is_frozen_in_a_transaction_are_free_soon(
    connector: WorkerConnector, connection: sa.Connection, engine: sa.Engine
) -> None:
    job_id = core.defer_job(connection, new_job())
    assert job_id is not None
    locked, free = threading.Event(), threading.Event()

    @core.atomic
    def freeze(worker: sa.Connection) -> None:
        core.cancel_job(worker, job_id)
        locked.set()
        free.wait(20)
        worker.execute(IDLE)

    def wait_for_row() -> None:
        assert locked.wait(10)
        with engine.begin() as other:
            core.cancel_job(other, job_id, delete=True)
        free.set()

    other = threading.Thread(target=wait_for_row)
    other.start()
    with pytest.raises(exceptions.ConnectorException):
        connector.run(freeze)
    other.join()
    assert core.get_job_status(connection, job_id) is None


def test_the_time_that_a_worker_has_is_set_for_its_transaction_alone(connector: WorkerConnector) -> None:
    """Behind a pooler, others share the session."""
    assert connector.run(read_idle_timeout) == f"{LONGEST_PAUSE:g}s"
    assert connector.run(lambda connection: connection.execute(IDLE).scalar()) == "0"


@pytest.mark.parametrize(("given", "holds"), [("100ms", "100ms"), ("1h", "3s"), ("0", "3s")])
def test_a_shorter_time_that_is_set_already_stays(database_url: str, given: str, holds: str) -> None:
    options = f"-c idle_in_transaction_session_timeout={given}"
    connector = WorkerConnector(
        {"conninfo": sa.make_url(database_url).set(drivername="postgresql").render_as_string(False), "options": options}
    )
    connector.open()
    try:
        assert connector.run(read_idle_timeout) == holds
    finally:
        connector.close()


def test_an_operation_that_waits_briefly_sets_this_for_itself_alone(connector: WorkerConnector) -> None:
    worker_id = connector.run(core.register_worker)
    connector.run(core.retry_jobs, [core.JobRetry(id=1, attempts=0)], worker_id=worker_id)
    connector.run(core.rescue_jobs, max_rescues=1)
    setting = sa.text("SELECT current_setting('lock_timeout')")
    assert connector.run(lambda connection: connection.execute(setting).scalar()) == "0"
