"""Each reason why a job does not run is made on a real database, and named."""

from __future__ import annotations

import asyncio
import datetime
import re
import threading
import time
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from procrastinate import core
from procrastinate._durations import duration
from procrastinate.app import App
from procrastinate.core import Status
from procrastinate.core.inspection import Explanation, ReasonKind
from procrastinate.limits import Limit
from procrastinate.retry import RetryStrategy
from procrastinate.worker.worker_settings import UNKNOWN_TASK_TIMEOUT
from tests.database import libpq_url, new_job
from tests.worker.running import Queue, Workers, WorkerThread, happens, until

LONG_AGO = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
OFTEN: dict[str, Any] = {"update_heartbeat_interval": 0.05, "stalled_worker_timeout": 30}


async def code(app: App, job_id: int) -> str:
    """Return the code of the headline."""
    return (await app.inspect.explain_async(job_id)).headline.code


def codes(explanation: Explanation) -> list[str]:
    """Return the codes of all reasons."""
    return [reason.code for reason in explanation.reasons]


async def becomes(app: App, job_id: int, wanted: str) -> Explanation:
    """Wait until the headline has this code."""
    seen = ""
    for _ in range(400):
        explanation = await app.inspect.explain_async(job_id)
        seen = explanation.headline.code
        if seen == wanted:
            return explanation
        await asyncio.sleep(0.05)
    raise AssertionError(f"The headline is {seen}, and not {wanted}")


def register(queue: Queue, **columns: Any) -> int:
    """Add a lively worker by SQL, with these columns."""
    worker_id = core.register_worker(queue.connection)
    values = {"concurrency": 1, "running": 0, "running_ids": [], "queues": [], "state": "running", "listens": True}
    statement = sa.update(core.tables.workers).where(core.tables.workers.c.id == worker_id).values(**values | columns)
    queue.connection.execute(statement)
    return worker_id


# No row


async def test_an_id_that_was_never_given_out(app: App) -> None:
    assert await code(app, 12345) == "never-given-out"


async def test_a_job_of_a_transaction_that_is_open(app: App, other: psycopg.Connection[Any]) -> None:
    row = other.execute(
        "INSERT INTO procrastinate_jobs (queue_name, task_name) VALUES ('q', 't') RETURNING id"
    ).fetchone()
    assert row is not None
    explanation = await becomes(app, row[0], "uncommitted")
    assert "a user" in explanation.headline.text
    assert explanation.headline.kind is ReasonKind.MISSING


async def test_a_job_that_was_rolled_back_or_deleted(app: App, queue: Queue) -> None:
    job_id = await app.configure_task("t").defer_async()
    queue.sql("DELETE FROM procrastinate_jobs")
    assert await code(app, job_id) == "rolled-back-or-deleted"


async def test_a_job_of_a_transaction_that_was_prepared(app: App, database_url: str) -> None:
    with psycopg.connect(libpq_url(database_url), autocommit=True) as connection:
        connection.execute("BEGIN")
        connection.execute("SET LOCAL procrastinate.notify = 'off'")
        insert = "INSERT INTO procrastinate_jobs (queue_name, task_name) VALUES ('q', 't') RETURNING id"
        (job_id,) = connection.execute(insert).fetchone() or (0,)
        connection.execute("PREPARE TRANSACTION 'half of a commit'")
        try:
            explanation = await app.inspect.explain_async(job_id)
        finally:
            connection.execute("ROLLBACK PREPARED 'half of a commit'")
    assert explanation.headline.code == "prepared-transaction"
    assert "half of a commit" in explanation.headline.text


# Ended


async def test_a_job_that_has_succeeded(app: App, workers: Workers) -> None:
    job_id = await app.task(name="t")(lambda: None).defer_async()
    await workers.run()
    explanation = await app.inspect.explain_async(job_id)
    assert (explanation.headline.code, explanation.headline.kind) == ("succeeded", ReasonKind.ENDED)


async def test_a_job_that_has_failed_names_its_error(app: App, workers: Workers) -> None:
    @app.task(name="t")
    def fail() -> None:
        raise TypeError("missing argument")

    job_id = await fail.defer_async()
    await workers.run()
    explanation = await app.inspect.explain_async(job_id)
    assert explanation.headline.code == "failed"
    assert "TypeError" in explanation.headline.text
    assert "signature" in explanation.headline.advice


async def test_a_failed_job_names_the_command_that_retries_it(app: App, workers: Workers) -> None:
    @app.task(name="t")
    def fail() -> None:
        raise ValueError("out of stock")

    job_id = await fail.defer_async()
    await workers.run()
    explanation = await app.inspect.explain_async(job_id)
    assert f"`procrastinate shell retry {job_id}`" in explanation.headline.advice


async def test_a_job_that_was_cancelled(app: App) -> None:
    job_id = await app.configure_task("t").defer_async()
    await app.job_manager.cancel_job_by_id_async(job_id)
    assert await code(app, job_id) == "cancelled"


