"""A row that the database refuses to change does not stop the work on others."""

from __future__ import annotations

import datetime
import logging
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from procrastinate import core, exceptions
from procrastinate.app import App
from procrastinate.core import Status
from procrastinate.limits import Limit
from procrastinate.manager.refused_rows import RefusedRows
from tests.worker.running import Queue, Workers

LIVELY: dict[str, Any] = {"update_heartbeat_interval": 0.1, "stalled_worker_timeout": 0.8}
LONG_AGO = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)


def refuse(
    queue: Queue,
    *job_ids: int,
    code: str = "P0001",
    event: str = "UPDATE",
    table: str = "procrastinate_jobs",
    condition: str = "true",
) -> None:
    """Add a user's trigger that refuses to change these jobs, or all rows that meet a condition."""
    if job_ids:
        condition = f"OLD.id IN ({', '.join(map(str, job_ids))})"
    queue.sql(
        "CREATE OR REPLACE FUNCTION refuses() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"RAISE EXCEPTION 'this row is under audit' USING ERRCODE = '{code}'; END $$"
    )
    queue.sql(
        f"CREATE TRIGGER refuses BEFORE {event} ON {table} FOR EACH ROW WHEN ({condition}) EXECUTE FUNCTION refuses()"
    )


def refused(caplog: pytest.LogCaptureFixture) -> list[int]:
    """Return the jobs that the log names as refused, in order."""
    return [vars(record)["job_id"] for record in caplog.records if getattr(record, "action", "") == "job_refused"]


async def promote_all(app: App, *paused: str) -> None:
    """Promote until nothing is left to decide."""
    while (await app.job_manager.promote_jobs(paused=paused)).again:
        pass


@pytest.mark.parametrize("queues", [None, ["a"], ["a", "b"]])
@pytest.mark.parametrize("code", ["P0001", "23514", "22023", "AUDIT"])
async def test_a_job_whose_fetch_is_refused_holds_up_no_other(
    app: App,
    workers: Workers,
    queue: Queue,
    caplog: pytest.LogCaptureFixture,
    queues: list[str] | None,
    code: str,
) -> None:
    task = app.task(name="task", queue="a")(lambda: None)
    ids = await task.batch_defer_async(*[{}] * 30)
    refuse(queue, ids[0], ids[17], code=code)
    with caplog.at_level(logging.ERROR):
        await workers.run(queues=queues, concurrency=20)
    assert queue.statuses() == {"succeeded": 28, "todo": 2}
    assert refused(caplog) == [ids[0], ids[17]]
    assert "this row is under audit" in caplog.text


