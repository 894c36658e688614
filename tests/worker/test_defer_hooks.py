"""Functions of a program see each defer, and describe the jobs."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from procrastinate import exceptions
from procrastinate.app import App
from procrastinate.defer_hooks import Defer
from procrastinate.job_context import JobContext
from procrastinate.logs import JsonFormatter
from procrastinate.periodic import PeriodicDeferrer
from procrastinate.testing import InMemoryConnector, Jobs
from procrastinate.unique import Unique
from tests.worker.running import Queue, Workers


async def test_what_a_hook_says_of_a_job_reaches_its_task_and_its_log_records(
    app: App, workers: Workers, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[dict[str, Any]] = []
    lines: list[dict[str, Any]] = []

    @app.on_defer
    def describe(defer: Defer) -> None:
        defer.meta |= {"user": 7, "path": "/a\0b", "password": "hunter2", "order": "of the hook"}

    @app.task(name="seen", pass_context=True)
    def see(context: JobContext) -> None:
        seen.append(context.job.meta)
        record = logging.makeLogRecord({"msg": "hello", "name": "shop"})
        lines.append(json.loads(JsonFormatter().format(record)))

    ids = [await see.configure(meta={"order": "of the call"}).defer_async()]
    ids += await see.batch_defer_async({}, {})
    ids += [job.id for job in await app.job_manager.batch_defer_jobs_async([see.configure().make_new_job()]) if job.id]
    workflow = app.workflow("w")
    workflow.add(see.call())
    await workflow.defer_async()
    await workers.start(wait=False).ended()
    assert len(seen) == 5
    assert seen[0] == {"user": 7, "path": "/a\ufffdb", "password": "[Filtered]", "order": "of the call"}
    assert all(meta == seen[0] | {"order": "of the hook"} for meta in seen[1:])
    assert lines[0]["meta"] == seen[0]


async def test_a_hook_that_fails_costs_no_job(app: App, queue: Queue, caplog: pytest.LogCaptureFixture) -> None:
    left: list[type[BaseException] | None] = []

    @app.on_defer
    def fail(defer: Defer) -> None:
        raise ValueError("on purpose")

    @app.on_defer
    def too_much(defer: Defer) -> None:
        defer.meta["agent"] = ["x" * 900] * 100

    @app.on_defer
    @contextlib.contextmanager
    def around(defer: Defer) -> Iterator[None]:
        try:
            yield
        except exceptions.AlreadyEnqueued as error:
            left.append(type(error))
        else:
            left.append(None)
            assert defer.job_ids
        raise RuntimeError("at the end")

    task = app.task(name="t", queueing_lock="one")(lambda: None)
    job_id = await task.defer_async()
    with pytest.raises(exceptions.AlreadyEnqueued):
        await task.defer_async()
    assert queue.row(job_id)["meta"] is None
    assert left == [None, exceptions.AlreadyEnqueued]
    messages = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(messages) == 6
    assert sum("left out" in message for message in messages) == 2


@pytest.mark.parametrize("exit_type", [SystemExit, KeyboardInterrupt, GeneratorExit])
@pytest.mark.parametrize("options", [{}, {"unique": Unique()}], ids=["plain", "unique"])
async def test_a_hook_that_exits_costs_no_tick(
    app: App, queue: Queue, exit_type: type[BaseException], options: dict[str, Any]
) -> None:
    @app.on_defer
    def leave(defer: Defer) -> None:
        raise exit_type

    task: Any = app.task(name="tick", **options)(lambda timestamp: None)
    app.periodic(cron="* * * * *")(task)
    periodic = next(iter(app.periodic_registry.periodic_tasks.values()))
    await PeriodicDeferrer(app.periodic_registry).defer_jobs([(periodic, 1_700_000_000)])
    assert queue.sql("SELECT count(*) FROM procrastinate_jobs WHERE task_name = 'tick'") == 1


async def test_floats_of_the_metadata_reach_the_task_as_floats(app: App, workers: Workers) -> None:
    """PostgreSQL prints a number with an exponent without a decimal point."""
    seen: list[dict[str, Any]] = []

    @app.on_defer
    def describe(defer: Defer) -> None:
        defer.meta["of the hook"] = 1e300

    task = app.task(name="t", pass_context=True)(lambda context: seen.append(context.job.meta))
    await task.configure(meta={"large": [1e16, -2.5e20], "small": 1e-7, "whole": 10**16, "text": "1e+16"}).defer_async()
    await workers.run()
    expected = {"large": [1e16, -2.5e20], "small": 1e-7, "whole": 10**16, "text": "1e+16", "of the hook": 1e300}
    assert [repr(sorted(one.items())) for one in seen] == [repr(sorted(expected.items()))]


def test_metadata_that_cannot_be_stored_is_refused() -> None:
    app = App(connector=InMemoryConnector())
    task = app.task(name="t")(lambda: None)
    with pytest.raises(exceptions.InvalidJob, match="meta has"):
        task.configure(meta={"all": ["x" * 900] * 10})
    with pytest.raises(TypeError, match="meta"):
        task.configure(meta=["no dict"])  # type: ignore[typeddict-item]

    async def is_async(defer: Defer) -> None: ...

    with pytest.raises(TypeError, match="on_defer"):
        app.on_defer(is_async)  # type: ignore[type-var]

    def without_arguments() -> None: ...

    with pytest.raises(TypeError, match=r"on_defer is called with \(defer\)"):
        app.on_defer(without_arguments)  # type: ignore[type-var]


def test_jobs_in_memory_are_described_as_well() -> None:
    app = App(connector=InMemoryConnector())
    seen: list[dict[str, Any]] = []
    task = app.task(name="t", pass_context=True)(lambda context: seen.append(context.job.meta))
    task.configure(meta={"user": 7}).defer()
    with Jobs(app) as jobs:
        jobs.run()
    assert seen == [{"user": 7}]


@pytest.mark.parametrize("meta", ["[1]", '"text"', "[1e131071]"])
async def test_metadata_of_plain_sql_stops_no_worker(app: App, workers: Workers, queue: Queue, meta: str) -> None:
    seen: list[dict[str, Any]] = []
    task = app.task(name="t", pass_context=True)(lambda context: seen.append(context.job.meta))
    job_id = await task.defer_async()
    queue.sql("UPDATE procrastinate_jobs SET meta = CAST(:m AS jsonb), trace_context = CAST(:m AS jsonb)", m=meta)
    await workers.start(wait=False).ended()
    await queue.succeeded(job_id)
    assert seen == [{}]
