"""What keeps a worker from starting is said at once."""

from __future__ import annotations

import asyncio
import pathlib
import time
from collections.abc import Callable

import pytest
import sqlalchemy as sa

from procrastinate import exceptions
from procrastinate.adapters.connections.worker_connector import WorkerConnector
from procrastinate.app import App
from procrastinate.worker import Worker
from tests.worker.running import DEADLINE, LOOK_EVERY, Queue, connector_for, soon, until


async def test_a_database_that_is_down(tmp_path: pathlib.Path) -> None:
    app = App(connector=WorkerConnector({"host": str(tmp_path), "dbname": "nothing"}))
    async with app.open_async():
        with pytest.raises(exceptions.DatabaseUnavailable, match="cannot be reached"):
            await soon(app.run_worker_async())


async def test_a_database_without_the_tables(empty_database_url: str) -> None:
    app = App(connector=connector_for(empty_database_url))
    async with app.open_async():
        with pytest.raises(exceptions.SchemaNotApplied, match="procrastinate schema --apply"):
            await soon(app.run_worker_async(wait_for_schema=False))
        assert await app.check_connection_async() is False


def test_the_same_in_a_program_without_an_event_loop(empty_database_url: str) -> None:
    with pytest.raises(exceptions.SchemaNotApplied):
        App(connector=connector_for(empty_database_url)).run_worker(wait_for_schema=False)


async def test_an_app_that_is_not_open_can_run_a_worker_but_its_tasks_defer_nothing(database_url: str) -> None:
    """The worker's connections are its own."""
    app = App(connector=connector_for(database_url))
    await soon(app.run_worker_async(wait=False, install_signal_handlers=False))
    with pytest.raises(exceptions.AppNotOpen, match="open_async"):
        await app.configure_task("task").defer_async()


async def test_a_module_that_cannot_be_imported(database_url: str) -> None:
    app = App(connector=connector_for(database_url), import_paths=["no_such_module"])
    async with app.open_async():
        with pytest.raises(ImportError, match="no_such_module"):
            await soon(app.run_worker_async())


async def test_an_option_that_is_wrong(app: App) -> None:
    with pytest.raises(ValueError, match="concurrency"):
        await app.run_worker_async(concurrency=0)


REGISTERS = """
    SELECT count(*) FROM pg_stat_activity
    WHERE wait_event_type = 'Lock' AND query LIKE '%INSERT INTO procrastinate_workers%' AND pid <> pg_backend_pid()
"""


@pytest.mark.parametrize(
    "end",
    [lambda worker, running: running.cancel(), lambda worker, running: worker.stop()],
    ids=["cancelled", "stopped"],
)
async def test_a_worker_that_ends_before_it_hears_that_it_is_registered_leaves_no_row(
    app: App, queue: Queue, engine: sa.Engine, end: Callable[[Worker, asyncio.Task[None]], None]
) -> None:
    """Such a row would be named to triggers as a worker that waits for jobs."""
    worker = app.make_worker(install_signal_handlers=False)
    with engine.connect() as blocker:
        blocker.execute(sa.text("LOCK TABLE procrastinate_workers IN SHARE MODE"))
        running = asyncio.create_task(worker.run())
        await until(lambda: queue.sql(REGISTERS))
        blocker.rollback()
        wait_in_loop(lambda: queue.sql("SELECT count(*) FROM procrastinate_workers") == 1)
    end(worker, running)
    await soon(asyncio.gather(running, return_exceptions=True))
    assert queue.sql("SELECT count(*) FROM procrastinate_workers") == 0


def wait_in_loop(condition: Callable[[], bool]) -> None:
    """Wait until the condition holds, and keep the event loop from reading the answer of the worker's statement."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(LOOK_EVERY)
