"""Dead workers, and workers that only look dead."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import Any

import pytest
import sqlalchemy as sa

from procrastinate import core
from procrastinate.app import App
from procrastinate.core import Status
from procrastinate.job_context import JobContext
from procrastinate.worker.services.heartbeat import Heartbeat
from tests.database import new_job
from tests.worker.running import Queue, Workers, WorkerThread, happens, until

LIVELY: dict[str, Any] = {"update_heartbeat_interval": 0.1, "stalled_worker_timeout": 0.8}
"""Options of a worker that soon judges others dead."""


async def fetched_by_a_worker_that_died(app: App, queue: Queue, *, registered: bool = False) -> int:
    """Fetch all jobs for a worker that never sends a heartbeat again, and return its id."""
    worker_id = core.register_worker(queue.connection)
    assert core.fetch_jobs(queue.connection, worker_id=worker_id, limit=100)
    if registered:
        queue.sql("UPDATE procrastinate_workers SET last_heartbeat = now() - interval '1 hour'")
    else:
        core.unregister_worker(queue.connection, worker_id)
    return worker_id


async def test_a_job_whose_worker_is_gone_is_run_by_another(app: App, workers: Workers, queue: Queue) -> None:
    attempts: list[int] = []

    @app.task(pass_context=True)
    async def task(context: JobContext) -> None:
        attempts.append(context.job.attempts)

    job_id = await task.defer_async()
    await fetched_by_a_worker_that_died(app, queue)
    workers.start()
    await queue.succeeded(job_id)
    assert attempts == [1]
    assert queue.events(job_id) == ["deferred", "started", "deferred_for_retry", "started", "succeeded"]


async def test_a_job_whose_worker_only_fell_silent_is_run_by_another(
    app: App, workers: Workers, queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    job_id = await app.task(name="task")(lambda: None).defer_async()
    dead = await fetched_by_a_worker_that_died(app, queue, registered=True)
    workers.start(**LIVELY)
    await queue.succeeded(job_id)
    assert queue.sql("SELECT count(*) FROM procrastinate_workers WHERE id = :id", id=dead) == 0
    (pruned,) = (vars(record) for record in caplog.records if vars(record)["action"] == "prune_stalled_workers")
    assert pruned["workers"] == [dead]
    await until(lambda: "job_rescued" in [vars(record)["action"] for record in caplog.records])
    (rescued,) = (vars(record) for record in caplog.records if vars(record)["action"] == "job_rescued")
    assert (rescued["job_id"], rescued["status"]) == (job_id, "todo")


@pytest.mark.parametrize("registered", [True, False])
async def test_a_job_whose_worker_is_gone_is_run_by_one_that_does_not_wait(
    app: App, workers: Workers, queue: Queue, registered: bool
) -> None:
    """If cron starts the workers, no other kind of worker runs."""
    job_id = await app.task(name="task")(lambda: None).defer_async()
    await fetched_by_a_worker_that_died(app, queue, registered=registered)
    await workers.run(listen_notify=False)
    assert queue.status(job_id) is Status.SUCCEEDED


async def test_a_job_whose_worker_dies_while_another_runs_is_run_by_that_one(
    app: App, workers: Workers, queue: Queue
) -> None:
    app.task(name="task")(lambda: None)
    job_id = await app.configure_task("task", queue="q").defer_async()
    worker_id = core.register_worker(queue.connection, core.WorkerTerms(stalled_timeout=0.8))
    core.fetch_jobs(queue.connection, worker_id=worker_id, limit=1)
    await workers.listening(queue, **LIVELY)
    assert queue.status(job_id) is Status.DOING
    await queue.succeeded(job_id)


async def test_jobs_with_locks_and_queueing_locks_are_rescued_too(app: App, workers: Workers, queue: Queue) -> None:
    task = app.task(name="task", lock="one", queueing_lock="one")(lambda: None)
    first = await task.defer_async()
    await app.job_manager.promote_jobs()
    await fetched_by_a_worker_that_died(app, queue)
    second = await task.defer_async()
    workers.start()
    await queue.succeeded(first, second)


async def test_a_rescue_leaves_the_jobs_behind_in_its_lock_where_they_are(
    app: App, workers: Workers, queue: Queue
) -> None:
    """The lock is free until the next promotion, and a sweep would take the next job out."""
    task = app.task(name="task", lock="one")(lambda: None)
    await task.defer_async()
    await app.job_manager.promote_jobs()
    await fetched_by_a_worker_that_died(app, queue)
    behind = [await task.defer_async() for _ in range(3)]
    await app.job_manager.promote_jobs()
    queue.sql("""
        CREATE TABLE moves (id bigint GENERATED ALWAYS AS IDENTITY, job_id bigint, before int, after int);
        CREATE FUNCTION note_move() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            INSERT INTO moves (job_id, before, after) VALUES (new.id, old.readiness, new.readiness);
            RETURN NULL;
        END $$;
        CREATE TRIGGER note_move AFTER UPDATE ON procrastinate_jobs FOR EACH ROW
        WHEN (old.readiness <> new.readiness AND new.status = 'todo') EXECUTE FUNCTION note_move();
    """)
    workers.start()
    await queue.succeeded(*behind)
    moves = queue.sql("SELECT array_agg(ARRAY[job_id, before, after] ORDER BY id) FROM moves WHERE before = 2")
    assert moves == [[job_id, core.Readiness.PARKED, core.Readiness.PROMOTED] for job_id in behind]


async def test_jobs_are_rescued_while_an_open_transaction_has_a_queueing_lock_of_theirs(
    app: App, workers: Workers, queue: Queue, engine: sa.Engine
) -> None:
    """That job is rescued without its queueing lock, and the others are not delayed."""
    task = app.task(name="task")(lambda: None)
    locked = await task.configure(queueing_lock="taken").defer_async()
    free = await task.defer_async()
    await fetched_by_a_worker_that_died(app, queue)
    with engine.connect() as user:
        core.defer_job(user, new_job(queueing_lock="taken"))
        workers.start()
        await queue.succeeded(locked, free)
        user.rollback()


async def test_a_job_that_keeps_killing_its_workers_fails_in_the_end(app: App, workers: Workers, queue: Queue) -> None:
    job_id = await app.configure_task("task").defer_async()
    for rescues in range(3):
        await fetched_by_a_worker_that_died(app, queue)
        running = workers.start(queues=["none"], max_rescues=2)
        await queue.reaches(job_id, Status.TODO, Status.FAILED)
        await running.stopped()
        assert queue.status(job_id) is (Status.TODO if rescues < 2 else Status.FAILED)
    assert queue.row(job_id)["attempts"] == 3


async def test_a_job_that_was_to_be_aborted_is_aborted(app: App, workers: Workers, queue: Queue) -> None:
    job_id = await app.configure_task("task").defer_async()
    await fetched_by_a_worker_that_died(app, queue)
    assert await app.job_manager.cancel_job_by_id_async(job_id, abort=True)
    workers.start(queues=["none"])
    assert await queue.reaches(job_id, Status.ABORTED, Status.TODO, Status.FAILED) is Status.ABORTED


async def test_a_task_that_blocks_the_event_loop_does_not_make_its_worker_look_dead(
    app: App, database_url: str, workers: Workers, queue: Queue
) -> None:
    started, release = threading.Event(), threading.Event()
    runs: list[int] = []

    @app.task(queue="mine")
    async def block() -> None:
        runs.append(1)
        started.set()
        release.wait(10)

    job_id = await block.defer_async()
    thread = WorkerThread(app, database_url, "blocked", **LIVELY)
    thread.start()
    await happens(started)
    since = queue.sql("SELECT now()")
    await workers.listening(queue, **LIVELY)
    beating = "SELECT last_heartbeat - :since > interval '2 seconds' FROM procrastinate_workers WHERE id = :id"
    await until(lambda: queue.sql(beating, since=since, id=thread.worker.worker_id))
    assert queue.status(job_id) is Status.DOING
    release.set()
    await queue.succeeded(job_id)
    await thread.stopped()
    assert runs == [1]
    assert queue.row(job_id)["attempts"] == 1


async def test_a_worker_that_was_pruned_as_dead_registers_again(
    app: App, workers: Workers, queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    running = await workers.listening(queue, **LIVELY)
    first = running.worker.worker_id
    core.unregister_worker(queue.connection, first or 0)
    await until(lambda: "worker_registered_again" in [vars(record)["action"] for record in caplog.records])
    await until(lambda: running.worker.worker_id != first)
    job_id = await app.task(name="task")(lambda: None).defer_async()
    await queue.succeeded(job_id)
    assert queue.row(job_id)["worker_id"] == running.worker.worker_id
    await running.stopped()
    assert queue.sql("SELECT count(*) FROM procrastinate_workers") == 0


async def test_a_worker_starts_nothing_before_its_heart_beats(
    app: App, workers: Workers, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By then the heartbeat is connected. Next to a job that holds the GIL, connecting takes so long that the worker
    looks dead.
    """
    beating, go_on = threading.Event(), threading.Event()
    beat = Heartbeat.beat

    def beat_slowly(heartbeat: Heartbeat) -> None:
        beating.set()
        assert go_on.wait(10)
        beat(heartbeat)

    monkeypatch.setattr(Heartbeat, "beat", beat_slowly)
    job_id = await app.task(name="task")(lambda: None).defer_async()
    workers.start()
    await until(beating.is_set)
    await until(queue.is_listening)
    assert queue.status(job_id) is Status.TODO
    go_on.set()
    await queue.succeeded(job_id)


