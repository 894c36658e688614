"""What workers do while a job does not run is named. Each of these workers is real."""

from __future__ import annotations

import asyncio
import pathlib
import signal
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from procrastinate import core, exceptions
from procrastinate.app import App
from procrastinate.core import Status
from procrastinate.core.inspection import Explanation, ReasonKind
from procrastinate.limits import Limit
from procrastinate.tasks import Task
from procrastinate.tick_explanation import TickExplanation, explain_last_tick_async
from procrastinate.worker.run import unknown_tasks
from tests import database
from tests.worker.program_process import StartProcess
from tests.worker.running import Queue, Workers, connector_for, happens, until
from tests.worker.test_explaining import OFTEN, becomes, code, codes
from tests.worker.test_prefetch import Gate, ahead, patient

assert all((ahead, patient))

UNHEARD = """
    WITH quiet AS MATERIALIZED (SELECT set_config('procrastinate.notify', 'off', false))
    INSERT INTO procrastinate_jobs (queue_name, task_name, lock)
    SELECT 'default', CAST(:task AS text), CAST(:lock AS text) FROM quiet RETURNING id
"""
"""A defer whose notification is lost."""


def defer_unheard(queue: Queue, task: str = "t", lock: str | None = None) -> int:
    """Defer a job of which no worker hears, and return its id."""
    job_id = queue.sql(UNHEARD, task=task, lock=lock)
    queue.sql("SELECT set_config('procrastinate.notify', 'on', false)")
    return int(job_id)


ASLEEP = "SELECT id FROM procrastinate_workers WHERE last_heartbeat - last_fetch_at > interval '0.3 s'"


async def sleeps(queue: Queue) -> int:
    """Wait until the only worker has not fetched for a while, and return its id."""
    return int(await until(lambda: queue.sql(ASLEEP)))


async def tells(app: App, job_id: int, *wanted: str) -> Explanation:
    """Wait until the answer has all of these codes."""
    explanation = await app.inspect.explain_async(job_id)
    for _ in range(400):
        if set(wanted) <= set(codes(explanation)):
            return explanation
        await asyncio.sleep(0.05)
        explanation = await app.inspect.explain_async(job_id)
    raise AssertionError(f"The answer has {codes(explanation)}, and not {wanted}")


class Holding:
    """A task whose jobs wait for the test, and a worker with one slot that runs one of them."""

    def __init__(self, app: App) -> None:
        self.started, self.may_end = asyncio.Event(), asyncio.Event()
        self.task = app.task(name="hold")(self._hold)

    async def _hold(self) -> None:
        self.started.set()
        await self.may_end.wait()

    async def start(self, workers: Workers, queue: Queue, concurrency: int = 1, **options: Any) -> int:
        """Start the worker, and return the id of the job that it runs."""
        running = {"concurrency": concurrency, **OFTEN}
        await workers.listening(queue, **running | options)
        job_id = await self.task.defer_async()
        await happens(self.started)
        await until(lambda: queue.sql("SELECT running FROM procrastinate_workers") == 1)
        return job_id


@pytest.fixture
def holding(app: App, workers: Workers) -> Iterator[Holding]:
    """Return a task whose jobs end with the test."""
    holding = Holding(app)
    yield holding
    holding.may_end.set()


async def tick_becomes(app: App, wanted: str) -> TickExplanation:
    """Wait until the headline of the last tick of the task has this code."""
    seen = ""
    for _ in range(400):
        explanation = await explain_last_tick_async(app, "report")
        seen = explanation.headline.code
        if seen == wanted:
            return explanation
        await asyncio.sleep(0.05)
    raise AssertionError(f"The headline is {seen}, and not {wanted}")


# Ended


