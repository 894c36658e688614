"""Workers obey the pauses of queues."""

from __future__ import annotations

import asyncio
import datetime
import time
from collections.abc import Collection
from typing import Any

import pytest
import sqlalchemy as sa

from procrastinate import exceptions
from procrastinate.app import App
from procrastinate.core import Pauses, Promotion, Status
from procrastinate.jobs import Job
from procrastinate.manager import JobManager
from procrastinate.manager.operation_calls import CHANGED_AT_ONCE
from procrastinate.testing import InMemoryConnector
from procrastinate.worker.parts import Parts
from procrastinate.worker.services import pause_keeper
from procrastinate.worker.services.pause_keeper import PauseKeeper
from procrastinate.worker.worker_run import WorkerRun
from tests.worker.running import Queue, RunningWorker, Workers, happens, soon, until

KNOWS = "SELECT bool_and(paused_queues = '{mail}') FROM procrastinate_workers"


async def knows(queue: Queue) -> None:
    """Wait until every worker has said that it knows that the queue is paused."""
    await until(lambda: queue.sql(KNOWS))


def parts_of(running: RunningWorker) -> Parts:
    """Return the parts of a running worker."""
    run = running.worker._current_run
    assert run is not None
    return run._parts


@pytest.fixture
def freed(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Return an event that is set when a worker has freed the parked jobs of open queues, as it does at its start."""
    event = asyncio.Event()
    free = PauseKeeper._free_jobs

    async def free_and_tell(self: PauseKeeper) -> None:
        must_free = self._must_free
        await free(self)
        if must_free:
            event.set()

    monkeypatch.setattr(PauseKeeper, "_free_jobs", free_and_tell)
    return event


async def test_a_worker_leaves_the_jobs_of_a_paused_queue_alone_until_it_is_resumed(
    app: App, workers: Workers, queue: Queue
) -> None:
    """The worker hears of the end by notification: it never polls, and its heartbeat is far away."""
    task = app.task(name="task")(lambda: None)
    await app.queues.pause_async("mail", reason="The server is down")
    paused = [await task.configure(queue="mail").defer_async() for _ in range(3)]
    await workers.listening(queue, update_heartbeat_interval=100, stalled_worker_timeout=600)
    await queue.succeeded(await task.configure(queue="other").defer_async())
    assert [queue.status(job_id) for job_id in paused] == [Status.TODO] * 3
    assert await app.queues.resume_async("mail")
    await queue.succeeded(*paused)


async def test_a_pause_is_heard_by_notification(app: App, workers: Workers, queue: Queue) -> None:
    task = app.task(name="task")(lambda: None)
    running = await workers.listening(queue, update_heartbeat_interval=100, stalled_worker_timeout=600)
    await app.queues.pause_async("mail")
    run = running.worker._current_run
    assert run is not None
    await until(lambda: run._parts.paused.names == {"mail"})
    job_id = await task.configure(queue="mail").defer_async()
    await queue.succeeded(await task.configure(queue="other").defer_async())
    assert queue.status(job_id) is Status.TODO


async def test_a_pause_is_heard_while_the_worker_still_reads_older_ones(
    app: App, workers: Workers, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker asks when it begins to listen. Its answer is older than the pause, and arrives after it."""
    asked, is_read, may_arrive = 0, asyncio.Event(), asyncio.Event()
    get_pauses, ask = JobManager.get_pauses, PauseKeeper.ask

    async def get_slowly(self: JobManager) -> Pauses:
        pauses = await get_pauses(self)
        is_read.set()
        await may_arrive.wait()
        return pauses

    def count_and_ask(self: PauseKeeper) -> None:
        nonlocal asked
        asked += 1
        ask(self)

    monkeypatch.setattr(JobManager, "get_pauses", get_slowly)
    monkeypatch.setattr(PauseKeeper, "ask", count_and_ask)
    running = await workers.listening(queue, update_heartbeat_interval=100, stalled_worker_timeout=600)
    await happens(is_read)
    before = asked
    await app.queues.pause_async("mail")
    await until(lambda: asked > before)
    may_arrive.set()
    run = running.worker._current_run
    assert run is not None
    await until(lambda: run._parts.paused.names == {"mail"})


async def test_a_heartbeat_with_older_pauses_does_not_undo_a_newer_one(
    app: App, workers: Workers, queue: Queue
) -> None:
    running = await workers.listening(queue, update_heartbeat_interval=100, stalled_worker_timeout=600)
    await app.queues.pause_async("mail")
    run = running.worker._current_run
    assert run is not None
    await until(lambda: run._parts.paused.names == {"mail"})
    run._parts.pause_keeper.learn({})
    assert run._parts.paused.names == set()
    await until(lambda: run._parts.paused.names == {"mail"})


async def test_a_pause_is_learned_with_the_heartbeat_where_nothing_is_notified(
    app: App, workers: Workers, queue: Queue
) -> None:
    task = app.task(name="task")(lambda: None)
    workers.start(listen_notify=False, update_heartbeat_interval=0.05, fetch_job_polling_interval=0.05)
    await until(lambda: queue.sql("SELECT count(*) FROM procrastinate_workers"))
    await app.queues.pause_async("mail")
    await knows(queue)
    job_id = await task.configure(queue="mail").defer_async()
    await queue.succeeded(await task.configure(queue="other").defer_async())
    assert queue.status(job_id) is Status.TODO
    await app.queues.resume_async("mail")
    await queue.succeeded(job_id)


async def test_a_pause_ends_by_itself(app: App, workers: Workers, queue: Queue) -> None:
    task = app.task(name="task")(lambda: None)
    end = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=1.5)
    await app.queues.pause_async("mail", until=end)
    job_id = await task.configure(queue="mail").defer_async()
    locked = await task.configure(queue="mail", lock="k").defer_async()
    await workers.listening(queue, update_heartbeat_interval=100, stalled_worker_timeout=600)
    await queue.succeeded(job_id, locked)
    assert datetime.datetime.now(datetime.UTC) >= end
    assert await app.queues.list_async() == []