async def test_an_old_row_of_status_aborting(app: App, queue: Queue) -> None:
    job_id = await app.configure_task("t").defer_async()
    queue.sql("UPDATE procrastinate_jobs SET status = 'aborting'")
    assert await code(app, job_id) == "legacy-aborting"


# Running


async def test_a_job_that_runs(app: App, workers: Workers) -> None:
    may_end = asyncio.Event()

    @app.task(name="t")
    async def task() -> None:
        await may_end.wait()

    job_id = await task.defer_async()
    workers.start(**OFTEN)
    explanation = await becomes(app, job_id, "runs")
    assert explanation.headline.kind is ReasonKind.RUNS
    may_end.set()


async def test_a_job_whose_worker_is_gone(app: App, queue: Queue) -> None:
    job_id = await app.configure_task("t").defer_async()
    lost = register(queue)
    await app.job_manager.fetch_job(None, lost)
    queue.sql("DELETE FROM procrastinate_workers")
    assert await code(app, job_id) == "no-worker-to-rescue"
    register(queue)
    assert await code(app, job_id) == "worker-gone"


async def test_a_job_that_3x_has_left_behind_and_the_next_of_its_lock(app: App, queue: Queue) -> None:
    """Both wait for a decision, whatever workers there are."""
    job_id = await app.configure_task("t", lock="l").defer_async()
    behind = await app.configure_task("t", lock="l").defer_async()
    await app.job_manager.promote_jobs()
    await app.job_manager.fetch_job(None, register(queue))
    queue.sql("UPDATE procrastinate_jobs SET worker_id = 0 WHERE status = 'doing'")
    for _ in range(2):
        assert await code(app, job_id) == "left-behind"
        explanation = await app.inspect.explain_async(behind)
        assert explanation.headline.code == "holder-stalled"
        assert "--orphans=retry" in (explanation.headline.advice or "")
        queue.sql("DELETE FROM procrastinate_workers")


async def test_a_job_whose_worker_is_silent(app: App, queue: Queue) -> None:
    job_id = await app.configure_task("t").defer_async()
    lost = register(queue)
    await app.job_manager.fetch_job(None, lost)
    queue.sql("UPDATE procrastinate_workers SET last_heartbeat = now() - interval '1 hour'")
    assert await code(app, job_id) == "no-worker-to-rescue"
    register(queue)
    assert await code(app, job_id) == "worker-silent"


async def test_a_job_whose_silent_worker_is_of_3x_waits_for_an_hour(app: App, queue: Queue) -> None:
    job_id = await app.configure_task("t").defer_async()
    queue.sql("INSERT INTO procrastinate_workers (id, last_heartbeat) VALUES (5, now() - interval '1 minute')")
    await app.job_manager.fetch_job(None, 5)
    register(queue)
    headline = (await app.inspect.explain_async(job_id)).headline
    assert headline.code == "worker-silent"
    assert "Others will take the job back after an hour of silence" in headline.text
    assert "--legacy-worker-timeout" in str(headline.advice)


async def test_a_job_that_is_asked_to_stop_and_does_not_look(app: App, workers: Workers, queue: Queue) -> None:
    may_end = threading.Event()
    job_id = await app.task(name="t")(lambda: may_end.wait(30) and None).defer_async()
    workers.start(**OFTEN)
    await queue.reaches(job_id, Status.DOING)
    await app.job_manager.cancel_job_by_id_async(job_id, abort=True)
    await becomes(app, job_id, "abort-requested")
    may_end.set()


async def test_a_job_whose_outcome_cannot_be_written(
    app: App, workers: Workers, queue: Queue, other: psycopg.Connection[Any]
) -> None:
    may_end = asyncio.Event()

    @app.task(name="t")
    async def task() -> None:
        await may_end.wait()

    job_id = await task.defer_async()
    workers.start(**OFTEN)
    await queue.reaches(job_id, Status.DOING)
    other.execute("SELECT FROM procrastinate_jobs FOR UPDATE")
    may_end.set()
    explanation = await becomes(app, job_id, "outcome-unwritten")
    assert "a user" in explanation.headline.text
    other.rollback()


async def test_a_job_that_was_fetched_ahead(app: App, queue: Queue) -> None:
    job_id = await app.configure_task("t").defer_async()
    worker_id = register(queue)
    await app.job_manager.fetch_job(None, worker_id)
    report = core.WorkerReport(running=1, running_ids=(99,), fetched_ahead=1)
    core.beat(queue.connection, worker_id, report, interval=10.0)
    assert await code(app, job_id) == "fetched-ahead"


async def test_a_job_of_which_its_worker_does_not_know(app: App, queue: Queue) -> None:
    job_id = await app.configure_task("t").defer_async()
    worker_id = register(queue)
    await app.job_manager.fetch_job(None, worker_id)
    core.beat(queue.connection, worker_id, core.WorkerReport(), interval=10.0)
    assert await code(app, job_id) == "unknown-to-worker"


# Scheduled


