"""Refused outcomes, and outcomes whose rows are locked, do not delay others."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
import sqlalchemy as sa

from procrastinate.app import App
from procrastinate.core import Status
from tests.worker.running import Queue, Workers, until


def refuse(queue: Queue, code: str) -> None:
    """Add a user's trigger that refuses the outcome of jobs with the argument "bad"."""
    queue.sql(
        "CREATE FUNCTION refuses() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "IF OLD.args @> '{\"bad\": true}' THEN RAISE EXCEPTION 'no' USING ERRCODE = '" + code + "'; END IF; "
        "RETURN NEW; END $$"
    )
    queue.sql(
        "CREATE TRIGGER refuses BEFORE UPDATE ON procrastinate_jobs FOR EACH ROW "
        "WHEN (OLD.status = 'doing') EXECUTE FUNCTION refuses()"
    )


@pytest.mark.parametrize("code", ["23505", "40001", "40P01", "55P03", "57014", "P0001", "22023"])
async def test_an_outcome_that_is_refused_each_time_holds_up_no_other(
    app: App, workers: Workers, queue: Queue, code: str
) -> None:
    refuse(queue, code)
    task = app.task(name="task")(lambda bad: None)
    ids = await task.batch_defer_async(*[{"bad": number == 7} for number in range(20)])
    running = await workers.listening(queue, concurrency=20)
    good = [job_id for number, job_id in enumerate(ids) if number != 7]
    await queue.succeeded(*good)
    assert queue.status(ids[7]) is Status.DOING
    await queue.succeeded(await task.defer_async(bad=False))
    await queue.ddl("DROP TRIGGER refuses ON procrastinate_jobs")
    if code not in ("P0001", "22023"):  # other codes are retried after ten seconds
        await queue.succeeded(ids[7])
    await running.stopped()


async def test_an_outcome_that_is_always_refused_does_not_keep_the_worker_from_stopping(
    app: App, workers: Workers, queue: Queue
) -> None:
    refuse(queue, "23505")
    ran = asyncio.Event()

    @app.task(name="task")
    async def task(bad: bool) -> None:
        ran.set()

    await task.defer_async(bad=True)
    running = workers.start()
    await ran.wait()
    await running.stopped()


async def test_a_job_that_a_row_of_the_user_refers_to_ends_and_is_kept(
    app: App, workers: Workers, queue: Queue
) -> None:
    """Django's foreign keys are checked at the commit, and delete nothing by themselves."""
    queue.sql("CREATE TABLE notes (job_id bigint REFERENCES procrastinate_jobs DEFERRABLE INITIALLY DEFERRED)")
    task = app.task(name="task")(lambda number: None)
    ids = await task.batch_defer_async(*[{"number": number} for number in range(5)])
    referred = await task.configure(lock="one").defer_async(number=5)
    ids.append(await task.configure(lock="one").defer_async(number=6))
    queue.sql("INSERT INTO notes VALUES (:id)", id=referred)
    running = await workers.listening(queue, delete_jobs="successful")
    await queue.succeeded(referred)
    await until(lambda: all(queue.status(id_) is None for id_ in ids))
    await running.stopped()


async def test_a_locked_row_is_tried_rarely_and_named_in_the_log(
    app: App, workers: Workers, queue: Queue, engine: sa.Engine, caplog: pytest.LogCaptureFixture
) -> None:
    started, go_on = asyncio.Event(), asyncio.Event()

    @app.task(name="work")
    async def work() -> None:
        started.set()
        await go_on.wait()

    job_id = await work.defer_async()
    running = workers.start()
    await started.wait()
    caplog.set_level(logging.DEBUG)
    with engine.connect() as holder:
        holder.execute(sa.text("SELECT 1 FROM procrastinate_jobs FOR UPDATE"))
        go_on.set()
        await until(lambda: _records(caplog, "outcome_waits"))
        (record,) = _records(caplog, "outcome_waits")
        assert "another session has locked its row" in record.getMessage()
        assert _records(caplog, "finish_task") == []
        running.worker.stop()
        await until(lambda: _records(caplog, "waiting_for_outcomes"))
        assert str(job_id) in _records(caplog, "waiting_for_outcomes")[0].getMessage()
    await running.ended()
    assert queue.status(job_id) is Status.SUCCEEDED
    assert len(_records(caplog, "finish_task")) == 1


def _records(caplog: pytest.LogCaptureFixture, action: str) -> list[Any]:
    return [record for record in caplog.records if vars(record).get("action") == action]
