"""What keeps a worker from starting is said at once."""

from __future__ import annotations

import pathlib

import pytest

from procrastinate import exceptions
from procrastinate.adapters.connections.worker_connector import WorkerConnector
from procrastinate.app import App
from tests.worker.running import connector_for, soon


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