async def test_a_scheduled_job(app: App) -> None:
    job_id = await app.configure_task("t", schedule_in={"hours": 1}).defer_async()
    explanation = await app.inspect.explain_async(job_id)
    assert (explanation.headline.code, explanation.headline.kind) == ("scheduled", ReasonKind.WAITS)


async def test_a_job_that_waits_for_its_retry(app: App, workers: Workers) -> None:
    @app.task(name="t", retry=RetryStrategy(max_attempts=5, wait=600))
    def fail() -> None:
        raise ValueError

    job_id = await fail.defer_async()
    await workers.run()
    explanation = await app.inspect.explain_async(job_id)
    assert explanation.headline.code == "retry-scheduled"
    assert "ValueError" in explanation.headline.text


async def test_a_job_that_never_falls_due(app: App, queue: Queue) -> None:
    job_id = await app.configure_task("t").defer_async()
    queue.sql("UPDATE procrastinate_jobs SET scheduled_at = 'infinity'")
    assert await code(app, job_id) == "never-due"


async def test_a_time_that_is_off_by_a_time_zone(database_url: str, queue: Queue) -> None:
    database = sa.make_url(database_url).database
    queue.sql(f"ALTER DATABASE \"{database}\" SET timezone = 'Asia/Tokyo'")
    with App(connector=database_url).open() as app:
        job_id = app.configure_task("t", schedule_in={"hours": 9}).defer()
        explanation = app.inspect.explain(job_id)
        other = app.configure_task("t", schedule_in={"hours": 8}).defer()
        assert "zone-suspected" not in codes(app.inspect.explain(other))
    assert codes(explanation) == ["scheduled", "zone-suspected"]
    assert "scheduled 9 h after" in explanation.reasons[1].text


# Due


async def test_a_due_job_without_a_worker(app: App) -> None:
    job_id = await app.configure_task("t", lock="k").defer_async()
    assert await code(app, job_id) == "no-worker"


async def test_a_due_job_while_all_workers_are_full(app: App, queue: Queue) -> None:
    job_id = await app.configure_task("t", lock="k").defer_async()
    register(queue, running=1)
    assert await code(app, job_id) == "workers-full"


async def test_a_due_job_behind_others(app: App, queue: Queue) -> None:
    await app.configure_task("t", lock="a").batch_defer_async({}, {}, {})
    job_id = await app.configure_task("t", lock="b").defer_async()
    register(queue)
    explanation = await app.inspect.explain_async(job_id)
    assert explanation.headline.code == "promotion-backlog"
    assert "3 jobs" in explanation.headline.text


async def test_a_promotion_that_hangs(app: App, queue: Queue, other: psycopg.Connection[Any]) -> None:
    job_id = await app.configure_task("t", lock="k").defer_async()
    register(queue)
    other.execute(
        "SELECT pg_advisory_xact_lock((1886547811::bigint << 32) + 'procrastinate_jobs'::regclass::oid::bigint)"
    )
    explanation = await becomes(app, job_id, "promoter-hangs")
    assert "a user" in explanation.headline.text


async def test_a_row_with_an_unknown_readiness(app: App, queue: Queue) -> None:
    job_id = await app.configure_task("t", lock="k").defer_async()
    queue.sql("ALTER TABLE procrastinate_jobs DISABLE TRIGGER USER")
    queue.sql("UPDATE procrastinate_jobs SET readiness = 9")
    assert await code(app, job_id) == "broken-readiness"


@pytest.mark.parametrize("lock", [None, "k"])
async def test_a_row_that_a_transaction_has_locked(
    app: App, queue: Queue, other: psycopg.Connection[Any], lock: str | None
) -> None:
    job_id = await app.configure_task("t", lock=lock).defer_async()
    register(queue)
    other.execute("SELECT FROM procrastinate_jobs FOR UPDATE")
    explanation = await app.inspect.explain_async(job_id)
    assert explanation.headline.code == "row-locked"
    assert "a user" in explanation.headline.text


# Behind a lock


async def park(app: App, queue: Queue, worker_id: int) -> tuple[int, int]:
    """Return a running job, and one behind it."""
    holder = await app.configure_task("t", lock="k").defer_async()
    await app.job_manager.fetch_job(None, worker_id)
    behind = await app.configure_task("t", lock="k").defer_async()
    await app.job_manager.promote_jobs()
    assert queue.row(behind)["readiness"] == 2
    return holder, behind


async def test_a_job_behind_a_running_one(app: App, queue: Queue) -> None:
    holder, behind = await park(app, queue, register(queue))
    last = await app.configure_task("t", lock="k").defer_async()
    await app.job_manager.promote_jobs()
    assert await code(app, behind) == "lock-held"
    explanation = await app.inspect.explain_async(last)
    assert f"Job {holder} " in explanation.headline.text
    assert "and 1 job comes first" in explanation.headline.text