async def test_a_job_in_line_that_is_refused_holds_up_no_other(
    app: App, workers: Workers, queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    """It is passed by when slots are given away, and when a job that ends hands its slot over."""
    task = app.task(name="task", limit=Limit("l", concurrency=2))(lambda: None)
    ids = await task.batch_defer_async(*[{}] * 6)
    refuse(queue, ids[1])
    with caplog.at_level(logging.ERROR):
        await workers.listening(queue)
        await queue.succeeded(ids[0], *ids[2:])
    assert queue.status(ids[1]) is Status.TODO
    assert refused(caplog) == [ids[1]]


@pytest.mark.parametrize("table", ["limits", "openings"])
async def test_a_table_of_limits_that_takes_no_change_keeps_no_other_job(
    app: App, workers: Workers, queue: Queue, caplog: pytest.LogCaptureFixture, table: str
) -> None:
    task = app.task(name="task")(lambda: None)
    limited = app.task(name="limited", limit=Limit("l", concurrency=1))(lambda: None)
    ids = [await limited.defer_async(), await task.defer_async()]
    refuse(queue, event="INSERT OR UPDATE OR DELETE", table=f"procrastinate_{table}")
    with caplog.at_level(logging.WARNING):
        await workers.run()
    assert [queue.status(job_id) for job_id in ids] == [Status.TODO, Status.SUCCEEDED]
    refusals = [record for record in caplog.records if getattr(record, "action", "") == "limits_refused"]
    assert ["this row is under audit" in record.getMessage() for record in refusals] == [True]


async def test_a_worker_whose_row_cannot_be_changed_runs_its_jobs_and_ends(
    app: App, workers: Workers, queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    task = app.task(name="task")(lambda: None)
    await task.defer_async()
    refuse(queue, table="procrastinate_workers")
    with caplog.at_level(logging.WARNING):
        await workers.run()
    assert queue.statuses() == {"succeeded": 1}
    assert "notify_interest_refused" in [getattr(record, "action", "") for record in caplog.records]


async def test_a_promotion_that_is_refused_keeps_no_ready_job(
    app: App, workers: Workers, queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    task = app.task(name="task")(lambda: None)
    limited = app.task(name="limited", limit=Limit("l", concurrency=1))(lambda: None)
    ids = [await limited.defer_async(), await task.defer_async()]
    refuse(queue, event="DELETE", table="procrastinate_openings")
    with caplog.at_level(logging.WARNING):
        await workers.run()
    assert [queue.status(job_id) for job_id in ids] == [Status.TODO, Status.SUCCEEDED]
    assert "promotion_refused" in [getattr(record, "action", "") for record in caplog.records]


async def test_a_job_whose_fetch_always_meets_an_error_that_should_pass_holds_up_no_other(
    app: App, workers: Workers, queue: Queue
) -> None:
    task = app.task(name="task")(lambda: None)
    ids = await task.batch_defer_async(*[{}] * 5)
    refuse(queue, ids[0], code="40001")
    await workers.listening(queue)
    await queue.succeeded(*ids[1:])
    assert queue.status(ids[0]) is Status.TODO


async def test_a_refused_job_is_tried_again_after_a_minute(app: App, queue: Queue) -> None:
    now = [0.0]
    manager = app.job_manager
    manager.refused_rows = RefusedRows(clock=lambda: now[0])
    ids = await app.task(name="task")(lambda: None).batch_defer_async({}, {})
    worker_id = core.register_worker(queue.connection)
    refuse(queue, ids[0])
    assert [job.id for job in await manager.fetch_jobs(None, worker_id, 10)] == [ids[1]]
    queue.sql("DROP TRIGGER refuses ON procrastinate_jobs")
    assert await manager.fetch_jobs(None, worker_id, 10) == []
    now[0] = 61.0
    assert [job.id for job in await manager.fetch_jobs(None, worker_id, 10)] == [ids[0]]


async def test_a_job_whose_promotion_is_refused_holds_up_no_other(
    app: App, workers: Workers, queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    task = app.task(name="task")(lambda: None)
    ids = await task.configure(schedule_at=LONG_AGO).batch_defer_async(*[{}] * 30)
    refuse(queue, ids[3])
    with caplog.at_level(logging.ERROR):
        await workers.run(concurrency=20)
    assert queue.statuses() == {"succeeded": 29, "todo": 1}
    assert refused(caplog) == [ids[3]]


async def test_a_job_whose_rescue_is_refused_holds_up_no_other(app: App, workers: Workers, queue: Queue) -> None:
    task = app.task(name="task")(lambda: None)
    ids = await task.batch_defer_async(*[{}] * 10)
    worker_id = core.register_worker(queue.connection)
    core.fetch_jobs(queue.connection, worker_id=worker_id, limit=100)
    core.unregister_worker(queue.connection, worker_id)
    refuse(queue, ids[0])
    await workers.listening(queue, **LIVELY)
    await queue.succeeded(*ids[1:])
    assert queue.status(ids[0]) is Status.DOING


async def test_an_unknown_job_that_is_refused_holds_up_the_return_of_no_other(app: App, queue: Queue) -> None:
    task = app.task(name="task")(lambda: None)
    ids = await task.batch_defer_async(*[{}] * 10)
    worker_id = core.register_worker(queue.connection)
    core.fetch_jobs(queue.connection, worker_id=worker_id, limit=100)
    refuse(queue, ids[4])
    returned = await app.job_manager.return_unknown_jobs(worker_id=worker_id, known_ids=[ids[1]], max_rescues=5)
    assert [job.id for job in returned] == [ids[0], ids[2], ids[3], *ids[5:]]


@pytest.mark.parametrize("in_thread", [False, True])
async def test_a_job_whose_release_is_refused_holds_up_the_release_of_no_other(
    app: App, queue: Queue, in_thread: bool
) -> None:
    task = app.task(name="task")(lambda: None)
    ids = await task.batch_defer_async(*[{}] * 10)
    worker_id = core.register_worker(queue.connection)
    jobs = core.fetch_jobs(queue.connection, worker_id=worker_id, limit=100)
    fetched = [core.FetchedJob(id=job.id, attempts=job.attempts) for job in jobs]
    refuse(queue, ids[4])
    manager = app.job_manager
    if in_thread:
        released = manager.release_jobs_in_thread(fetched, worker_id=worker_id)
    else:
        released = await manager.release_jobs(fetched, worker_id=worker_id)
    assert sorted(released) == [*ids[:4], *ids[5:]]


async def test_a_parked_job_that_is_refused_holds_up_the_sweep_of_no_other_lock(app: App, queue: Queue) -> None:
    for lock in ("a", "b", "c"):
        await app.configure_task("task", lock=lock).defer_async()
    queue.sql("UPDATE procrastinate_jobs SET readiness = 2")
    refuse(queue, 2)
    sweep = await app.job_manager.sweep_parked_jobs()
    while sweep.reached is not None:
        sweep = await app.job_manager.sweep_parked_jobs(start=sweep.reached)
    parked = queue.sql("SELECT array_agg(id) FROM procrastinate_jobs WHERE readiness = 2")
    assert parked == [2]


@pytest.mark.parametrize("queue_name", [None, "default"])
async def test_a_job_that_a_users_row_refers_to_holds_up_the_deletion_of_no_other(
    app: App, workers: Workers, queue: Queue, queue_name: str | None
) -> None:
    task = app.task(name="task")(lambda: None)
    ids = await task.batch_defer_async(*[{}] * 10)
    await workers.run(concurrency=10)
    queue.sql("UPDATE procrastinate_jobs SET finished_at = now() - interval '2 hours'")
    queue.sql("CREATE TABLE reports (job_id bigint REFERENCES procrastinate_jobs)")
    queue.sql("INSERT INTO reports VALUES (:id)", id=ids[2])
    await app.job_manager.delete_old_jobs(nb_hours=1, queue=queue_name)
    assert queue.sql("SELECT array_agg(id) FROM procrastinate_jobs") == [ids[2]]


async def test_a_deletion_that_the_statement_timeout_stops_deletes_fewer_jobs_at_once(app: App, queue: Queue) -> None:
    """Jobs that were retried often have a long history, and a thousand of them may take too long each night."""
    queue.sql(
        "INSERT INTO procrastinate_jobs (queue_name, task_name, status, finished_at) "
        "SELECT 'q', 'task', 'succeeded', now() - interval '2 hours' FROM generate_series(1, 10)"
    )
    queue.sql(
        "CREATE FUNCTION takes_long() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF (SELECT count(*) FROM gone) > 3 "
        "THEN RAISE EXCEPTION 'statement timeout' USING ERRCODE = '57014'; END IF; RETURN NULL; END $$"
    )
    queue.sql(
        "CREATE TRIGGER takes_long AFTER DELETE ON procrastinate_jobs REFERENCING OLD TABLE AS gone "
        "FOR EACH STATEMENT EXECUTE FUNCTION takes_long()"
    )
    await app.job_manager.delete_old_jobs(nb_hours=1)
    assert queue.statuses() == {}


async def test_a_trigger_that_refuses_all_jobs_is_an_error_of_the_fetch(
    app: App, queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    ids = await app.task(name="task")(lambda: None).batch_defer_async(*[{}] * 30)
    worker_id = core.register_worker(queue.connection)
    refuse(queue)
    with pytest.raises(exceptions.ConnectorException, match="under audit"):
        await app.job_manager.fetch_jobs(None, worker_id, 30)
    assert refused(caplog) == ids[:10]  # the others are counted
    queue.sql("DROP TRIGGER refuses ON procrastinate_jobs")
    assert [job.id for job in await app.job_manager.fetch_jobs(None, worker_id, 30)] == ids[20:]


async def test_many_refused_jobs_at_the_head_hold_up_no_other(app: App, workers: Workers, queue: Queue) -> None:
    ids = await app.task(name="task")(lambda: None).batch_defer_async(*[{}] * 50)
    refuse(queue, *ids[:45])
    workers.start()
    await queue.succeeded(*ids[45:])


async def test_a_row_that_a_policy_refuses_holds_up_no_other(app: App, queue: Queue, database_url: str) -> None:
    ids = await app.task(name="task")(lambda: None).batch_defer_async(*[{}] * 4)
    worker_id = core.register_worker(queue.connection)
    queue.sql("ALTER TABLE procrastinate_jobs ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
    queue.sql(f"CREATE POLICY most ON procrastinate_jobs USING (true) WITH CHECK (id <> {ids[1]})")
    queue.sql("CREATE ROLE worker_under_policy")
    try:
        queue.sql("GRANT ALL ON ALL TABLES IN SCHEMA public TO worker_under_policy")
        queue.sql("GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO worker_under_policy")
        limited = App(connector=f"{database_url}&options=-c%20role%3Dworker_under_policy")
        async with limited.open_async():
            jobs = await limited.job_manager.fetch_jobs(None, worker_id, 10)
    finally:
        queue.sql("DROP OWNED BY worker_under_policy")
        queue.sql("DROP ROLE worker_under_policy")
    assert [job.id for job in jobs] == [ids[0], *ids[2:]]


async def test_a_mistake_in_a_users_trigger_for_one_job_holds_up_no_other(
    app: App, workers: Workers, queue: Queue
) -> None:
    ids = await app.task(name="task")(lambda: None).batch_defer_async(*[{}] * 4)
    refuse(queue, ids[1])
    queue.sql(
        "CREATE OR REPLACE FUNCTION refuses() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN INSERT INTO no_such_table VALUES (1); RETURN NEW; END $$"
    )
    await workers.run()
    assert queue.statuses() == {"succeeded": 3, "todo": 1}


async def test_a_dead_worker_that_a_users_row_refers_to_holds_up_the_removal_of_no_other(
    app: App, workers: Workers, queue: Queue
) -> None:
    ids = await app.task(name="task")(lambda: None).batch_defer_async({}, {})
    held, other = (core.register_worker(queue.connection) for _ in range(2))
    for worker_id in (held, other):
        core.fetch_jobs(queue.connection, worker_id=worker_id, limit=1)
    queue.sql("CREATE TABLE shifts (worker_id bigint REFERENCES procrastinate_workers)")
    queue.sql("INSERT INTO shifts VALUES (:id)", id=held)
    queue.sql("UPDATE procrastinate_workers SET last_heartbeat = now() - interval '2 hours'")
    workers.start(**LIVELY)
    await queue.succeeded(ids[1])
    assert await app.job_manager.prune_stalled_workers(1800) == []
    assert queue.status(ids[0]) is Status.DOING


async def test_a_refused_job_of_a_paused_queue_keeps_its_lock_and_no_other_does(app: App, queue: Queue) -> None:
    for lock in ("a", "b", "c"):
        await app.configure_task("task", lock=lock).defer_async()
    await app.job_manager.promote_jobs()
    refuse(queue, 2)
    assert await app.job_manager.free_locks_of_paused("default") == 2
    assert queue.sql("SELECT array_agg(id) FROM procrastinate_jobs WHERE readiness = 1") == [2]


async def test_a_refused_job_of_a_resumed_queue_holds_up_no_other(app: App, queue: Queue) -> None:
    for _ in range(3):
        await app.configure_task("task").defer_async()
    queue.sql("UPDATE procrastinate_jobs SET readiness = 2")
    refuse(queue, 2)
    assert await app.job_manager.unpark_resumed_jobs() == 2
    assert queue.sql("SELECT array_agg(id) FROM procrastinate_jobs WHERE readiness = 2") == [2]


# A job that waits for a lock is refused


@pytest.fixture
async def holder(app: App, queue: Queue) -> int:
    """Return a job with a lock, behind which a job is parked that the database refuses to change."""
    first, refused_id, _ = [await app.configure_task("task", lock="a").defer_async() for _ in range(3)]
    await app.job_manager.promote_jobs()
    refuse(queue, refused_id)
    return first


@pytest.mark.parametrize("fails", [False, True])
async def test_the_outcome_of_a_holder_is_recorded_if_the_next_job_of_its_lock_is_refused(
    app: App, workers: Workers, queue: Queue, holder: int, fails: bool
) -> None:
    def run() -> None:
        if fails and queue.status(holder) is Status.DOING and not runs:
            runs.append(1)
            raise ValueError

    runs: list[int] = []
    app.task(name="task", retry=1)(run)
    workers.start(**LIVELY)
    await queue.succeeded(holder)
    await queue.succeeded(holder + 2)  # the sweep passes over the refused one
    assert queue.status(holder + 1) is Status.TODO


@pytest.mark.parametrize("paused", [(), ("other",)], ids=["no queue is paused", "a queue is paused"])
async def test_a_refused_parked_job_of_a_free_lock_holds_up_no_job_of_its_lock(
    app: App, queue: Queue, caplog: pytest.LogCaptureFixture, paused: tuple[str, ...]
) -> None:
    """A promotion would give the lock to it, and names it and none of the others."""
    task = app.configure_task("task", lock="a")
    refused_id, parked, *due = [await task.defer_async() for _ in range(5)]
    queue.sql("UPDATE procrastinate_jobs SET readiness = 2 WHERE id <= :id", id=parked)
    refuse(queue, refused_id)
    await promote_all(app, *paused)
    assert refused(caplog) == [refused_id]
    assert queue.sql("SELECT array_agg(id) FROM procrastinate_jobs WHERE readiness = 1") == [parked]
    assert queue.sql("SELECT array_agg(id ORDER BY id) FROM procrastinate_jobs WHERE readiness = 2") == [
        refused_id,
        *due,
    ]


async def test_a_refused_parked_job_goes_on_in_place_of_no_paused_one(
    app: App, queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    refused_id, parked = [await app.configure_task("task", lock="a").defer_async() for _ in range(2)]
    await app.configure_task("task", lock="a", queue="paused", priority=1).defer_async()
    queue.sql("UPDATE procrastinate_jobs SET readiness = 2 WHERE id <= :id", id=parked)
    refuse(queue, refused_id)
    await promote_all(app, "paused")
    assert refused(caplog) == [refused_id]
    assert queue.sql("SELECT array_agg(id) FROM procrastinate_jobs WHERE readiness = 1") == [parked]


async def test_a_holder_is_rescued_and_released_if_the_next_job_of_its_lock_is_refused(
    app: App, queue: Queue, holder: int
) -> None:
    manager = app.job_manager
    for give_back in ("rescue", "return", "release"):
        worker_id = core.register_worker(queue.connection)
        [job] = core.fetch_jobs(queue.connection, worker_id=worker_id, limit=1)
        assert job.id == holder
        if give_back == "rescue":
            core.unregister_worker(queue.connection, worker_id)
            assert [one.id for one in await manager.rescue_jobs(max_rescues=5)] == [holder]
        elif give_back == "return":
            await manager.return_unknown_jobs(worker_id=worker_id, known_ids=[], max_rescues=5)
        else:
            fetched = [core.FetchedJob(id=holder, attempts=job.attempts)]
            assert list(await manager.release_jobs(fetched, worker_id=worker_id)) == [holder]
        assert queue.status(holder) is Status.TODO
        await manager.promote_jobs()


async def test_a_holder_is_cancelled_by_hand_if_the_next_job_of_its_lock_is_refused(
    app: App, queue: Queue, holder: int
) -> None:
    assert await app.job_manager.cancel_job_by_id_async(holder)
    assert queue.status(holder) is Status.CANCELLED


async def test_a_deletion_in_a_transaction_of_the_user_raises_what_the_database_refuses(
    app: App, workers: Workers, queue: Queue, database_url: str
) -> None:
    job_id = await app.task(name="task")(lambda: None).defer_async()
    await workers.run()
    queue.sql("UPDATE procrastinate_jobs SET finished_at = now() - interval '2 hours'")
    queue.sql("CREATE TABLE reports (job_id bigint REFERENCES procrastinate_jobs)")
    queue.sql("INSERT INTO reports VALUES (:id)", id=job_id)
    engine = create_async_engine(database_url)
    async with engine.connect() as connection:
        with pytest.raises(exceptions.ConnectorException, match="reports"):
            await app.job_manager.delete_old_jobs(nb_hours=1, connection=connection)
    await engine.dispose()
