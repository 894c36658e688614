"""A worker that is started before the schema is there waits for it, or ends."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys

import pytest

import procrastinate
from procrastinate import exceptions
from procrastinate.worker import Worker, schema_wait
from tests.moving.release import PROGRAMS, environment_of


@pytest.fixture(autouse=True)
def _looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema_wait, "_LOOK_EVERY", 0.02)


async def warned(caplog: pytest.LogCaptureFixture, times: int = 1) -> list[logging.LogRecord]:
    """The warnings of the worker, once that many are there."""
    while True:
        found = [record for record in caplog.records if vars(record).get("action") == "schema_awaited"]
        if len(found) >= times:
            return found
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("kind", ["url_of_3x", "empty_database_url"])
async def test_a_worker_waits_for_the_schema_and_runs_what_is_there(
    request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    app = procrastinate.App(connector=request.getfixturevalue(kind))
    ran = asyncio.Event()

    @app.task(name="task")
    async def task() -> None:
        ran.set()

    async with app.open_async():
        worker = asyncio.create_task(app.run_worker_async(install_signal_handlers=False))
        (record,) = await warned(caplog)
        assert "procrastinate schema --apply" in record.getMessage()
        await app.schema_manager.apply_schema_async()
        await task.defer_async()
        await ran.wait()
        worker.cancel()
        await asyncio.wait([worker])


async def test_a_worker_that_waits_warns_once_a_minute(
    empty_database_url: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema_wait, "_WARN_EVERY", 0.2)
    app = procrastinate.App(connector=empty_database_url)
    async with app.open_async():
        worker = Worker(app, install_signal_handlers=False)
        running = asyncio.create_task(worker.run())
        first, second, third = (await warned(caplog, 3))[:3]
        assert second.created - first.created >= 0.2
        assert third.created - second.created >= 0.2
        worker.stop()
        await running


@pytest.mark.parametrize("options", [{"wait": False}, {"wait_for_schema": False}])
async def test_a_worker_that_is_not_to_wait_ends(url_of_3x: str, options: dict[str, bool]) -> None:
    app = procrastinate.App(connector=url_of_3x)
    with pytest.raises(exceptions.TablesOf3x):
        await app.run_worker_async(install_signal_handlers=False, **options)


def test_a_health_check_of_tables_of_3x_fails_and_says_what_to_run(url_of_3x: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "procrastinate", "--app=plain_app.app", "healthchecks"],
        env=environment_of(url_of_3x),
        cwd=PROGRAMS,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "run `procrastinate schema --apply`" in line