async def test_a_job_that_later_ones_with_a_higher_priority_overtake(app: App, queue: Queue) -> None:
    _, behind = await park(app, queue, register(queue))
    await app.configure_task("t", lock="k", priority=5).batch_defer_async({}, {})
    await app.job_manager.promote_jobs()
    explanation = await app.inspect.explain_async(behind)
    assert codes(explanation) == ["lock-held", "overtaken"]
    assert "2 were deferred later" in explanation.reasons[1].text
    ready = await app.configure_task("t").defer_async()
    await app.configure_task("t", priority=5).defer_async()
    assert codes(await app.inspect.explain_async(ready)) == ["line-in-front", "overtaken"]


async def test_a_job_behind_one_whose_worker_is_gone(app: App, queue: Queue) -> None:
    _, behind = await park(app, queue, register(queue))
    queue.sql("DELETE FROM procrastinate_workers")
    explanation = await app.inspect.explain_async(behind)
    assert (explanation.headline.code, explanation.headline.kind) == ("holder-stalled", ReasonKind.BLOCKED)


async def test_a_job_behind_one_that_waits_itself(app: App, queue: Queue) -> None:
    holder = await app.configure_task("t", lock="k", queue="unserved").defer_async()
    await app.job_manager.promote_jobs()
    behind = await app.configure_task("t", lock="k").defer_async()
    await app.job_manager.promote_jobs()
    register(queue, queues=["default"])
    explanation = await app.inspect.explain_async(behind)
    assert (explanation.headline.code, explanation.headline.kind) == ("holder-waits", ReasonKind.BLOCKED)
    assert f"Job {holder} " in explanation.headline.text


async def test_a_job_behind_one_whose_row_is_locked(app: App, queue: Queue, other: psycopg.Connection[Any]) -> None:
    holder, behind = await park(app, queue, register(queue))
    other.execute("SELECT FROM procrastinate_jobs WHERE id = %s FOR UPDATE", [holder])
    assert await code(app, behind) == "holder-row-locked"


async def test_a_job_behind_a_lock_that_no_job_has(app: App, queue: Queue) -> None:
    job_id = await app.configure_task("t", lock="k").defer_async()
    queue.sql("UPDATE procrastinate_jobs SET readiness = 2")
    register(queue)
    assert await code(app, job_id) == "lock-orphaned"


# Paused


@pytest.mark.parametrize("options", [{}, {"lock": "k"}, {"schedule_in": {"hours": 1}}])
async def test_a_job_of_a_paused_queue(app: App, options: dict[str, Any]) -> None:
    job_id = await app.configure_task("t", queue="mail", **options).defer_async()
    await app.queues.pause_async("mail", reason="The server is down", by="ada")
    explanation = await app.inspect.explain_async(job_id)
    assert explanation.headline.code == "queue-paused"
    assert "ada" in explanation.headline.text
    assert "The server is down" in explanation.headline.text
    assert explanation.headline.advice == "`procrastinate queues resume mail`, or app.queues.resume('mail')"


async def test_a_job_that_was_parked_during_a_pause_that_has_ended(app: App, queue: Queue) -> None:
    job_id = await app.configure_task("t", schedule_in={"seconds": 0}).defer_async()
    queue.sql("UPDATE procrastinate_jobs SET readiness = 2")
    register(queue)
    assert await code(app, job_id) == "resumed"


# Ready


async def test_a_ready_job_without_a_worker(app: App, queue: Queue) -> None:
    job_id = await app.configure_task("t").defer_async()
    explanation = await app.inspect.explain_async(job_id)
    assert (explanation.headline.code, explanation.headline.kind) == ("no-worker", ReasonKind.BLOCKED)
    register(queue)
    queue.sql("UPDATE procrastinate_workers SET last_heartbeat = now() - interval '1 hour'")
    assert "silent" in (await app.inspect.explain_async(job_id)).headline.text


async def test_workers_that_wait_for_the_schema(app: App, queue: Queue) -> None:
    job_id = await app.configure_task("t").defer_async()
    queue.sql("UPDATE procrastinate_alembic_version SET version_num = 'procrastinate_0005'")
    explanation = await app.inspect.explain_async(job_id)
    assert codes(explanation) == ["schema-behind", "no-worker"]
    assert "procrastinate_0005" in explanation.headline.text
    register(queue)  # of the release before, which runs on the older schema
    assert await code(app, job_id) == "soon"


async def test_a_queue_that_no_worker_serves(app: App, workers: Workers, queue: Queue) -> None:
    job_id = await app.configure_task("t", queue="mial").defer_async()
    await workers.listening(queue, queues=["mail"])
    explanation = await app.inspect.explain_async(job_id)
    assert explanation.headline.code == "no-worker-for-queue"
    assert "mail" in explanation.headline.text


async def test_workers_that_are_full(app: App, workers: Workers, queue: Queue) -> None:
    may_end, started = asyncio.Event(), asyncio.Event()

    @app.task(name="t")
    async def task() -> None:
        started.set()
        await may_end.wait()

    await workers.listening(queue, concurrency=1, **OFTEN)
    await task.defer_async()
    await happens(started)
    job_id = await task.defer_async()
    await becomes(app, job_id, "workers-full")
    may_end.set()


