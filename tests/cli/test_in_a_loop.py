"""``procrastinate.cli.cli(args)`` runs the command in a running event loop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

import pytest

from procrastinate import cli, exceptions
from procrastinate.app import App
from tests.cli import shop
from tests.worker.running import until


@pytest.fixture
def app(database_url: str) -> Iterator[App]:
    """Return the app that the command uses."""
    handlers = list(logging.getLogger().handlers)
    with shop.app.replace_connector(database_url):
        yield shop.app
    logging.getLogger().handlers[:] = handlers


async def test_a_worker_runs_in_the_loop(app: App, capsys: pytest.CaptureFixture[str]) -> None:
    async with app.open_async():
        await app.configure_task("add").defer_async(a=2, b=3)
    await cli.cli(["--app=tests.cli.shop.app", "worker", "--one-shot"])
    assert "sum 5" in capsys.readouterr().out


async def test_cancelling_it_stops_the_worker(app: App, caplog: pytest.LogCaptureFixture) -> None:
    running = asyncio.create_task(cli.cli(["--app=tests.cli.shop.app", "worker"]))
    with caplog.at_level(logging.INFO):
        await until(lambda: "start_worker" in {getattr(record, "action", "") for record in caplog.records})
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    assert "stopping_worker" in {getattr(record, "action", "") for record in caplog.records}


async def test_another_command_runs_in_a_running_event_loop(app: App, capsys: pytest.CaptureFixture[str]) -> None:
    await cli.cli(["--app=tests.cli.shop.app", "defer", "add", '{"a": 1}'])
    assert "Deferred job" in capsys.readouterr().out


async def test_what_goes_wrong_is_raised(app: App) -> None:
    with pytest.raises(exceptions.TaskNotFound):
        await cli.cli(["--app=tests.cli.shop.app", "defer", "nothing"])
    with pytest.raises(exceptions.ProcrastinateException, match="takes no argument 'c'"):
        await cli.cli(["--app=tests.cli.shop.app", "defer", "add", '{"c": 1}'])
