"""A worker that has nothing to do learns at once when it has, and returns when that is wanted."""

from __future__ import annotations

import asyncio
import datetime
import threading

import pytest
import sqlalchemy as sa

from procrastinate import core
from procrastinate.app import App
from procrastinate.core import Readiness, Status
from procrastinate.job_context import JobContext
from procrastinate.retry import RetryStrategy
from procrastinate.worker.fetch import stock_schedule
from procrastinate.worker.fetch.looks import SECOND_LOOK
from tests.worker.describing import fetch_loops
from tests.worker.running import NEVER, Queue, Workers, connector_for, happens, until


async def test_a_job_that_is_deferred_later_starts_without_a_poll(app: App, workers: Workers, queue: Queue) -> None:
    task = app.task(name="task")(lambda: None)
    await workers.listening(queue)
    for _ in range(3):
        await queue.succeeded(await task.defer_async())


async def test_a_job_deferred_later_in_one_of_the_workers_queues_starts_without_a_poll(
    app: App, workers: Workers, queue: Queue
) -> None:
    task = app.task(name="task")(lambda: None)
    long_name = "é" * 128
    await workers.listening(queue, queues=["a", long_name])
    other = await task.configure(queue="b").defer_async()
    await queue.succeeded(await task.configure(queue="a").defer_async())
    await queue.succeeded(await task.configure(queue=long_name).defer_async())
    assert queue.status(other) is Status.TODO


async def test_jobs_in_the_table_at_the_start_are_run(app: App, workers: Workers, queue: Queue) -> None:
    task = app.task(name="task")(lambda: None)
    job_ids = await task.batch_defer_async({}, {}, {})
    await workers.listening(queue)
    await queue.succeeded(*job_ids)


async def test_a_job_that_plain_sql_inserts_starts_without_a_poll(app: App, workers: Workers, queue: Queue) -> None:
    app.task(name="task")(lambda: None)
    await workers.listening(queue)
    job_id = queue.sql("INSERT INTO procrastinate_jobs (queue_name, task_name) VALUES ('q', 'task') RETURNING id")
    await queue.succeeded(job_id)


async def test_a_job_of_a_transaction_starts_when_it_is_committed(
    app: App, workers: Workers, queue: Queue, engine: sa.Engine
) -> None:
    app.task(name="task")(lambda: None)
    await workers.listening(queue)
    with engine.begin() as transaction:
        job_id = transaction.exec_driver_sql(
            "INSERT INTO procrastinate_jobs (queue_name, task_name) VALUES ('q', 'task') RETURNING id"
        ).scalar_one()
        await queue.succeeded(await app.configure_task("task").defer_async())
        assert queue.status(job_id) is None
    await queue.succeeded(job_id)


async def test_many_jobs_that_are_deferred_one_by_one_all_start(app: App, workers: Workers, queue: Queue) -> None:
    task = app.task(name="task")(lambda: None)
    for _ in range(2):
        await workers.listening(queue, await workers.another_app(), concurrency=2)
    for _ in range(100):
        await task.defer_async()
    await until(lambda: queue.statuses() == {"succeeded": 100})


async def test_polling_alone_finds_jobs(app: App, workers: Workers, queue: Queue) -> None:
    task = app.task(name="task")(lambda: None)
    workers.start(listen_notify=False, fetch_job_polling_interval=0.05)
    await queue.succeeded(await task.defer_async())
    await queue.succeeded(await task.configure(lock="l").defer_async())
    await queue.succeeded(await task.configure(schedule_in={"milliseconds": 50}).defer_async())
    assert not queue.is_listening()


# Time


def early(queue: Queue, job_id: int) -> datetime.timedelta:
    """How long before its time a job started."""
    started = "SELECT at FROM procrastinate_events WHERE job_id = :id AND type = 'started'"
    before: datetime.timedelta = queue.row(job_id)["scheduled_at"] - queue.sql(started, id=job_id)
    return before


@pytest.mark.parametrize("lock", [None, "one"])
async def test_a_scheduled_job_starts_when_it_is_due_and_not_before(
    app: App, workers: Workers, queue: Queue, lock: str | None
) -> None:
    task = app.task(name="task")(lambda: None)
    await workers.listening(queue)
    job_id = await task.configure(schedule_in={"milliseconds": 300}, lock=lock).defer_async()
    await queue.succeeded(job_id)
    assert early(queue, job_id) <= datetime.timedelta()