async def test_a_slot_that_a_thread_keeps_after_its_timeout(app: App, workers: Workers, queue: Queue) -> None:
    may_end = threading.Event()
    stuck = app.task(name="stuck", timeout=0.1)(lambda: may_end.wait(30) and None)
    await workers.listening(queue, concurrency=1, **OFTEN)
    await queue.failed(await stuck.defer_async())
    job_id = await stuck.defer_async()
    await becomes(app, job_id, "slots-lost")
    may_end.set()


async def test_workers_that_drain(app: App, workers: Workers, queue: Queue) -> None:
    may_end, started = asyncio.Event(), asyncio.Event()

    @app.task(name="t")
    async def task() -> None:
        started.set()
        await may_end.wait()

    running = await workers.listening(queue, concurrency=2, **OFTEN)
    await task.defer_async()
    await happens(started)
    running.worker.stop()
    job_id = await task.defer_async()
    await becomes(app, job_id, "workers-drain")
    may_end.set()


async def test_an_event_loop_that_a_task_blocks(app: App, database_url: str) -> None:
    may_end = threading.Event()

    @app.task(name="block")
    async def block() -> None:
        while not may_end.is_set():
            time.sleep(0.01)  # noqa: ASYNC251 - it blocks on purpose

    thread = WorkerThread(app, database_url, install_signal_handlers=False, concurrency=2, **OFTEN)
    thread.start()
    await block.defer_async()
    job_id = await block.defer_async()
    explanation = await becomes(app, job_id, "loop-blocked")
    assert explanation.headline.kind is ReasonKind.BLOCKED
    may_end.set()
    await thread.stopped()


async def test_fetches_that_fail(app: App, workers: Workers, queue: Queue) -> None:
    task = app.task(name="t")(lambda: None)
    await workers.listening(queue, fetch_job_polling_interval=0.05, **OFTEN)
    await queue.ddl(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN IF NEW.status = ''doing'' THEN RAISE disk_full; END IF; RETURN NEW; END'"
    )
    await queue.ddl("CREATE TRIGGER refuse BEFORE UPDATE ON procrastinate_jobs FOR EACH ROW EXECUTE FUNCTION refuse()")
    job_id = await task.defer_async()
    explanation = await becomes(app, job_id, "fetches-fail")
    assert "53100" in explanation.headline.text
    await queue.ddl("DROP TRIGGER refuse ON procrastinate_jobs")


async def test_a_task_that_no_worker_knows(app: App, queue: Queue) -> None:
    core.keep_task_list(queue.connection, hash="a hash", tasks=["known"])
    register(queue, task_list="a hash")
    assert await code(app, await app.configure_task("known").defer_async()) == "soon"
    assert await code(app, await app.configure_task("renamed").defer_async()) == "task-unknown"


async def test_a_job_that_a_worker_has_put_off_names_its_unknown_task(app: App, workers: Workers, queue: Queue) -> None:
    job_id = await app.configure_task("renamed").defer_async()
    await workers.listening(queue)
    await until(lambda: queue.row(job_id)["scheduled_at"] is not None)
    explanation = await app.inspect.explain_async(job_id)
    assert codes(explanation) == ["task-unknown", "scheduled"]
    assert f"unknown_task_timeout, which is {duration(UNKNOWN_TASK_TIMEOUT)}" in explanation.headline.text


async def test_a_job_whose_time_is_its_users_also_mentions_its_unknown_task(app: App, queue: Queue) -> None:
    core.keep_task_list(queue.connection, hash="a hash", tasks=["known"])
    register(queue, task_list="a hash")
    for task, also in (("known", []), ("renamed", ["task-unknown"])):
        job_id = await app.configure_task(task, schedule_in={"hours": 1.5}).defer_async()
        explanation = await app.inspect.explain_async(job_id)
        assert codes(explanation) == ["scheduled", *also]
        assert explanation.headline.advice.startswith("Wait, or start it now with Run now")


async def test_a_due_job_of_an_unknown_task_is_not_soon(app: App, queue: Queue) -> None:
    core.keep_task_list(queue.connection, hash="a hash", tasks=["known"])
    register(queue, task_list="a hash")
    assert await code(app, await app.configure_task("renamed", schedule_at=LONG_AGO).defer_async()) == "task-unknown"


async def test_a_list_of_tasks_that_is_not_stored_excludes_nothing(app: App, queue: Queue) -> None:
    register(queue, task_list="unknown hash")
    assert await code(app, await app.configure_task("t").defer_async()) == "soon"


async def test_a_line_of_jobs_in_front(app: App, queue: Queue) -> None:
    await app.configure_task("t", priority=5).batch_defer_async({}, {})
    job_id = await app.configure_task("t").defer_async()
    register(queue)
    explanation = await app.inspect.explain_async(job_id)
    assert explanation.headline.code == "line-in-front"
    assert "2 ready jobs" in explanation.headline.text


async def test_workers_that_poll(app: App, queue: Queue) -> None:
    job_id = await app.configure_task("t").defer_async()
    register(queue, listens=False)
    assert await code(app, job_id) == "not-listening"


