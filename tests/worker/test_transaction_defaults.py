"""A database or a role whose transactions are not READ COMMITTED, or may not write, unless they say so themselves."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest
import sqlalchemy as sa

from procrastinate import core
from procrastinate.adapters.connections.worker_connector import WorkerConnector
from procrastinate.app import App
from procrastinate.job_context import JobContext
from procrastinate.retry import RetryStrategy
from tests.worker.running import APPLICATION, Queue, Workers, connector_for, until

DEFAULTS = {
    "repeatable read": "default_transaction_isolation = 'repeatable read'",
    "serializable": "default_transaction_isolation = 'serializable'",
    "read only": "default_transaction_read_only = on",
}


@pytest.fixture(params=DEFAULTS, ids=list(DEFAULTS))
def defaults(request: pytest.FixtureRequest, connection: sa.Connection) -> str:
    """What transactions are in this test's database, for connections that are made from now on."""
    setting = DEFAULTS[request.param]
    database = sa.make_url(connection.engine.url).database
    connection.exec_driver_sql(f'ALTER DATABASE "{database}" SET {setting}')
    return str(request.param)


@pytest.fixture
async def connector(database_url: str) -> AsyncIterator[WorkerConnector]:
    """A worker's."""
    connector = connector_for(database_url)
    await connector.open_async()
    yield connector
    await connector.close_async()


def look(connection: sa.Connection) -> tuple[str, str]:
    """How this operation runs."""
    names = ("transaction_isolation", "transaction_read_only")
    level, read_only = (connection.scalar(sa.text(f"SELECT current_setting('{name}')")) for name in names)
    return level, read_only


@core.atomic
def look_in_transaction(connection: sa.Connection) -> tuple[str, str]:
    """The same, in several statements that belong together."""
    return look(connection)


@pytest.mark.usefixtures("defaults")
async def test_operations_of_a_worker_are_read_committed_and_may_write(connector: WorkerConnector) -> None:
    """On a connection that is new, and on one that was used."""
    for operation in (look, look_in_transaction, look, look_in_transaction):
        assert connector.run(operation) == ("read committed", "off")
        assert await connector.run_async(operation) == ("read committed", "off")


async def test_where_the_defaults_suit_the_server_is_asked_once_a_connection(connector: WorkerConnector) -> None:
    """And there is no transaction, whose round trips everybody would pay for."""
    statements: list[str] = []

    def record(_connection: sa.Connection, _cursor: object, statement: str, *_: object) -> None:
        statements.append(statement)

    def watch(connection: sa.Connection) -> None:
        sa.event.listen(connection.engine, "before_cursor_execute", record)
        connection.exec_driver_sql("SELECT 1")

    await connector.run_async(watch)
    await connector.run_async(look)
    await connector.run_async(look)
    assert len([statement for statement in statements if "default_transaction" in statement]) == 0
    assert len(statements) == 5


@pytest.mark.usefixtures("defaults")
async def test_workers_do_their_work(
    app: App, workers: Workers, queue: Queue, caplog: pytest.LogCaptureFixture, connection: sa.Connection
) -> None:
    """Two at once, which meet in the same rows: locks, retries, aborts, heartbeats; and no word of trouble."""
    connection.exec_driver_sql("SET default_transaction_read_only = off")
    caplog.set_level(logging.WARNING)

    @app.task(name="fail once", pass_context=True, retry=RetryStrategy(max_attempts=2, wait=0))
    async def fail_once(context: JobContext) -> None:
        if context.job.attempts == 0:
            raise ValueError

    @app.task(name="endless")
    async def endless() -> None:
        await asyncio.sleep(600)

    others = [await workers.another_app(f"{APPLICATION} {number}") for number in range(2)]
    options = {"concurrency": 5, "abort_job_polling_interval": 0.05, "update_heartbeat_interval": 0.05}
    for other in others:
        await workers.listening(queue, other, **options)
    jobs = [core.NewJob(queue_name="q", task_name="fail once", args="{}", lock=f"l{n % 7}") for n in range(100)]
    core.defer_jobs(connection, jobs)
    stuck = core.defer_job(connection, core.NewJob(queue_name="q", task_name="endless", args="{}"))
    assert stuck is not None
    await until(lambda: queue.statuses() == {"succeeded": 100, "doing": 1})
    assert core.cancel_job(connection, stuck, abort=True)
    await until(lambda: queue.statuses() == {"succeeded": 100, "aborted": 1})
    assert [record.message for record in caplog.records if "serializ" in record.getMessage()] == []