async def test_scheduled_jobs_start_when_they_are_due_when_others_are_due_earlier_and_later(
    app: App, workers: Workers, queue: Queue
) -> None:
    task = app.task(name="task")(lambda: None)
    await workers.listening(queue)
    ids = [
        await task.configure(schedule_in={"milliseconds": milliseconds}).defer_async()
        for milliseconds in (450, 150, 300, 150)
    ]
    await queue.succeeded(*ids)
    assert max(early(queue, job_id) for job_id in ids) <= datetime.timedelta()


async def test_a_job_that_was_scheduled_before_the_worker_came_is_not_forgotten(
    app: App, workers: Workers, queue: Queue
) -> None:
    task = app.task(name="task")(lambda: None)
    overdue = await task.configure(schedule_at=datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)).defer_async()
    soon = await task.configure(schedule_in={"milliseconds": 200}).defer_async()
    late = await task.configure(schedule_in={"days": 1}).defer_async()
    workers.start(listen_notify=False)
    await queue.succeeded(overdue, soon)
    assert queue.status(late) is Status.TODO


async def test_a_scheduled_job_does_not_hold_up_those_with_the_same_lock(
    app: App, workers: Workers, queue: Queue
) -> None:
    task = app.task(name="task", lock="one")(lambda: None)
    late = await task.configure(schedule_in={"days": 1}, priority=5).defer_async()
    now = await task.defer_async()
    await workers.run()
    assert (queue.status(late), queue.status(now)) == (Status.TODO, Status.SUCCEEDED)


# Locks


async def test_the_next_job_of_a_lock_starts_when_the_lock_is_free(app: App, workers: Workers, queue: Queue) -> None:
    task = app.task(name="task", lock="one")(lambda: None)
    await workers.listening(queue, concurrency=2)
    await queue.succeeded(*[await task.defer_async() for _ in range(4)])


async def test_the_next_job_of_a_lock_starts_when_another_worker_frees_it(
    app: App, workers: Workers, queue: Queue
) -> None:
    started, release = asyncio.Event(), asyncio.Event()

    @app.task(name="first", queue="a", lock="one")
    async def first() -> None:
        started.set()
        await release.wait()

    second = app.task(name="second", queue="b", lock="one")(lambda: None)
    workers.start(await workers.another_app("holder"), queues=["a"])
    await workers.listening(queue, await workers.another_app(), queues=["b"])
    await first.defer_async()
    await happens(started)
    waiting = await second.defer_async()
    assert queue.status(waiting) is Status.TODO
    release.set()
    await queue.succeeded(waiting)