async def test_triggers_that_are_off(app: App, queue: Queue) -> None:
    job_id = await app.configure_task("t").defer_async()
    register(queue)
    queue.sql("ALTER TABLE procrastinate_jobs DISABLE TRIGGER USER")
    assert await code(app, job_id) == "triggers-off"


async def test_an_index_that_is_missing(app: App, queue: Queue) -> None:
    job_id = await app.configure_task("t").defer_async()
    register(queue)
    queue.sql("DROP INDEX procrastinate_jobs_ready_idx")
    explanation = await app.inspect.explain_async(job_id)
    assert explanation.headline.code == "index-missing"
    assert "procrastinate_jobs_ready_idx" in explanation.headline.text


async def test_triggers_that_do_not_fire_in_the_role_of_a_replica(database_url: str, queue: Queue) -> None:
    replica = {"options": "-csession_replication_role=replica"}
    engine = sa.create_engine(database_url, connect_args=replica, poolclass=sa.NullPool)
    with App(connector=engine).open() as app:
        job_id = app.configure_task("t").defer()
        assert app.inspect.explain(job_id).headline.code == "replica-role"


async def test_a_table_full_of_dead_rows(app: App, queue: Queue) -> None:
    queue.sql("ALTER TABLE procrastinate_jobs DISABLE TRIGGER USER")
    queue.sql(
        "INSERT INTO procrastinate_jobs (queue_name, task_name, status) "
        "SELECT 'q', 't', 'failed' FROM generate_series(1, 100000)"
    )
    queue.sql("DELETE FROM procrastinate_jobs")
    queue.sql("ALTER TABLE procrastinate_jobs ENABLE TRIGGER USER")
    queue.sql("SELECT pg_stat_force_next_flush()")
    queue.sql("SELECT 1")
    register(queue)
    assert await code(app, await app.configure_task("t").defer_async()) == "bloated"


async def test_a_job_that_a_free_worker_leaves_alone_is_a_fault(app: App, queue: Queue) -> None:
    job_id = await app.configure_task("t").defer_async()
    register(queue)
    assert await code(app, job_id) == "soon"
    queue.sql("UPDATE procrastinate_events SET at = now() - interval '1 minute'")
    explanation = await app.inspect.explain_async(job_id)
    assert (explanation.headline.code, explanation.headline.kind) == ("left-alone", ReasonKind.BLOCKED)


async def test_a_worker_that_was_last_heard_before_the_job_was_ready_is_no_fault(app: App, queue: Queue) -> None:
    job_id = await app.configure_task("t").defer_async()
    register(queue, last_heartbeat=sa.text("now() - interval '9 seconds'"))
    queue.sql("UPDATE procrastinate_events SET at = now() - interval '10 seconds'")
    assert await code(app, job_id) == "soon"


JUST_READY: dict[str, dict[str, Any]] = {
    "a lock": {"lock": "k"},
    "a schedule": {"schedule_at": LONG_AGO},
    "a limit": {"limit_name": "api", "limit_key": ""},
}


@pytest.mark.parametrize("options", JUST_READY.values(), ids=JUST_READY)
async def test_a_job_that_has_just_become_ready_is_no_fault(app: App, queue: Queue, options: dict[str, Any]) -> None:
    """The free worker has sent its heartbeat after the defer, and before the promotion or the admission."""
    core.define_limits(queue.connection, [core.LimitDefinition(name="api", concurrency=1)])
    values = dict(options)
    scheduled_at = values.pop("schedule_at", None)
    job_id = core.defer_job(queue.connection, new_job(scheduled_at=scheduled_at, **values))
    assert job_id is not None
    queue.sql("UPDATE procrastinate_events SET at = now() - interval '1 hour'")
    register(queue)
    with queue.connection.engine.begin() as other:
        core.admit_jobs(other)
    await app.job_manager.promote_jobs()
    assert (await app.inspect.explain_async(job_id)).state == "ready"
    assert await code(app, job_id) == "soon"


async def test_a_job_of_a_pause_that_has_just_ended_is_no_fault(app: App, queue: Queue) -> None:
    job_id = await app.configure_task("t").defer_async()
    queue.sql("UPDATE procrastinate_events SET at = now() - interval '1 hour'")
    register(queue, paused_queues=["default"])
    assert await code(app, job_id) == "soon"


async def test_a_job_that_has_had_its_lock_for_long_is_a_fault(app: App, queue: Queue) -> None:
    """The end of the job before it handed over the lock, a minute ago."""
    worker_id = register(queue)
    first, second = await app.configure_task("t", lock="k").batch_defer_async({}, {})
    await app.job_manager.promote_jobs()
    await app.job_manager.fetch_job(None, worker_id)
    await app.job_manager.promote_jobs()
    assert await code(app, second) == "lock-held"
    await app.job_manager.finish_job_by_id_async(first, Status.SUCCEEDED, delete_job=False)
    queue.sql("UPDATE procrastinate_workers SET last_heartbeat = now()")
    assert await code(app, second) == "soon"
    with queue.connection.engine.begin() as moved:
        moved.exec_driver_sql("UPDATE procrastinate_events SET at = at - interval '1 minute'")
        moved.exec_driver_sql("UPDATE procrastinate_jobs SET priority = 1 WHERE status = 'todo'")
    assert await code(app, second) == "left-alone"


