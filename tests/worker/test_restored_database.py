"""A database that is put back to an earlier state, under workers that go on: a restore, a replica that is promoted."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from procrastinate.app import App
from procrastinate.core import Status
from tests.worker.running import Queue, Workers, happens, until

LIVELY: dict[str, Any] = {"update_heartbeat_interval": 0.1, "stalled_worker_timeout": 0.8}
PUT_BACK = """
TRUNCATE procrastinate_jobs, procrastinate_events RESTART IDENTITY;
UPDATE procrastinate_workers SET last_heartbeat = last_heartbeat - interval '1 second';
"""
"""The state of a moment ago: the jobs that came since are gone, and their ids are handed out again."""


def actions(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [vars(record).get("action", "") for record in caplog.records]


async def test_two_workers_never_share_a_number(
    app: App, workers: Workers, queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    """The sequence begins again, and a worker starts before the first one has noticed."""
    app.task(name="task")(lambda: None)
    first = await workers.listening(queue, **LIVELY)
    number = first.worker.worker_id
    queue.sql("TRUNCATE procrastinate_workers RESTART IDENTITY")
    second = await workers.listening(queue, await workers.another_app("second"), **LIVELY)
    await until(lambda: first.worker.worker_id != number)
    assert len({number, first.worker.worker_id, second.worker.worker_id}) == 3
    ids = [await app.configure_task("task").defer_async() for _ in range(10)]
    await queue.succeeded(*ids)
    assert queue.sql("SELECT max(rescues) FROM procrastinate_jobs") == 0


async def test_the_outcome_of_a_job_is_not_that_of_another_with_its_id(
    app: App, workers: Workers, queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    """The same worker has fetched both, in the same attempt."""
    gates = {name: asyncio.Event() for name in ("before", "after")}
    started = {name: asyncio.Event() for name in gates}

    @app.task
    async def task(name: str) -> None:
        started[name].set()
        await gates[name].wait()
        if name == "before":
            raise ValueError("of the job before")

    job_id = await task.defer_async(name="before")
    await workers.listening(queue, concurrency=2)
    await happens(started["before"])
    await queue.ddl(PUT_BACK)
    assert await task.defer_async(name="after") == job_id
    await happens(started["after"])
    gates["before"].set()
    await until(lambda: "outcome_refused" in actions(caplog))
    assert queue.status(job_id) is Status.DOING
    gates["after"].set()
    await queue.succeeded(job_id)


async def test_a_job_that_looks_like_an_earlier_one_runs_and_keeps_its_own_outcome(
    app: App, workers: Workers, queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    """Task and arguments are the same, too, and the same worker claims both in the same attempt."""
    gates, started = [asyncio.Event(), asyncio.Event()], [asyncio.Event(), asyncio.Event()]
    runs: list[int] = []

    @app.task
    async def task(number: int) -> None:
        place = len(runs)
        runs.append(number)
        started[place].set()
        await gates[place].wait()
        if place == 0:
            raise ValueError("of the job before")

    job_id = await task.defer_async(number=1)
    await workers.listening(queue, concurrency=2)
    await happens(started[0])
    await queue.ddl(PUT_BACK)
    assert await task.defer_async(number=1) == job_id
    await happens(started[1])
    gates[0].set()
    await until(lambda: "outcome_refused" in actions(caplog))
    assert queue.status(job_id) is Status.DOING
    gates[1].set()
    await queue.succeeded(job_id)
    assert runs == [1, 1]


async def test_an_unwritten_outcome_is_not_that_of_a_job_that_looks_the_same(
    app: App, workers: Workers, queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "procrastinate")
    runs: list[int] = []
    app.task(name="task")(lambda number: runs.append(number))
    queue.sql(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'not now' USING ERRCODE = '40001'; END $$"
    )
    queue.sql(
        "CREATE TRIGGER refuse BEFORE UPDATE ON procrastinate_jobs FOR EACH ROW "
        "WHEN (NEW.status = 'succeeded') EXECUTE FUNCTION refuse()"
    )
    job_id = await app.configure_task("task").defer_async(number=1)
    await workers.listening(queue, concurrency=2)
    await until(lambda: "record_outcomes_error" in actions(caplog))
    await queue.ddl(PUT_BACK)
    assert await app.configure_task("task").defer_async(number=1) == job_id
    await until(lambda: len(runs) == 2)
    await queue.ddl("DROP TRIGGER refuse ON procrastinate_jobs")
    await queue.succeeded(job_id)
    assert "outcome_refused" in actions(caplog)
    assert runs == [1, 1]


async def test_a_job_that_runs_here_is_not_started_again_by_the_same_worker(
    app: App, workers: Workers, queue: Queue
) -> None:
    """The database has forgotten that it was fetched."""
    runs: list[int] = []
    started, release = asyncio.Event(), asyncio.Event()

    @app.task
    async def task(number: int) -> None:
        runs.append(number)
        started.set()
        await release.wait()

    job_id = await task.defer_async(number=1)
    running = await workers.listening(queue, concurrency=2)
    await happens(started)
    queue.sql("UPDATE procrastinate_jobs SET status = 'todo', worker_id = NULL")
    await queue.reaches(job_id, Status.DOING)
    assert queue.row(job_id)["worker_id"] == running.worker.worker_id
    release.set()
    await queue.succeeded(job_id)
    assert runs == [1]


async def test_the_outcome_that_could_not_be_written_yet_is_not_that_of_another_job(
    app: App, workers: Workers, queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "procrastinate")
    started, release = asyncio.Event(), asyncio.Event()

    @app.task
    async def task(name: str) -> str:
        if name == "after":
            started.set()
            await release.wait()
        return name

    queue.sql(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'not now' USING ERRCODE = '40001'; END $$"
    )
    queue.sql(
        "CREATE TRIGGER refuse BEFORE UPDATE ON procrastinate_jobs FOR EACH ROW "
        "WHEN (NEW.status = 'succeeded') EXECUTE FUNCTION refuse()"
    )
    job_id = await task.defer_async(name="before")
    await workers.listening(queue, concurrency=2)
    await until(lambda: "record_outcomes_error" in actions(caplog))
    await queue.ddl(PUT_BACK)
    assert await task.defer_async(name="after") == job_id
    await happens(started)
    await queue.ddl("DROP TRIGGER refuse ON procrastinate_jobs")
    release.set()
    await queue.succeeded(job_id)
    await until(lambda: "outcome_refused" in actions(caplog))
    assert queue.events(job_id) == ["deferred", "started", "succeeded"]