async def test_a_running_job_goes_on_when_its_queue_is_paused(app: App, workers: Workers, queue: Queue) -> None:
    started, may_end = asyncio.Event(), asyncio.Event()

    @app.task(name="task", queue="mail")
    async def task() -> None:
        started.set()
        await may_end.wait()

    await workers.listening(queue, update_heartbeat_interval=0.05)
    job_id = await task.defer_async()
    await happens(started)
    await app.queues.pause_async("mail")
    await knows(queue)
    assert queue.status(job_id) is Status.DOING
    may_end.set()
    await queue.succeeded(job_id)


async def test_a_paused_job_keeps_no_lock_from_a_job_of_another_queue(app: App, workers: Workers, queue: Queue) -> None:
    """The paused job has the lock already when the pause begins, and waits for a slot."""
    may_end = asyncio.Event()

    @app.task(name="long", queue="other")
    async def long() -> None:
        await may_end.wait()

    task = app.task(name="task")(lambda: None)
    await workers.listening(queue, concurrency=1, update_heartbeat_interval=0.05)
    busy = await long.defer_async()
    await queue.reaches(busy, Status.DOING)
    paused = await task.configure(queue="mail", lock="k").defer_async()
    behind = await task.configure(queue="other", lock="k").defer_async()
    queue.sql("UPDATE procrastinate_jobs SET readiness = 1 WHERE id = :id", id=paused)
    await app.queues.pause_async("mail")
    await knows(queue)
    may_end.set()
    await queue.succeeded(behind)
    assert queue.status(paused) is Status.TODO
    await app.queues.resume_async("mail")
    await queue.succeeded(paused)