async def test_many_promotions_do_not_put_off_the_next_look_at_a_job(
    app: App, workers: Workers, queue: Queue, engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user's transaction has the row of the holder, so nothing is decided on the next job. Nothing tells of the end
    of that transaction. Each promotion doubled the pause until the next look, also those for other jobs.
    """
    monkeypatch.setattr(stock_schedule, "_STOCK_INTERVAL", NEVER)
    release = asyncio.Event()
    holder = app.task(name="holder", lock="one")(release.wait)
    task = app.task(name="task")(lambda: None)
    await workers.listening(queue, concurrency=2)
    held = await holder.defer_async()
    await queue.reaches(held, Status.DOING)
    (loop,) = fetch_loops()
    await until(lambda: loop._call._is_settled)
    with engine.begin() as user:
        user.execute(sa.text("SELECT FROM procrastinate_jobs WHERE id = :id FOR UPDATE"), {"id": held})
        waiting = await task.configure(lock="one").defer_async()
        for _ in range(15):
            before = loop._promoter._last
            await task.configure(schedule_in={"hours": 1}).defer_async()
            await until(lambda last=before: loop._promoter._last > last)  # type: ignore[misc]
        await asyncio.sleep(4 * SECOND_LOOK)  # after the looks that follow notifications
        assert queue.row(waiting)["readiness"] == Readiness.UNDECIDED
    await until(lambda: queue.row(waiting)["readiness"] == Readiness.PARKED)
    release.set()
    await queue.succeeded(waiting)


async def test_the_next_job_of_a_lock_starts_when_its_holder_fails_or_waits_for_a_retry(
    app: App, workers: Workers, queue: Queue
) -> None:
    @app.task(lock="one")
    async def fail() -> None:
        raise ValueError

    @app.task(lock="one", retry=RetryStrategy(wait=3600))
    async def fail_later() -> None:
        raise ValueError

    after = app.task(name="after", lock="one")(lambda: None)
    await workers.listening(queue)
    for task in (fail, fail_later):
        await task.defer_async()
        await queue.succeeded(await after.defer_async())


async def test_the_next_job_of_a_lock_starts_when_its_holder_is_cancelled(
    app: App, workers: Workers, queue: Queue
) -> None:
    task = app.task(name="task", lock="one")(lambda: None)
    first = await task.configure(queue="unread").defer_async()
    second = await task.configure(queue="mine").defer_async()
    await workers.listening(queue, queues=["mine"])
    await app.job_manager.cancel_job_by_id_async(first)
    await queue.succeeded(second)


# The end of the queue


async def test_without_jobs_a_worker_that_shall_not_wait_returns(workers: Workers) -> None:
    await workers.run()


async def test_a_worker_that_does_not_wait_does_not_register_if_there_is_nothing_to_do(
    workers: Workers, queue: Queue
) -> None:
    queue.sql("DROP TABLE procrastinate_workers")
    await workers.start(wait=False).ended()


async def test_a_worker_that_does_not_wait_runs_the_jobs_that_its_jobs_defer(
    app: App, workers: Workers, queue: Queue
) -> None:
    @app.task(name="count_down", lock="one")
    async def count_down(number: int) -> None:
        if number:
            await count_down.defer_async(number=number - 1)

    await count_down.defer_async(number=5)
    await workers.run(concurrency=3)
    assert queue.statuses() == {"succeeded": 6}


async def test_a_worker_that_does_not_wait_runs_retries_that_are_due_at_once(
    app: App, workers: Workers, queue: Queue
) -> None:
    @app.task(name="task", retry=RetryStrategy(max_attempts=3))
    def task() -> None:
        raise ValueError

    job_id = await task.defer_async()
    await workers.run(concurrency=2)
    assert queue.status(job_id) is Status.FAILED
    assert queue.row(job_id)["attempts"] == 4


async def test_a_worker_that_does_not_wait_and_hears_nothing_runs_a_job_that_another_session_retries(
    app: App, workers: Workers, queue: Queue
) -> None:
    """The retry is due at once, and only a promotion after the end of the job finds it."""

    @app.task(name="task", pass_context=True)
    def task(context: JobContext) -> None:
        if context.job.attempts == 0:
            app.job_manager.retry_job_by_id(context.job.id)

    job_id = await task.defer_async()
    await workers.run(listen_notify=False)
    assert queue.status(job_id) is Status.SUCCEEDED


async def test_a_worker_that_does_not_wait_leaves_jobs_that_are_due_later(
    app: App, workers: Workers, queue: Queue
) -> None:
    @app.task(retry=RetryStrategy(wait=3600))
    def task() -> None:
        raise ValueError

    await task.defer_async()
    await task.configure(schedule_in={"hours": 1}).defer_async()
    await workers.run()
    assert queue.statuses() == {"todo": 2}


async def test_a_worker_that_does_not_wait_leaves_no_trace(app: App, workers: Workers, queue: Queue) -> None:
    await workers.run()
    assert queue.sql("SELECT count(*) FROM procrastinate_workers") == 0
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("procrastinate")]


async def test_a_worker_connector_may_serve_one_worker_after_another(app: App, workers: Workers, queue: Queue) -> None:
    task = app.task(name="task")(lambda: None)
    for _ in range(2):
        job_id = await task.defer_async()
        await workers.run()
        assert queue.status(job_id) is Status.SUCCEEDED


async def test_a_second_app_works_on_the_same_database(app: App, workers: Workers, database_url: str) -> None:
    other = App(connector=connector_for(database_url))
    async with other.open_async():
        ran = asyncio.Event()

        @other.task(name="task")
        async def task() -> None:
            ran.set()

        await app.configure_task("task").defer_async()
        await workers.run(app=other)
        assert ran.is_set()


def _called_for(queue: Queue) -> object:
    """Return the queues whose jobs the worker wants to be notified of: an empty list for all, ``None`` for none."""
    return queue.sql("SELECT called_for FROM procrastinate_workers")


async def test_a_worker_that_has_enough_to_do_need_not_be_notified(app: App, workers: Workers, queue: Queue) -> None:
    """And says so, until it waits again."""
    may_end = asyncio.Event()

    @app.task(name="task")
    async def task() -> None:
        await may_end.wait()

    await workers.listening(queue, queues=["q", "r"])
    await until(lambda: _called_for(queue) == ["q", "r"])
    job_id = await task.configure(queue="q").defer_async()
    await until(lambda: _called_for(queue) is None)
    may_end.set()
    await queue.succeeded(job_id)
    await until(lambda: _called_for(queue) == ["q", "r"])


async def test_what_was_written_while_notifications_were_off_starts_when_it_is_committed(
    app: App, workers: Workers, queue: Queue, engine: sa.Engine
) -> None:
    """Without a poll: the worker knows of transactions that do not know that it waits now."""
    may_end = asyncio.Event()

    @app.task(name="task")
    async def task() -> None:
        await may_end.wait()

    await workers.listening(queue)
    first = await task.defer_async()
    await until(lambda: _called_for(queue) is None)
    with engine.begin() as transaction:
        insert = "INSERT INTO procrastinate_jobs (queue_name, task_name, lock) VALUES ('q', 'task', %s) RETURNING id"
        free, locked = (transaction.exec_driver_sql(insert, (lock,)).scalar_one() for lock in (None, "lock"))
        may_end.set()
        await queue.succeeded(first)
        await until(lambda: _called_for(queue) == [])
        await asyncio.sleep(0.5)  # it looks once more when it has called; were that all, it would find nothing
    await queue.succeeded(free, locked)


async def test_jobs_for_busy_workers_are_found_without_notifications(app: App, workers: Workers, queue: Queue) -> None:
    """Jobs that have to be promoted, too."""
    busy = asyncio.Event()

    @app.task(name="hold")
    async def hold() -> None:
        await busy.wait()

    quick = app.task(name="quick")(lambda: None)
    await workers.listening(queue, concurrency=2)
    held = [await hold.defer_async() for _ in range(2)]
    await until(lambda: _called_for(queue) is None)
    job_ids = [
        await quick.defer_async(),
        await quick.configure(lock="l").defer_async(),
        await quick.configure(schedule_in={"milliseconds": 10}).defer_async(),
    ]
    busy.set()
    await queue.succeeded(*held, *job_ids)


async def test_jobs_start_although_other_workers_are_named_and_do_nothing(
    app: App, workers: Workers, queue: Queue
) -> None:
    """They look alive in the table. The one that runs looks after what they leave, without a poll."""
    quick = app.task(name="quick")(lambda: None)
    for _ in range(3):
        core.register_worker(queue.connection, core.WorkerTerms())
    await workers.listening(queue)
    job_ids = [
        *[await quick.defer_async() for _ in range(5)],
        await quick.configure(lock="l").defer_async(),
        await quick.configure(schedule_in={"milliseconds": 10}).defer_async(),
    ]
    await queue.succeeded(*job_ids)


async def test_a_job_of_a_busy_worker_is_passed_on_to_one_that_has_room(
    app: App, workers: Workers, queue: Queue
) -> None:
    may_end = asyncio.Event()

    @app.task(name="hold")
    async def hold() -> None:
        await may_end.wait()

    quick = app.task(name="quick")(lambda: None)
    for _ in range(2):
        await workers.listening(queue)
    held = await hold.defer_async()
    job_ids = [await quick.defer_async() for _ in range(10)]
    await queue.succeeded(*job_ids)
    may_end.set()
    await queue.succeeded(held)


async def test_a_worker_that_stops_is_called_no_more_while_its_last_job_runs(
    app: App, workers: Workers, queue: Queue
) -> None:
    may_end = asyncio.Event()
    started = asyncio.Event()

    @app.task(name="hold")
    async def hold() -> None:
        started.set()
        await may_end.wait()

    running = await workers.listening(queue, concurrency=2)
    await until(lambda: _called_for(queue) == [])
    await hold.defer_async()
    await happens(started)
    assert _called_for(queue) == []
    running.worker.stop()
    await until(lambda: _called_for(queue) is None)
    may_end.set()
    await running.ended()