@pytest.fixture
def soon_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a worker put off jobs of unknown tasks for a short time only."""
    monkeypatch.setattr(unknown_tasks, "_SHORTEST_PAUSE", 0.02)


async def test_a_job_that_failed_because_no_worker_knew_its_task(
    app: App, workers: Workers, queue: Queue, soon_given_up: None
) -> None:
    job_id = await app.configure_task("renamed").defer_async()
    await workers.listening(queue, unknown_task_timeout=0.1)
    headline = (await becomes(app, job_id, "failed")).headline
    assert "with TaskNotFound" in headline.text
    assert "give its old name as alias" in headline.advice


async def test_a_job_that_failed_because_it_took_too_long(app: App, workers: Workers) -> None:
    @app.task(name="t", timeout=0.05)
    async def task() -> None:
        await asyncio.Event().wait()

    job_id = await task.defer_async()
    await workers.run()
    headline = (await app.inspect.explain_async(job_id)).headline
    assert "with TaskTimeout" in headline.text
    assert "longer than its timeout" in headline.advice


async def test_a_job_that_failed_because_its_result_cannot_be_stored(app: App, workers: Workers) -> None:
    job_id = await app.task(name="t", store_result=True)(lambda: object()).defer_async()
    await workers.run()
    headline = (await app.inspect.explain_async(job_id)).headline
    assert "with InvalidResult" in headline.text
    assert "cannot be stored" in headline.advice


async def test_a_job_that_failed_because_its_arguments_do_not_fit(app: App, workers: Workers) -> None:
    job_id = await app.configure_task("t").defer_async(of_an_older_release=1)
    app.task(name="t")(lambda: None)
    await workers.run()
    headline = (await app.inspect.explain_async(job_id)).headline
    assert "with TypeError" in headline.text
    assert "do not fit the signature" in headline.advice


async def test_a_job_that_failed_because_its_arguments_cannot_be_read(app: App, workers: Workers, queue: Queue) -> None:
    job_id = await app.task(name="t")(lambda: None).defer_async()
    queue.sql("UPDATE procrastinate_jobs SET args = '[1]'")
    await workers.run()
    headline = (await app.inspect.explain_async(job_id)).headline
    assert headline.code == "failed"
    assert "arguments cannot be read" in headline.advice


async def test_a_job_that_a_worker_has_deleted_at_its_end(app: App, workers: Workers) -> None:
    job_id = await app.task(name="t")(lambda: None).defer_async()
    await workers.run(delete_jobs="always")
    headline = (await app.inspect.explain_async(job_id)).headline
    assert headline.code == "rolled-back-or-deleted"
    assert "delete_jobs" in headline.advice


async def test_a_job_that_a_worker_has_aborted(app: App, workers: Workers, queue: Queue, holding: Holding) -> None:
    job_id = await holding.start(workers, queue, abort_job_polling_interval=0.05)
    await app.job_manager.cancel_job_by_id_async(job_id, abort=True)
    explanation = await becomes(app, job_id, "aborted")
    assert explanation.headline.kind is ReasonKind.ENDED


# Killed workers


async def test_a_job_whose_worker_was_killed_and_the_next_of_its_lock(
    app: App, queue: Queue, start: StartProcess, tmp_path: pathlib.Path
) -> None:
    """The second worker is frozen, so the test sees each step before the rescue."""
    deferrer = app.configure_task("wait_for_file", queue="program", lock="k")
    process = await start(concurrency=2, update_heartbeat_interval=0.1, stalled_worker_timeout=0.5)
    job_id = await deferrer.defer_async(path=str(tmp_path / "never"))
    await queue.reaches(job_id, Status.DOING)
    behind = await deferrer.defer_async(path=str(tmp_path / "never"))
    assert (await becomes(app, behind, "lock-held")).headline.kind is ReasonKind.WAITS
    process.kill()
    explanation = await becomes(app, job_id, "no-worker-to-rescue")
    assert "has been silent" in explanation.headline.text
    assert (await app.inspect.explain_async(behind)).headline.kind is ReasonKind.BLOCKED
    (killed,) = queue.connection.exec_driver_sql("SELECT id FROM procrastinate_workers").scalars()
    second = await start(stalled_worker_timeout=60)
    await until(lambda: queue.sql("SELECT count(*) FROM procrastinate_workers") == 2)
    second.send_signal(signal.SIGSTOP)
    assert (await becomes(app, job_id, "worker-silent")).headline.kind is ReasonKind.WAITS
    assert "Another worker takes that job back" in (await becomes(app, behind, "holder-stalled")).headline.text
    core.unregister_worker(queue.connection, killed)
    assert await code(app, job_id) == "worker-gone"
    assert await code(app, behind) == "holder-stalled"


async def test_a_job_that_failed_because_it_was_lost_too_often(
    app: App, workers: Workers, queue: Queue, start: StartProcess, tmp_path: pathlib.Path
) -> None:
    process = await start(update_heartbeat_interval=0.1, stalled_worker_timeout=0.5)
    job_id = await app.configure_task("wait_for_file", queue="program").defer_async(path=str(tmp_path / "never"))
    await queue.reaches(job_id, Status.DOING)
    process.send_signal(signal.SIGKILL)
    workers.start(queues=["other"], max_rescues=0, update_heartbeat_interval=0.1, stalled_worker_timeout=0.5)
    headline = (await becomes(app, job_id, "failed")).headline
    assert "with WorkerLost" in headline.text
    assert "max_rescues" in headline.advice


# Running


@pytest.mark.usefixtures("patient")
async def test_a_job_that_a_worker_has_fetched_ahead(app: App, workers: Workers) -> None:
    gate = Gate(app)
    first, second = await gate.task.batch_defer_async({}, {})
    workers.start(concurrency=1, **OFTEN)
    explanation = await becomes(app, second, "fetched-ahead")
    assert explanation.headline.kind is ReasonKind.WAITS
    assert await code(app, first) == "runs"
    gate.open.set()
    await becomes(app, second, "succeeded")


async def test_a_job_of_which_the_worker_does_not_know_because_the_answer_was_lost(
    app: App, workers: Workers, queue: Queue
) -> None:
    """The statement of a fetch is executed for the worker, and the worker does not get the answer."""
    await workers.listening(queue, **OFTEN)
    worker_id = await sleeps(queue)
    job_id = defer_unheard(queue)
    assert core.fetch_jobs(queue.connection, worker_id=worker_id, limit=1)
    explanation = await becomes(app, job_id, "unknown-to-worker")
    assert explanation.headline.kind is ReasonKind.WAITS


# Due, and behind a lock


async def test_a_due_job_while_the_worker_is_full_and_others_are_due_before_it(
    app: App, workers: Workers, queue: Queue, holding: Holding
) -> None:
    await holding.start(workers, queue)
    await app.configure_task("t", lock="a").batch_defer_async({}, {}, {})
    job_id = await app.configure_task("t", lock="b").defer_async()
    explanation = await tells(app, job_id, "workers-full", "promotion-backlog")
    assert explanation.headline.code == "workers-full"
    assert "does not look for jobs that fall due" in explanation.headline.text


async def test_a_job_whose_lock_a_running_job_has_and_that_later_jobs_overtake(
    app: App, workers: Workers, queue: Queue, holding: Holding
) -> None:
    locked = app.configure_task("hold", lock="k")
    await workers.listening(queue, concurrency=3, **OFTEN)
    first = await locked.defer_async()
    await happens(holding.started)
    second = await locked.defer_async()
    assert f"Job {first} has the lock 'k' and runs" in (await becomes(app, second, "lock-held")).headline.text
    await app.configure_task("hold", lock="k", priority=5).batch_defer_async({}, {})
    explanation = await tells(app, second, "lock-held", "overtaken")
    assert "and 2 jobs come first" in explanation.headline.text
    holding.may_end.set()
    await becomes(app, second, "succeeded")


async def test_a_job_whose_lock_a_job_of_an_unserved_queue_has(app: App, workers: Workers, queue: Queue) -> None:
    await workers.listening(queue, queues=["default"], fetch_job_polling_interval=0.05, **OFTEN)
    holder = await app.configure_task("t", queue="unserved", lock="k").defer_async()
    await until(lambda: queue.row(holder)["readiness"] == core.Readiness.PROMOTED)
    behind = await app.configure_task("t", lock="k").defer_async()
    explanation = await becomes(app, behind, "holder-waits")
    assert explanation.headline.kind is ReasonKind.BLOCKED
    assert "no worker takes jobs of its queue" in explanation.headline.text


async def test_a_job_whose_holder_has_a_locked_row(
    app: App, workers: Workers, queue: Queue, holding: Holding, other: psycopg.Connection[Any]
) -> None:
    locked = app.configure_task("hold", lock="k")
    await workers.listening(queue, concurrency=3, **OFTEN)
    first = await locked.defer_async()
    await happens(holding.started)
    behind = await locked.defer_async()
    await becomes(app, behind, "lock-held")
    other.execute("SELECT FROM procrastinate_jobs WHERE id = %s FOR UPDATE", [first])
    await becomes(app, behind, "holder-row-locked")
    other.rollback()
    holding.may_end.set()
    await becomes(app, behind, "succeeded")


async def test_a_job_that_is_parked_without_a_holder(
    app: App, workers: Workers, queue: Queue, holding: Holding
) -> None:
    """The worker is full, so the test sees the job before the sweep."""
    await workers.listening(queue, concurrency=1, update_heartbeat_interval=20, stalled_worker_timeout=60)
    await holding.task.defer_async()
    await happens(holding.started)
    job_id = defer_unheard(queue, task="hold", lock="k")
    queue.sql("UPDATE procrastinate_jobs SET readiness = 2 WHERE id = :id", id=job_id)
    assert await code(app, job_id) == "lock-orphaned"


async def test_a_promotion_that_hangs_while_the_worker_is_full(
    app: App, workers: Workers, queue: Queue, holding: Holding, other: psycopg.Connection[Any]
) -> None:
    """A worker that is not full goes on without the lock of promotions after two seconds."""
    await holding.start(workers, queue)
    job_id = await app.configure_task("hold", lock="k").defer_async()
    other.execute(
        "SELECT pg_advisory_xact_lock((1886547811::bigint << 32) + 'procrastinate_jobs'::regclass::oid::bigint)"
    )
    explanation = await tells(app, job_id, "workers-full", "promoter-hangs")
    assert "a user" in next(one.text for one in explanation.reasons if one.code == "promoter-hangs")


async def test_a_due_job_whose_row_is_locked_under_a_worker(
    app: App, workers: Workers, queue: Queue, other: psycopg.Connection[Any]
) -> None:
    job_id = await app.task(name="t")(lambda: None).configure(lock="k").defer_async()
    other.execute("SELECT FROM procrastinate_jobs FOR UPDATE")
    await workers.listening(queue, fetch_job_polling_interval=0.05, **OFTEN)
    await becomes(app, job_id, "row-locked")
    assert queue.row(job_id)["readiness"] == core.Readiness.UNDECIDED
    other.rollback()
    await becomes(app, job_id, "succeeded")


async def test_a_job_of_a_queue_that_was_paused_under_a_worker(app: App, workers: Workers, queue: Queue) -> None:
    task = app.task(name="t")(lambda: None)
    await workers.listening(queue, **OFTEN)
    await app.queues.pause_async("default", reason="The server is down", by="ada")
    await until(lambda: queue.sql("SELECT paused_queues = '{default}' FROM procrastinate_workers"))
    job_id = await task.defer_async()
    explanation = await becomes(app, job_id, "queue-paused")
    assert "by ada" in explanation.headline.text
    assert queue.status(job_id) is Status.TODO
    await app.queues.resume_async("default")
    await becomes(app, job_id, "succeeded")


async def test_a_ready_job_whose_row_is_locked_under_a_worker(
    app: App, workers: Workers, queue: Queue, other: psycopg.Connection[Any]
) -> None:
    job_id = await app.task(name="t")(lambda: None).defer_async()
    other.execute("SELECT FROM procrastinate_jobs FOR UPDATE")
    await workers.listening(queue, fetch_job_polling_interval=0.05, **OFTEN)
    explanation = await becomes(app, job_id, "row-locked")
    assert "a user" in explanation.headline.text
    other.rollback()
    await becomes(app, job_id, "succeeded")


async def test_a_row_with_an_unknown_readiness_that_a_worker_passes_by(
    app: App, workers: Workers, queue: Queue
) -> None:
    await workers.listening(queue, fetch_job_polling_interval=0.05, **OFTEN)
    queue.sql("ALTER TABLE procrastinate_jobs DISABLE TRIGGER USER")
    statement = (
        "INSERT INTO procrastinate_jobs (queue_name, task_name, lock, readiness) VALUES ('default', 't', 'k', 9)"
    )
    job_id = queue.sql(f"{statement} RETURNING id")
    assert await code(app, job_id) == "broken-readiness"


# Ready


async def test_a_job_that_a_free_worker_leaves_alone(app: App, workers: Workers, queue: Queue) -> None:
    """The notification is lost, and the worker does not poll. The time of the defer is moved back."""
    app.task(name="t")(lambda: None)
    await workers.listening(queue, **OFTEN)
    await sleeps(queue)
    job_id = defer_unheard(queue)
    assert await code(app, job_id) == "soon"
    queue.sql("UPDATE procrastinate_events SET at = now() - interval '1 minute'")
    explanation = await becomes(app, job_id, "left-alone")
    assert explanation.headline.kind is ReasonKind.BLOCKED
    assert "this is a fault of the queue" in explanation.headline.advice


async def test_a_job_with_others_in_front_of_it(app: App, workers: Workers, queue: Queue, holding: Holding) -> None:
    await holding.start(workers, queue)
    job_id = await holding.task.defer_async()
    await app.configure_task("hold", priority=5).batch_defer_async({}, {})
    explanation = await tells(app, job_id, "workers-full", "line-in-front", "overtaken")
    texts = {reason.code: reason.text for reason in explanation.reasons}
    assert "2 ready jobs of its queue come first" in texts["line-in-front"]
    holding.may_end.set()
    await becomes(app, job_id, "succeeded")


async def test_a_job_of_a_worker_that_does_not_listen(app: App, workers: Workers, queue: Queue) -> None:
    task = app.task(name="t")(lambda: None)
    workers.start(listen_notify=False, **OFTEN)
    await sleeps(queue)
    job_id = await task.defer_async()
    assert (await becomes(app, job_id, "not-listening")).headline.kind is ReasonKind.WAITS


async def test_a_job_that_a_worker_at_its_max_jobs_leaves(
    app: App, workers: Workers, queue: Queue, holding: Holding
) -> None:
    """It drains while its last job runs, and is gone afterwards."""
    first = await holding.task.defer_async()
    running = workers.start(concurrency=1, max_jobs=1, **OFTEN)
    await happens(holding.started)
    job_id = await holding.task.defer_async()
    await becomes(app, job_id, "workers-drain")
    holding.may_end.set()
    await running.ended()
    assert await code(app, first) == "succeeded"
    assert await code(app, job_id) == "no-worker"


async def test_a_job_that_a_one_shot_worker_leaves(app: App, workers: Workers, holding: Holding) -> None:
    """It runs jobs while there are some, and is gone afterwards."""
    await holding.task.defer_async()
    running = workers.start(concurrency=1, wait=False, **OFTEN)
    await happens(holding.started)
    second = await holding.task.defer_async()
    await becomes(app, second, "workers-full")
    holding.may_end.set()
    await running.ended()
    assert await code(app, second) == "succeeded"
    assert await code(app, await holding.task.defer_async()) == "no-worker"


async def test_a_job_whose_workers_look_at_another_database(
    app: App, queue: Queue, databases: database.Databases
) -> None:
    elsewhere = databases.create_migrated()
    try:
        other_app = App(connector=connector_for(elsewhere))
        async with other_app.open_async():
            workers = Workers(other_app, elsewhere)
            running = workers.start(**OFTEN)
            await until(lambda: running.worker.worker_id is not None)
            job_id = await app.configure_task("t").defer_async()
            headline = (await app.inspect.explain_async(job_id)).headline
            await workers.end_of_test()
        assert headline.code == "no-worker"
        assert "it looks at another database or schema" in headline.advice
    finally:
        databases.drop(elsewhere)


async def test_an_id_that_was_lost_to_a_taken_queueing_lock(app: App, queue: Queue) -> None:
    """The program that deferred has caught the exception, and asks for the id that was used up."""
    waiting = await app.configure_task("t", queueing_lock="one").defer_async()
    with pytest.raises(exceptions.AlreadyEnqueued):
        await app.configure_task("t", queueing_lock="one").defer_async()
    last = queue.sql("SELECT last_value FROM procrastinate_jobs_id_seq")
    assert last > waiting
    headline = (await app.inspect.explain_async(last)).headline
    assert headline.code == "rolled-back-or-deleted"
    assert "taken queueing lock" in headline.text


async def test_a_worker_that_waits_for_the_schema(app: App, workers: Workers, queue: Queue) -> None:
    head = queue.sql("SELECT version_num FROM procrastinate_alembic_version")
    queue.sql("UPDATE procrastinate_alembic_version SET version_num = 'procrastinate_0005'")
    workers.start(**OFTEN)
    job_id = await app.task(name="t")(lambda: None).defer_async()
    assert (await becomes(app, job_id, "schema-behind")).headline.kind is ReasonKind.BLOCKED
    queue.sql("UPDATE procrastinate_alembic_version SET version_num = :head", head=head)
    await becomes(app, job_id, "succeeded")


async def test_a_standing_job_of_a_database_that_has_lost_a_trigger_and_an_index(
    app: App, workers: Workers, queue: Queue, holding: Holding
) -> None:
    await holding.start(workers, queue)
    job_id = await holding.task.defer_async()
    queue.sql("ALTER TABLE procrastinate_jobs DISABLE TRIGGER USER")
    queue.sql("DROP INDEX procrastinate_jobs_ready_idx")
    await tells(app, job_id, "triggers-off", "index-missing")
    queue.sql("ALTER TABLE procrastinate_jobs ENABLE TRIGGER USER")


async def test_a_standing_job_of_a_table_full_of_dead_rows(
    app: App, workers: Workers, queue: Queue, holding: Holding
) -> None:
    await holding.start(workers, queue)
    queue.sql("ALTER TABLE procrastinate_jobs DISABLE TRIGGER USER")
    queue.sql(
        "INSERT INTO procrastinate_jobs (queue_name, task_name, status) "
        "SELECT 'dead', 't', 'failed' FROM generate_series(1, 100000)"
    )
    queue.sql("DELETE FROM procrastinate_jobs WHERE queue_name = 'dead'")
    queue.sql("ALTER TABLE procrastinate_jobs ENABLE TRIGGER USER")
    queue.sql("SELECT pg_stat_force_next_flush()")
    queue.sql("SELECT 1")
    await tells(app, await holding.task.defer_async(), "workers-full", "bloated")


async def test_a_job_that_waits_under_a_limit_of_a_worker(
    app: App, workers: Workers, queue: Queue, holding: Holding
) -> None:
    limited = app.task(name="limited", limit=Limit("api", concurrency=1))(holding._hold)
    await workers.listening(queue, concurrency=3, **OFTEN)
    await limited.defer_async()
    await happens(holding.started)
    job_id = await limited.defer_async()
    assert "1 of 1 slots are taken" in (await becomes(app, job_id, "limit-full")).headline.text
    holding.may_end.set()
    await becomes(app, job_id, "succeeded")


# Ticks


@pytest.fixture
def report(app: App) -> Task[Any, Any, Any]:
    """Return a task whose next tick is a second away, at most."""

    @app.periodic(cron="* * * * * *")
    @app.task(name="report", queue="mail", queueing_lock="one at a time")
    def report(timestamp: int) -> None: ...

    return report


async def test_a_tick_that_a_worker_has_skipped_for_the_job_that_waits(
    app: App, workers: Workers, queue: Queue, report: Task[Any, Any, Any]
) -> None:
    """Nothing serves the queue of the task, so the job of the first tick has the lock at the next ones."""
    await workers.listening(queue, queues=["other"])
    explanation = await tick_becomes(app, "tick-skipped")
    first = queue.sql("SELECT id FROM procrastinate_jobs")
    assert f"job {first} " in explanation.headline.text
    await app.queues.pause_async("mail")
    assert "queue-paused" in {reason.code for reason in (await explain_last_tick_async(app, "report")).reasons}


async def test_a_tick_of_a_schedule_that_the_code_of_the_worker_lacks(
    app: App, workers: Workers, queue: Queue, report: Task[Any, Any, Any], database_url: str
) -> None:
    async with App(connector=connector_for(database_url)).open_async() as older:
        older.task(name="other")(lambda: None)
        running = await workers.listening(queue, older, **OFTEN)
        await tick_becomes(app, "schedule-in-no-worker")
        await running.stopped()


async def test_a_tick_that_was_too_old_when_the_worker_started(app: App, workers: Workers, queue: Queue) -> None:
    @app.periodic(cron="0 0 1 1 *")
    @app.task(name="report")
    def report(timestamp: int) -> None: ...

    assert (await explain_last_tick_async(app, "report")).headline.code == "no-worker"
    await workers.listening(queue, **OFTEN)
    await sleeps(queue)
    assert (await explain_last_tick_async(app, "report")).headline.code == "tick-missed"
