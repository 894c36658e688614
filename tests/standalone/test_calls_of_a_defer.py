"""How many functions of the package one defer passes through."""

from __future__ import annotations

import asyncio
import logging

import pytest

import procrastinate
from tests import database
from tests.call_counts import Calls, counted_calls


def _declare_task(app: procrastinate.App) -> procrastinate.tasks.Task[[int], None, [int]]:
    @app.task(name="add")
    def add(a: int) -> None: ...

    return add


def _measure_sync(url: str) -> Calls:
    app = procrastinate.App(connector=procrastinate.SyncPsycopgConnector(conninfo=database.libpq_url(url)))
    task = _declare_task(app)
    with app.open():
        task.defer(a=1)
        with counted_calls() as calls:
            task.defer(a=1)
    return calls


async def _measure_async(url: str) -> Calls:
    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=database.libpq_url(url)))
    task = _declare_task(app)
    async with app.open_async():
        await task.defer_async(a=1)
        with counted_calls() as calls:
            await task.defer_async(a=1)
    return calls


def test_a_sync_defer_passes_few_functions(database_url: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    calls = _measure_sync(database_url)
    assert len(calls.names) <= 17, calls
    assert calls.files <= 8, calls
    assert calls.depth <= 6, calls


def test_an_async_defer_passes_few_functions(database_url: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    calls = asyncio.run(_measure_async(database_url))
    assert len(calls.names) <= 19, calls
    assert calls.files <= 8, calls
    assert calls.depth <= 6, calls


def test_a_logged_defer_makes_one_copy_of_its_job(database_url: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    names = [name for _, name in _measure_sync(database_url).names]
    assert names.count("Job.evolve") == 1