@pytest.mark.parametrize("also", ["line-in-front", "not-listening"])
async def test_what_else_is_true_does_not_hide_the_fault(app: App, queue: Queue, also: str) -> None:
    job_id = await app.configure_task("t").defer_async()
    if also == "line-in-front":
        await app.configure_task("t", priority=5).defer_async()
    register(queue, listens=also != "not-listening")
    assert await code(app, job_id) == also
    queue.sql("UPDATE procrastinate_events SET at = now() - interval '1 minute'")
    assert also in codes(await app.inspect.explain_async(job_id))
    assert await code(app, job_id) == "left-alone"


async def test_a_job_of_a_queue_that_moves_is_no_fault(app: App, queue: Queue) -> None:
    """A worker in the middle of a long line may have a free slot at its heartbeat."""
    first, _, job_id = await app.configure_task("t").batch_defer_async({}, {}, {})
    queue.sql("UPDATE procrastinate_events SET at = now() - interval '1 hour'")
    worker_id = register(queue, concurrency=5)
    await app.job_manager.fetch_job(None, worker_id)
    assert queue.status(first) is Status.DOING
    assert await code(app, job_id) == "line-in-front"
    queue.sql("UPDATE procrastinate_events SET at = now() - interval '1 hour'")
    assert await code(app, job_id) == "left-alone"


# The answer as a whole


async def test_what_was_excluded_is_listed(app: App) -> None:
    explanation = await app.inspect.explain_async(await app.configure_task("t").defer_async())
    assert {check.found for check in explanation.checks} == {None, "no-worker"}
    assert len(explanation.checks) > 10
    assert all(check.error is None for check in explanation.checks)


async def test_a_check_that_fails_is_a_line_and_not_the_end(app: App, queue: Queue) -> None:
    job_id = await app.configure_task("t").defer_async()
    queue.sql("ALTER TABLE procrastinate_paused_queues RENAME TO elsewhere")
    explanation = await app.inspect.explain_async(job_id)
    assert explanation.headline.code == "no-worker"
    (failed,) = [check for check in explanation.checks if check.error]
    assert "paused" in failed.name


async def test_a_role_that_may_only_read_gets_an_answer(app: App, queue: Queue, database_url: str) -> None:
    job_id = await app.configure_task("t").defer_async()
    queue.sql("DROP ROLE IF EXISTS looks_only")
    queue.sql("CREATE ROLE looks_only")
    try:
        queue.sql("GRANT SELECT ON ALL TABLES IN SCHEMA public TO looks_only")
        engine = sa.create_engine(database_url, connect_args={"options": "-crole=looks_only"}, poolclass=sa.NullPool)
        with App(connector=engine).open() as reader:
            assert reader.inspect.explain(job_id).headline.code == "no-worker"
    finally:
        queue.sql("DROP OWNED BY looks_only")
        queue.sql("DROP ROLE looks_only")


def test_the_users_transaction_stays_writable(database_url: str, engine: sa.Engine) -> None:
    with App(connector=engine).open() as app:
        job_id = app.configure_task("t").defer()
        with engine.begin() as transaction:
            core.inspection.explain_job(transaction, job_id)
            transaction.execute(sa.text("UPDATE procrastinate_jobs SET priority = 1"))


