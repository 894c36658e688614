"""Tasks say how far they are, and the worker writes it once a second."""

from __future__ import annotations

import asyncio
import datetime
import threading
from decimal import Decimal
from typing import Any

import pytest

from procrastinate.app import App
from procrastinate.job_context import JobContext
from procrastinate.jobs import Job, Status
from procrastinate.testing import InMemoryConnector, Jobs
from tests.worker.running import Queue, Workers, until


def reported(queue: Queue, job_id: int) -> str | None:
    """Return what a job has done, as the table says."""
    statement = "SELECT content->>'done' FROM procrastinate_job_reports WHERE job_id = :id"
    done: str | None = queue.sql(statement, id=job_id)
    return done


async def test_progress_is_written_while_a_task_runs_and_once_a_second_at_most(
    app: App, workers: Workers, queue: Queue
) -> None:
    may_end = threading.Event()

    @app.task(name="sync", pass_context=True)
    def sync(context: JobContext) -> None:
        for done in range(10_000):
            context.progress(done, 10_000)
        may_end.wait(30)
        context.progress(10_000, 10_000, "all of them")

    @app.task(name="async", pass_context=True)
    async def of_loop(context: JobContext) -> None:
        context.progress(0.5, message="half of an unknown whole")
        await asyncio.to_thread(may_end.wait, 30)

    queue.sql("CREATE TABLE writes (at timestamptz DEFAULT now())")
    queue.sql(
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO writes DEFAULT VALUES; "
        "RETURN NULL; END'"
    )
    queue.sql(
        "CREATE TRIGGER note AFTER INSERT ON procrastinate_job_reports FOR EACH STATEMENT EXECUTE FUNCTION note()"
    )
    ids = [await sync.defer_async(), await of_loop.defer_async()]
    began = datetime.datetime.now(datetime.UTC)
    workers.start(concurrency=2)
    manager = app.job_manager
    await until(lambda: reported(queue, ids[0]) == "9999")
    await until(lambda: reported(queue, ids[1]) == "0.5")
    first, second = [await manager.get_progress_async(job_id) for job_id in ids]
    assert (first.status, first.done, first.total, first.message) == (Status.DOING, 9_999, 10_000, None)
    assert (second.done, second.total, second.percent) == (0.5, None, None)
    may_end.set()
    await queue.succeeded(*ids)
    await until(lambda: reported(queue, ids[0]) == "10000")
    lasted = (datetime.datetime.now(datetime.UTC) - began).total_seconds()
    assert queue.sql("SELECT count(*) FROM writes") <= lasted + 1
    answer = (await manager.get_progress_async(ids[0])).as_dict()
    assert answer.pop("at") is not None
    assert answer == {
        "status": "succeeded",
        "has_ended": True,
        "attempt": 1,
        "done": 10_000,
        "total": 10_000,
        "percent": 100.0,
        "message": "all of them",
    }


async def test_the_last_progress_is_written_before_a_worker_ends(app: App, workers: Workers, queue: Queue) -> None:
    @app.task(name="hostile", pass_context=True)
    def hostile(context: JobContext) -> None:
        context.progress(1, 0, "a\0b\ud800" + "x" * 2_000)

    job_id = await hostile.defer_async()
    await workers.start(wait=False).ended()
    progress = await app.job_manager.get_progress_async(job_id)
    assert progress.message == ("a\N{REPLACEMENT CHARACTER}b?" + "x" * 996)
    assert (progress.done, progress.total, progress.percent) == (1, 0, None)


async def test_a_worker_that_cannot_write_progress_runs_jobs(app: App, workers: Workers, queue: Queue) -> None:
    @app.task(name="reports", pass_context=True)
    def reports(context: JobContext) -> None:
        context.progress(1)

    queue.sql("ALTER TABLE procrastinate_job_reports ADD CONSTRAINT never CHECK (false)")
    job_id = await reports.defer_async()
    await workers.start(wait=False).ended()
    assert queue.status(job_id) is Status.SUCCEEDED


def made_by_hand() -> JobContext:
    job = Job(queue="q", lock=None, queueing_lock=None, task_name="t")
    return JobContext(app=App(connector=InMemoryConnector()), job=job)


@pytest.mark.parametrize(
    ("done", "error"),
    [("1", TypeError), (True, TypeError), (-1, ValueError), (float("nan"), ValueError), (2**63, ValueError)],
)
def test_progress_that_is_no_amount_is_refused(done: Any, error: type[Exception]) -> None:
    context = made_by_hand()
    with pytest.raises(error, match="done"):
        context.progress(done)
    with pytest.raises(error, match="total"):
        context.progress(1, done)


def test_a_context_made_by_hand_takes_progress() -> None:
    context = made_by_hand()
    context.progress(Decimal("1.5"), 2, "fine")


def test_progress_is_kept_by_jobs_that_a_test_runs() -> None:
    app = App(connector=InMemoryConnector())

    @app.task(name="counts", pass_context=True)
    def counts(context: JobContext) -> None:
        context.progress(3, 4, "nearly")

    job_id = counts.defer()
    with Jobs(app) as jobs:
        jobs.run()
    progress = app.job_manager.get_progress(job_id)
    assert (progress.status, progress.percent, progress.message) == (Status.SUCCEEDED, 75.0, "nearly")


@pytest.mark.parametrize(
    "content",
    [
        "SELECT jsonb_build_object('done', CAST(repeat('[', 2000) || repeat(']', 2000) AS jsonb))",
        "SELECT jsonb_build_object('done', jsonb_agg(1e131071::numeric)) FROM generate_series(1, 1500)",
    ],
)
async def test_a_progress_that_cannot_be_read_counts_as_none(
    app: App, workers: Workers, queue: Queue, content: str
) -> None:
    @app.task(pass_context=True)
    async def telling(context: JobContext) -> None:
        context.progress(1, 2, "half")

    job_id = await telling.defer_async()
    await workers.run()
    queue.sql(f"UPDATE procrastinate_job_reports SET content = ({content})")  # noqa: S608
    progress = await app.job_manager.get_progress_async(job_id)
    assert (progress.status, progress.done, progress.message) == ("succeeded", None, None)
