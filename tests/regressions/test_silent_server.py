"""A silent server: connections stay open, but no more answers come (6)."""

from __future__ import annotations

import asyncio
import functools
import logging
import pathlib
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import sqlalchemy as sa

from procrastinate import core, exceptions
from procrastinate.adapters.connections import answer_timeout, listen
from procrastinate.adapters.connections.conninfo import parse_conninfo
from procrastinate.adapters.connections.worker_connector import WorkerConnector
from procrastinate.app import App
from tests.database import libpq_url
from tests.standalone.test_notifications import Proxy
from tests.worker.running import Queue, RunningWorker, soon, until


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the time that the server has to answer."""
    monkeypatch.setattr(answer_timeout, "ANSWER_TIMEOUT", 0.5)
    monkeypatch.setattr(answer_timeout, "CANCEL_TIMEOUT", 0.1)


@pytest.fixture
async def proxy(database_url: str) -> AsyncIterator[Proxy]:
    """Return a proxy in front of the server."""
    proxy = Proxy(pathlib.Path(parse_conninfo(libpq_url(database_url))["host"]) / ".s.PGSQL.5432")
    yield proxy
    await proxy.stop()


@pytest.fixture
async def connector(database_url: str, proxy: Proxy) -> AsyncIterator[WorkerConnector]:
    """Return an open connector that connects through the proxy."""
    through: dict[str, Any] = {
        "host": "127.0.0.1",
        "port": await proxy.start(),
        "sslmode": "disable",
        "gssencmode": "disable",
    }
    through["connect_timeout"] = 2
    connector = WorkerConnector(parse_conninfo(libpq_url(database_url)) | through)
    await connector.open_async()
    yield connector
    await connector.close_async()


@pytest.fixture
async def connected(connector: WorkerConnector, impatience: None) -> WorkerConnector:
    """Return the connector with a pooled connection for threads and one for the event loop.

    A loaded server may take longer to make them than the tests wait for a silent one.
    """
    with pytest.MonkeyPatch.context() as patient:
        patient.setattr(answer_timeout, "ANSWER_TIMEOUT", 30)
        assert await connector.run_async(read_one) == await asyncio.to_thread(connector.run, read_one) == 1
    return connector


def read_one(connection: sa.Connection) -> int:
    """Run a simple operation."""
    return int(connection.execute(sa.text("SELECT 1")).scalar_one())


async def start(app: App, connector: WorkerConnector, queue: Queue, caplog: pytest.LogCaptureFixture) -> RunningWorker:
    """Start a worker that polls all the time, and wait until it has run a job and recorded the outcome."""
    caplog.set_level(logging.DEBUG, "procrastinate")
    app = app.with_connector(connector)
    task = app.task(name="task")(lambda: None)
    running = RunningWorker(app.make_worker(install_signal_handlers=False, fetch_job_polling_interval=0.05))
    await queue.succeeded(await task.defer_async())
    await until(lambda: "finish_task" in [vars(record).get("action") for record in caplog.records])
    return running


async def test_a_worker_stops_though_the_server_is_silent(
    app: App, connector: WorkerConnector, proxy: Proxy, queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    """Fault 6. On 3.10.0 the fetch waits without limit, and neither ``stop()`` nor cancelling ends the worker (observed
    for 15 seconds, with nothing in the code to end the wait). Here a statement without an answer in time is cut off.
    """
    running = await start(app, connector, queue, caplog)
    proxy.block()
    running.worker.stop()
    async with asyncio.timeout(20):
        await running.task


async def test_a_worker_goes_on_when_the_server_can_be_reached_again(
    app: App, connector: WorkerConnector, proxy: Proxy, queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    """Fault 6. The worker opens new connections, because the cut ones are unusable."""
    running = await start(app, connector, queue, caplog)
    proxy.block()
    await until(lambda: "has not answered for" in caplog.text)
    proxy.replace()
    job_id = queue.sql("INSERT INTO procrastinate_jobs (queue_name, task_name) VALUES ('q', 'task') RETURNING id")
    await queue.succeeded(job_id)
    await running.stopped()


async def test_a_cancelled_operation_ends_soon(
    connected: WorkerConnector, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault 6. On 3.10.0 psycopg accepts the cancellation but keeps waiting for the answer."""
    monkeypatch.setattr(answer_timeout, "ANSWER_TIMEOUT", 600)
    proxy.block()
    running = asyncio.create_task(connected.run_async(read_one))
    await asyncio.wait({running}, timeout=0.05)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await soon(running)


async def test_an_operation_that_is_cancelled_twice_leaves_nothing_running(
    connected: WorkerConnector, proxy: Proxy
) -> None:
    """Otherwise the garbage collector would have to close its connection."""
    proxy.block()
    running = asyncio.create_task(connected.run_async(read_one))
    for _ in range(2):
        await asyncio.wait({running}, timeout=0.05)
        running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await soon(running)
    assert [task for task in asyncio.all_tasks() if "AsyncEngineRunner.run" in repr(task)] == []


async def test_a_thread_does_not_wait_without_a_limit(connected: WorkerConnector, proxy: Proxy) -> None:
    """Fault 6. Otherwise the heartbeat's thread would not notice that the server is back."""
    proxy.block()
    started = time.monotonic()
    with pytest.raises(exceptions.DatabaseUnavailable, match="has not answered"):
        await asyncio.to_thread(connected.run, read_one)
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("operation", [read_one, core.atomic(functools.partial(read_one))], ids=["plain", "atomic"])
async def test_a_server_that_falls_silent_once_the_connection_is_made_is_noticed(
    connector: WorkerConnector, proxy: Proxy, operation: Callable[[sa.Connection], int]
) -> None:
    """SQLAlchemy's first query, for the server version, times out. Afterwards everything works."""
    proxy.block_newcomers_after_the_greeting()
    for run in (functools.partial(asyncio.to_thread, connector.run), connector.run_async):
        with pytest.raises(exceptions.DatabaseUnavailable, match="has not answered"):
            await soon(run(operation))
    proxy.replace()
    assert await connector.run_async(operation) == await asyncio.to_thread(connector.run, operation) == 1


async def test_a_first_operation_that_is_cancelled_ends_soon(
    connector: WorkerConnector, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This happens to a worker that is stopped during its start."""
    monkeypatch.setattr(answer_timeout, "ANSWER_TIMEOUT", 600)
    proxy.block_newcomers_after_the_greeting()
    running = asyncio.create_task(connector.run_async(read_one))
    await proxy.has_greeted()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await soon(running)


@pytest.mark.parametrize("operation", [read_one, core.atomic(functools.partial(read_one))], ids=["plain", "atomic"])
async def test_a_pooled_connection_that_is_silent_is_noticed_at_begin(
    connected: WorkerConnector, proxy: Proxy, operation: Callable[[sa.Connection], int]
) -> None:
    """BEGIN, which precedes the operation, times out."""
    proxy.block()
    for run in (functools.partial(asyncio.to_thread, connected.run), connected.run_async):
        with pytest.raises(exceptions.DatabaseUnavailable, match="has not answered"):
            await soon(run(operation))


async def test_the_listening_connection_notices_at_its_first_statement(
    connector: WorkerConnector, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LISTEN itself times out."""
    monkeypatch.setattr(listen, "ANSWER_TIMEOUT", 0.3)
    proxy.block_newcomers_after_the_greeting()
    with pytest.raises(exceptions.DatabaseUnavailable, match="has not answered"):
        await soon(connector.listen_notify(_ignore, ["channel"]))


async def _ignore(*, channel: str, payload: str) -> None: ...