async def test_a_worker_that_is_stopped_before_that_does_not_wait_for_it(
    workers: Workers, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "procrastinate")
    beating, go_on = threading.Event(), threading.Event()

    def beat(heartbeat: Heartbeat) -> None:
        beating.set()
        assert go_on.wait(10)

    monkeypatch.setattr(Heartbeat, "beat", beat)
    running = workers.start()
    await until(beating.is_set)
    running.worker.stop()
    await until(lambda: "stopping_worker" in [vars(record)["action"] for record in caplog.records])
    go_on.set()
    await running.ended()


async def test_the_late_outcome_of_a_rescued_job_is_refused(
    app: App, workers: Workers, queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    gates = [asyncio.Event(), asyncio.Event()]
    started = [asyncio.Event(), asyncio.Event()]

    @app.task(pass_context=True)
    async def task(context: JobContext) -> None:
        attempt = context.job.attempts
        started[attempt].set()
        await gates[attempt].wait()
        if attempt == 0:
            raise ValueError("Too late")

    job_id = await task.defer_async()
    first = workers.start(await workers.another_app("first"))
    await happens(started[0])
    core.unregister_worker(queue.connection, first.worker.worker_id or 0)
    await workers.listening(queue, **LIVELY)
    await happens(started[1])
    gates[0].set()
    await until(lambda: "outcome_refused" in [vars(record).get("action") for record in caplog.records])
    assert queue.status(job_id) is Status.DOING
    gates[1].set()
    await queue.succeeded(job_id)


async def test_an_outcome_before_anybody_took_the_job_is_accepted(app: App, workers: Workers, queue: Queue) -> None:
    started, release = asyncio.Event(), asyncio.Event()

    @app.task
    async def task() -> None:
        started.set()
        await release.wait()

    job_id = await task.defer_async()
    running = workers.start()
    await happens(started)
    await until(queue.is_listening)
    core.unregister_worker(queue.connection, running.worker.worker_id or 0)
    release.set()
    await queue.succeeded(job_id)


async def test_a_worker_that_takes_up_its_own_lost_job_keeps_count(
    app: App, workers: Workers, queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    """The same job runs twice in one worker, and neither run may disturb the other."""
    gates = [asyncio.Event(), asyncio.Event()]
    started = [asyncio.Event(), asyncio.Event()]

    @app.task(pass_context=True)
    async def task(context: JobContext) -> None:
        started[context.job.attempts].set()
        await gates[context.job.attempts].wait()

    job_id = await task.defer_async()
    running = workers.start(concurrency=2, **LIVELY)
    await happens(started[0])
    core.unregister_worker(queue.connection, running.worker.worker_id or 0)
    await happens(started[1])
    gates[0].set()
    await until(lambda: "outcome_refused" in [vars(record).get("action") for record in caplog.records])
    assert running.runs == 1
    assert await app.job_manager.cancel_job_by_id_async(job_id, abort=True)
    await queue.reaches(job_id, Status.ABORTED)
    await until(lambda: running.runs == 0)
    await running.stopped()
    assert not [record for record in caplog.records if record.name == "asyncio"]


async def test_jobs_of_live_workers_are_left_alone(app: App, workers: Workers, queue: Queue) -> None:
    started, release = asyncio.Event(), asyncio.Event()

    @app.task(queue="slow")
    async def task() -> None:
        started.set()
        await release.wait()

    job_id = await task.defer_async()
    first = workers.start(await workers.another_app("first"), queues=["slow"], **LIVELY)
    await happens(started)
    await workers.listening(queue, **LIVELY)
    since = queue.sql("SELECT now()")
    await until(lambda: queue.sql("SELECT clock_timestamp() - :since > interval '1.5 seconds'", since=since))
    release.set()
    await queue.succeeded(job_id)
    assert queue.row(job_id)["attempts"] == 1
    await first.stopped()


async def test_workers_judge_each_other_by_what_each_says_of_itself(app: App, workers: Workers, queue: Queue) -> None:
    """While a change of the setting is rolled out, workers have different values."""
    started, release = asyncio.Event(), asyncio.Event()

    @app.task(queue="slow")
    async def task() -> None:
        started.set()
        await release.wait()

    job_id = await task.defer_async()
    patient = {"update_heartbeat_interval": 5.0, "stalled_worker_timeout": 30.0}
    await workers.listening(queue, await workers.another_app("patient"), queues=["slow"], **patient)
    await happens(started)
    heartbeat = queue.sql("SELECT last_heartbeat FROM procrastinate_workers")
    await workers.listening(queue, **LIVELY)
    await until(lambda: queue.sql("SELECT clock_timestamp() - :since > interval '3 seconds'", since=heartbeat))
    assert queue.row(job_id)["attempts"] == 0
    release.set()
    await queue.succeeded(job_id)
    assert queue.row(job_id)["attempts"] == 1


async def test_workers_whose_heartbeats_all_look_old_at_once_are_left_alone(
    app: App, workers: Workers, queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    """The database clock was changed, or the database hung. Each worker has time to send a heartbeat."""
    started, release = asyncio.Event(), asyncio.Event()

    @app.task(queue="slow")
    async def task() -> None:
        started.set()
        await release.wait()

    job_id = await task.defer_async()
    await workers.listening(queue, await workers.another_app("first"), queues=["slow"], **LIVELY)
    await happens(started)
    await workers.listening(queue, **LIVELY)
    for direction in ("-", "+") * 10:
        queue.sql(f"UPDATE procrastinate_workers SET last_heartbeat = now() {direction} interval '1 hour'")  # noqa: S608
        await asyncio.sleep(0.1)
    release.set()
    await queue.succeeded(job_id)
    assert queue.row(job_id)["attempts"] == 1
    assert "prune_stalled_workers" not in [vars(record).get("action") for record in caplog.records]