def test_nothing_is_written_while_a_job_is_explained(engine: sa.Engine) -> None:
    seen: list[str] = []
    with App(connector=engine).open() as app:
        job_id = app.configure_task("t").defer()

        def note(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
            seen.append(statement)

        sa.event.listen(engine, "before_cursor_execute", note)
        app.inspect.explain(job_id)
    kinds = {statement.split()[0].upper() for statement in seen}
    assert kinds <= {"SELECT", "SAVEPOINT", "ROLLBACK"}


async def test_the_names_of_rows_are_quoted_in_the_answer(app: App) -> None:
    job_id = await app.configure_task("t", queue="a\nb\x1b[31m").defer_async()
    await app.queues.pause_async("a\nb\x1b[31m")
    text = (await app.inspect.explain_async(job_id)).headline.text
    assert "\x1b" not in text
    assert "\n" not in text


async def test_a_job_in_line_is_told_the_holders_and_its_place(app: App, queue: Queue) -> None:
    register(queue)
    core.define_limits(queue.connection, [core.LimitDefinition(name="api", concurrency=1)])
    limited = new_job(limit_name="api", limit_key="tenant 1")
    first, second, third = core.defer_jobs(queue.connection, [limited] * 3)
    queue.sql("UPDATE procrastinate_jobs SET readiness = 1 WHERE id = 1")
    headline = (await app.inspect.explain_async(third)).headline
    assert (headline.code, headline.kind) == ("limit-full", ReasonKind.WAITS)
    assert f"Limit 'api', key 'tenant 1': 1 of 1 slots are taken (job {first} for" in headline.text
    assert "and 1 job of the key comes first" in headline.text
    core.set_limit(queue.connection, core.LimitDefinition(name="api", concurrency=2, total=1))
    assert await code(app, second) == "limit-total-full"
    core.set_limit(queue.connection, core.LimitDefinition(name="api", total=2))
    assert await code(app, second) == "limit-has-room"


async def test_a_heavy_job_is_told_what_it_waits_for(app: App, queue: Queue) -> None:
    register(queue)
    core.define_limits(queue.connection, [core.LimitDefinition(name="api", concurrency=3)])
    weights = (2, 2, 9)
    jobs = [new_job(limit_name="api", limit_key="k", limit_weight=weight) for weight in weights]
    _, second, third = core.defer_jobs(queue.connection, jobs)
    with queue.connection.engine.begin() as other:
        assert core.admit_jobs(other).admitted == 1
    headline = (await app.inspect.explain_async(second)).headline
    assert headline.code == "limit-full"
    assert "2 of 3 slots are taken" in headline.text
    assert headline.text.endswith("The next job of the key has the weight 2")
    headline = (await app.inspect.explain_async(third)).headline
    assert (headline.code, headline.kind) == ("limit-too-small", ReasonKind.BLOCKED)
    assert "the job has the weight 9, and the limit allows 3. It cannot start" in headline.text


async def test_a_job_of_a_fair_limit_is_told_that_the_workers_are_full(app: App, queue: Queue) -> None:
    register(queue)
    queue.sql("UPDATE procrastinate_workers SET concurrency = 1")
    core.define_limits(queue.connection, [core.LimitDefinition(name="api", fair=True)])
    _, second = core.defer_jobs(queue.connection, [new_job(limit_name="api", limit_key="k")] * 2)
    queue.sql("UPDATE procrastinate_jobs SET readiness = 1 WHERE id = 1")
    headline = (await app.inspect.explain_async(second)).headline
    assert headline.code == "limit-capacity-full"
    assert "1 jobs of the limit have a slot, and the workers of their queues can run 1 jobs at once" in headline.text


async def test_a_job_of_a_key_that_is_held_off_is_told_how_long(app: App, queue: Queue) -> None:
    register(queue)
    core.define_limits(queue.connection, [core.LimitDefinition(name="api", concurrency=1)])
    await app.connector.run_async(core.hold_off, "api", "k", 3600.0)
    [job_id] = core.defer_jobs(queue.connection, [new_job(limit_name="api", limit_key="k")])
    headline = (await app.inspect.explain_async(job_id)).headline
    assert (headline.code, headline.kind) == ("limit-held-off", ReasonKind.WAITS)
    told = r"Limit 'api', key 'k': a job of the key held it off, for another (59 min|1 h)"
    assert re.match(told, headline.text)


async def test_a_job_that_waits_for_the_window_of_a_rate_is_told_the_next_start(app: App, queue: Queue) -> None:
    register(queue)
    core.define_limits(queue.connection, [core.LimitDefinition(name="api", rates=(core.RateTerms(1, 3600.0),))])
    _, second = core.defer_jobs(queue.connection, [new_job(limit_name="api", limit_key="k")] * 2)
    queue.sql("INSERT INTO procrastinate_starts (limit_name, limit_key, at) VALUES ('api', 'k', now())")
    headline = (await app.inspect.explain_async(second)).headline
    assert (headline.code, headline.kind) == ("limit-rate", ReasonKind.WAITS)
    assert re.match(r"Limit 'api', key 'k': the rate is used up, and the next start is in (59 min|1 h)", headline.text)


async def test_a_job_behind_the_running_job_of_its_limit_is_told_its_place(app: App, workers: Workers) -> None:
    """The worker has free slots, and keeps the others in line."""
    may_end, started = asyncio.Event(), asyncio.Event()

    @app.task(name="t", limit=Limit("api", concurrency=1))
    async def task() -> None:
        started.set()
        await may_end.wait()

    workers.start(concurrency=5, **OFTEN)
    first = await task.defer_async()
    await happens(started)
    second, third = await task.batch_defer_async({}, {})
    explanation = await becomes(app, third, "limit-full")
    assert explanation.headline.kind is ReasonKind.WAITS
    assert f"1 of 1 slots are taken (job {first} for" in explanation.headline.text
    assert "and 1 job of the key comes first" in explanation.headline.text
    assert "the job is the next in line" in (await app.inspect.explain_async(second)).headline.text
    may_end.set()
    await becomes(app, third, "succeeded")


async def test_a_job_whose_limit_no_worker_has_defined(app: App, queue: Queue) -> None:
    register(queue)
    job_id = core.defer_job(queue.connection, new_job(limit_name="api", limit_key=""))
    assert job_id is not None
    headline = (await app.inspect.explain_async(job_id)).headline
    assert (headline.code, headline.kind) == ("limit-undefined", ReasonKind.BLOCKED)
    assert [job.id for job in await app.job_manager.list_jobs_async(status="todo")] == [job_id]