async def test_a_job_that_is_claimed_while_its_queue_is_paused_does_not_start(
    app: App, workers: Workers, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fetch begins before the pause, and its answer comes after the worker has released the jobs of the queue."""
    claimed, may_arrive = asyncio.Event(), asyncio.Event()
    fetch = JobManager.fetch_jobs

    async def fetch_slowly(self: JobManager, *arguments: Any, **options: Any) -> list[Job]:
        jobs = await fetch(self, *arguments, **options)
        if jobs:
            claimed.set()
            await may_arrive.wait()
        return jobs

    task = app.task(name="task")(lambda: None)
    running = await workers.listening(queue, update_heartbeat_interval=100, stalled_worker_timeout=600)
    monkeypatch.setattr(JobManager, "fetch_jobs", fetch_slowly)
    mail = await task.configure(queue="mail").defer_async()
    await happens(claimed)
    await app.queues.pause_async("mail")
    await until(lambda: parts_of(running).pause_keeper._obeyed == {"mail"})
    may_arrive.set()
    await queue.succeeded(await task.configure(queue="other").defer_async())
    await queue.reaches(mail, Status.TODO)
    await app.queues.resume_async("mail")
    await queue.succeeded(mail)


@pytest.mark.parametrize("later", [False, True], ids=["soon after the pause", "in the course of the pause"])
async def test_a_paused_job_that_gets_a_lock_late_keeps_it_from_no_job_of_another_queue(
    app: App, workers: Workers, queue: Queue, monkeypatch: pytest.MonkeyPatch, later: bool
) -> None:
    """A statement or a transaction that began before the pause gives it the lock, and commits after the first look."""
    monkeypatch.setattr(pause_keeper, "_FREE_AGAIN", 0.0 if later else 2.0)
    monkeypatch.setattr(pause_keeper, "_FREE_ON", 0.5 if later else 1000.0)
    task = app.task(name="task")(lambda: None)
    running = await workers.listening(queue, update_heartbeat_interval=0.05)
    await app.queues.pause_async("mail")
    await knows(queue)
    keeper = parts_of(running).pause_keeper
    await until(lambda: keeper._obeyed == {"mail"} and not keeper._unfreed)
    await until(lambda: keeper._frees_at > time.monotonic() + 0.2)
    paused = await task.configure(queue="mail", lock="k", schedule_in={"hours": 1}).defer_async()
    queue.sql("UPDATE procrastinate_jobs SET scheduled_at = NULL, readiness = 1 WHERE id = :id", id=paused)
    await queue.succeeded(await task.configure(queue="other", lock="k").defer_async())
    assert queue.status(paused) is Status.TODO


async def test_a_scheduled_job_waits_for_the_end_of_the_pause(app: App, workers: Workers, queue: Queue) -> None:
    task = app.task(name="task", queue="mail")(lambda: None)
    await workers.listening(queue, update_heartbeat_interval=0.05)
    await app.queues.pause_async("mail")
    await knows(queue)
    job_id = await task.configure(schedule_in={"seconds": 0}).defer_async()
    await until(lambda: queue.row(job_id)["readiness"] == 2)
    await app.queues.resume_async("mail")
    await queue.succeeded(job_id)


async def test_a_promotion_that_is_slower_than_the_end_of_the_pause_leaves_no_job_parked(
    app: App, workers: Workers, queue: Queue, freed: asyncio.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The promotion begins during the pause. It parks the job after the worker has freed the jobs of the queue."""
    task = app.task(name="task", queue="mail")(lambda: None)
    began, may_go_on = asyncio.Event(), asyncio.Event()
    promote = JobManager.promote_jobs

    async def promote_slowly(self: JobManager, *, paused: Collection[str] = (), **options: Any) -> Promotion:
        if paused:
            began.set()
            await may_go_on.wait()
        return await promote(self, paused=paused, **options)

    running = await workers.listening(queue, update_heartbeat_interval=100, stalled_worker_timeout=600)
    paused = parts_of(running).paused
    await app.queues.pause_async("mail")
    await until(lambda: paused.names == {"mail"})
    monkeypatch.setattr(JobManager, "promote_jobs", promote_slowly)
    job_id = await task.configure(schedule_in={"seconds": 0}).defer_async()
    await happens(began)
    freed.clear()
    await app.queues.resume_async("mail")
    await happens(freed)
    may_go_on.set()
    await queue.succeeded(job_id)


async def test_a_heartbeat_that_names_an_ended_pause_leaves_no_job_parked(
    app: App, workers: Workers, queue: Queue, freed: asyncio.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The heartbeat read the pause before its end, and its answer comes after it. The worker asks, and promotes."""
    is_asking, may_arrive = asyncio.Event(), asyncio.Event()
    get_pauses = JobManager.get_pauses

    async def get_slowly(self: JobManager) -> Pauses:
        is_asking.set()
        await may_arrive.wait()
        return await get_pauses(self)

    task = app.task(name="task", queue="mail")(lambda: None)
    monkeypatch.setattr(WorkerRun, "_hear", lambda self, answer: None)  # the test says what heartbeats bring
    running = await workers.listening(queue, update_heartbeat_interval=100, stalled_worker_timeout=600)
    await happens(freed)
    monkeypatch.setattr(JobManager, "get_pauses", get_slowly)
    keeper = parts_of(running).pause_keeper
    keeper.learn({"mail": None})  # the answer to a question of the start may replace it
    await happens(is_asking)
    keeper.learn({"mail": None})
    job_id = await task.configure(schedule_in={"seconds": 0}).defer_async()
    await until(lambda: queue.row(job_id)["readiness"] == 2)
    may_arrive.set()
    await queue.succeeded(job_id)


async def test_the_first_jobs_start_before_the_others_of_their_queue_are_free_again(
    app: App, workers: Workers, queue: Queue, freed: asyncio.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thousands of parked jobs take many statements."""
    task = app.task(name="task", queue="mail")(lambda: None)
    may_go_on = asyncio.Event()
    unpark = JobManager.unpark_resumed_jobs

    async def unpark_others_late(self: JobManager, limit: int = CHANGED_AT_ONCE) -> int:
        if limit > pause_keeper._FIRST:
            await may_go_on.wait()
        return await unpark(self, limit=limit)

    running = await workers.listening(queue, update_heartbeat_interval=100, stalled_worker_timeout=600)
    await happens(freed)
    await app.queues.pause_async("mail")
    await until(lambda: parts_of(running).paused.names == {"mail"})
    number = pause_keeper._FIRST + 50
    first, *_, last = await task.configure(schedule_in={"seconds": 0}).batch_defer_async(*[{}] * number)
    await until(lambda: queue.row(last)["readiness"] == 2)
    monkeypatch.setattr(JobManager, "unpark_resumed_jobs", unpark_others_late)
    await app.queues.resume_async("mail")
    await queue.succeeded(first)
    assert queue.row(last)["readiness"] == 2
    may_go_on.set()
    await queue.succeeded(last)


async def test_jobs_that_another_worker_parked_after_the_pause_go_on(
    app: App, workers: Workers, queue: Queue, freed: asyncio.Event
) -> None:
    """It died or stopped right after its promotion. Another queue is paused all the time."""
    await app.queues.pause_async("other")
    await workers.listening(queue, update_heartbeat_interval=0.05)
    await happens(freed)
    job_id = await app.configure_task("task", queue="mail", schedule_in={"hours": 1}).defer_async()
    queue.sql("UPDATE procrastinate_jobs SET readiness = 2")
    await until(lambda: queue.row(job_id)["readiness"] == 0)


async def test_a_job_that_a_transaction_locks_during_the_resume_goes_on_after_it(
    app: App, workers: Workers, queue: Queue, engine: sa.Engine, freed: asyncio.Event
) -> None:
    task = app.task(name="task", queue="mail")(lambda: None)
    await workers.listening(queue, update_heartbeat_interval=0.05)
    await app.queues.pause_async("mail")
    await knows(queue)
    job_id = await task.configure(schedule_in={"seconds": 0}).defer_async()
    await until(lambda: queue.row(job_id)["readiness"] == 2)
    with engine.begin() as transaction:
        transaction.execute(sa.text("SELECT id FROM procrastinate_jobs FOR UPDATE"))
        freed.clear()
        await app.queues.resume_async("mail")
        await happens(freed)
    await queue.succeeded(job_id)


async def test_jobs_that_a_pause_parked_go_on_when_a_worker_starts_after_its_end(
    app: App, workers: Workers, queue: Queue
) -> None:
    task = app.task(name="task", queue="mail")(lambda: None)
    job_id = await task.configure(schedule_in={"seconds": 0}).defer_async()
    queue.sql("UPDATE procrastinate_jobs SET readiness = 2")
    await workers.listening(queue)
    await queue.succeeded(job_id)


async def test_a_one_shot_worker_ends_and_leaves_the_paused_jobs(app: App, workers: Workers, queue: Queue) -> None:
    task = app.task(name="task")(lambda: None)
    await app.queues.pause_async("mail")
    paused = await task.configure(queue="mail").defer_async()
    other = await task.configure(queue="other").defer_async()
    await workers.run()
    assert (queue.status(paused), queue.status(other)) == (Status.TODO, Status.SUCCEEDED)


async def test_a_worker_of_one_queue_waits_while_it_is_paused(app: App, workers: Workers, queue: Queue) -> None:
    task = app.task(name="task", queue="mail")(lambda: None)
    await app.queues.pause_async("mail")
    job_id = await task.defer_async()
    await workers.listening(queue, queues=["mail"], update_heartbeat_interval=0.05)
    await knows(queue)
    assert queue.status(job_id) is Status.TODO
    await app.queues.resume_async("mail")
    await queue.succeeded(job_id)


def test_a_pause_on_the_users_connection_counts_from_its_commit(database_url: str, engine: sa.Engine) -> None:
    app = App(connector=engine)
    with app.open(), engine.begin() as transaction:
        app.queues.pause("mail", connection=transaction)
        assert app.queues.list() == []
        assert [pause.queue for pause in app.queues.list(connection=transaction)] == ["mail"]
        transaction.rollback()
    with app.open():
        assert app.queues.list() == []


def test_a_pause_in_memory_is_obeyed() -> None:
    app = App(connector=InMemoryConnector())
    ran: list[str] = []

    @app.task(name="task", pass_context=True)
    def task(context: object) -> None:
        ran.append("ran")

    with app.open():
        app.queues.pause("mail", reason="down")
        task.configure(queue="mail").defer()
        app.run_worker(wait=False, install_signal_handlers=False)
        assert ran == []
        assert app.queues.resume("mail")
        app.run_worker(wait=False, install_signal_handlers=False)
        assert ran == ["ran"]


@pytest.mark.parametrize("queue_name", ["", "x" * 129, "a\0b"])
async def test_an_invalid_name_cannot_be_paused(app: App, queue_name: str) -> None:
    with pytest.raises(exceptions.InvalidJob):
        await app.queues.pause_async(queue_name)


async def test_an_end_without_a_time_zone_is_refused(app: App) -> None:
    with pytest.raises(ValueError, match="until"):
        await app.queues.pause_async("mail", until=datetime.datetime(2030, 1, 1))


async def test_workers_survive_a_pause_with_an_infinite_end(app: App, workers: Workers, queue: Queue) -> None:
    task = app.task(name="task")(lambda: None)
    queue.sql("INSERT INTO procrastinate_paused_queues (queue_name, paused_until) VALUES ('mail', 'infinity')")
    await workers.listening(queue, update_heartbeat_interval=0.05)
    await knows(queue)
    await queue.succeeded(await task.defer_async())
    await soon(app.queues.list_async())
