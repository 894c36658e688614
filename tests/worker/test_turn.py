"""The turn of promotions is an advisory lock, which any session can hold: workers do not depend on it."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from procrastinate import core
from procrastinate.app import App
from tests.worker.running import Queue, Workers, until

KEY = "(1886547811::bigint << 32) + 'procrastinate_jobs'::regclass::oid::bigint"


@pytest.fixture
def holder(engine: sa.Engine, connection: sa.Connection) -> Iterator[sa.Connection]:
    """A session of a role without any rights that holds the lock."""
    role = connection.exec_driver_sql("SELECT 'stranger_' || current_database()").scalar_one()
    connection.exec_driver_sql(f'CREATE ROLE "{role}"')
    with engine.connect() as holder:
        holder.exec_driver_sql(f'SET ROLE "{role}"')
        holder.exec_driver_sql(f"SELECT pg_advisory_lock({KEY})")
        holder.commit()
        yield holder
        holder.exec_driver_sql("SELECT pg_advisory_unlock_all()")
        holder.exec_driver_sql("RESET ROLE")
        holder.commit()
    connection.exec_driver_sql(f'DROP ROLE "{role}"')


@pytest.mark.usefixtures("holder")
async def test_jobs_start_while_a_stranger_holds_the_turn(
    app: App, workers: Workers, queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "procrastinate")
    app.task(name="task")(lambda: None)
    for number in range(2):
        await workers.listening(queue, await workers.another_app(f"worker {number}"))
    locked = [await app.configure_task("task", lock=f"lock {number % 3}").defer_async() for number in range(100)]
    later = await app.configure_task("task", schedule_in={"milliseconds": 100}).defer_async()
    await queue.succeeded(*locked, later)
    warnings = [vars(record)["action"] for record in caplog.records]
    assert set(warnings) - {"database_awaited"} == {"promotion_turn_ignored"}, "a busy machine may be slow to connect"
    assert warnings.count("promotion_turn_ignored") <= 2, "once a worker"


async def test_the_turn_is_taken_again_when_it_is_free(app: App, workers: Workers, queue: Queue) -> None:
    app.task(name="task")(lambda: None)
    running = await workers.listening(queue)
    promotions: list[core.Promotion] = []
    queue.sql(f"SELECT pg_advisory_lock({KEY})")
    await queue.succeeded(await app.configure_task("task", lock="l").defer_async())
    queue.sql("SELECT pg_advisory_unlock_all()")
    await queue.succeeded(await app.configure_task("task", lock="l").defer_async())
    promotions.append(await app.job_manager.promote_jobs())
    assert [promotion.had_turn for promotion in promotions] == [True]
    await running.stopped()


async def test_a_job_that_is_fetched_by_hand_needs_no_turn(app: App, queue: Queue) -> None:
    job_id = await app.configure_task("task", lock="l").defer_async()
    worker_id = await app.job_manager.register_worker()
    queue.sql(f"SELECT pg_advisory_lock({KEY})")
    job = await app.job_manager.fetch_job(None, worker_id)
    assert job is not None
    assert job.id == job_id


async def test_a_promotion_that_is_left_to_another_names_the_job_that_waits(app: App, queue: Queue) -> None:
    queue.sql(f"SELECT pg_advisory_lock({KEY})")
    assert (await app.job_manager.promote_jobs()).first_due is None
    await app.configure_task("task", lock="l", schedule_in={"hours": 1}).defer_async()
    first = await app.configure_task("task", lock="l").defer_async()
    await app.configure_task("task", lock="l").defer_async()
    promotion = await app.job_manager.promote_jobs()
    assert (promotion.had_turn, promotion.first_due, promotion.promoted) == (False, first, 0)
    await until(lambda: queue.sql("SELECT pg_advisory_unlock_all() IS NOT NULL"))
    promotion = await app.job_manager.promote_jobs()
    assert (promotion.had_turn, promotion.first_due, promotion.promoted) == (True, None, 1)
