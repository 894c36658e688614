"""Every operation of 3.10's manager and its worker, sync and async. It fails if one does, or is left out."""

import asyncio
import datetime
import functools
import os
import warnings

import psycopg
from plain_app import add, app, fails, flaky, notes, sleeps

import procrastinate
from procrastinate import exceptions, jobs, manager

FAILED = jobs.Status.FAILED
NOW = datetime.datetime.now(datetime.UTC)
OPERATIONS = {name for name in vars(manager.JobManager) if not name.startswith("_")}
CALLED = set()


def note_calls():
    """Let each operation of the manager note that it was called."""

    def noting(name, function):
        @functools.wraps(function)
        def call(*args, **kwargs):
            CALLED.add(name)
            return function(*args, **kwargs)

        return call

    for name in OPERATIONS:
        setattr(manager.JobManager, name, noting(name, getattr(manager.JobManager, name)))


async def defer():
    ids = [await add.defer_async(a=1, b=1)]
    ids += await add.batch_defer_async({"a": 1, "b": 2}, {"a": 1, "b": 3})
    ids.append(await add.configure(schedule_at=NOW + datetime.timedelta(days=1), priority=3).defer_async(a=1, b=4))
    assert ids == sorted(ids), ids
    await add.configure(queueing_lock="x").defer_async(a=1, b=5)
    try:
        await add.configure(queueing_lock="x").defer_async(a=1, b=6)
    except exceptions.AlreadyEnqueued:
        pass
    else:
        raise AssertionError
    return ids


async def look():
    manager = app.job_manager
    assert await manager.check_connection_async()
    assert len(list(await manager.list_jobs_async(task="add", status="todo"))) >= 4
    assert {row["name"] for row in await manager.list_tasks_async()} >= {"add"}
    assert (await manager.list_queues_async())[0]["jobs_count"] > 0
    assert list(await manager.list_locks_async(lock="none")) == []


async def listen():
    """Hear of a job that another connection defers."""
    heard = asyncio.Event()

    async def hear(*, channel, notification):
        assert notification["type"] == "job_inserted", notification
        heard.set()

    listening = asyncio.create_task(app.job_manager.listen_for_jobs(on_notification=hear, queues=["heard"]))
    while not heard.is_set():
        await add.configure(queue="heard", schedule_at=NOW + datetime.timedelta(days=1)).defer_async(a=0, b=0)
        await asyncio.sleep(0.05)
    listening.cancel()
    await asyncio.wait([listening])


async def run_by_hand():
    manager = app.job_manager
    worker_id = await manager.register_worker()
    await manager.update_heartbeat(worker_id)
    job = await manager.fetch_job(queues=None, worker_id=worker_id)
    assert job.status == "doing" and job.worker_id == worker_id
    await manager.finish_job(job, jobs.Status.SUCCEEDED, delete_job=False)
    try:
        await manager.finish_job(job, jobs.Status.SUCCEEDED, delete_job=False)
    except exceptions.ConnectorException as error:
        assert "status" in str(error.__cause__)
    else:
        raise AssertionError
    job = await manager.fetch_job(queues=["default"], worker_id=worker_id)
    await manager.retry_job(job, retry_at=NOW, priority=7, queue="other", lock="lock")
    (retried,) = await manager.list_jobs_async(id=job.id)
    assert (retried.priority, retried.queue, retried.lock, retried.attempts) == (7, "other", "lock", 1), retried
    job = await manager.fetch_job(queues=["other"], worker_id=worker_id)
    assert await manager.cancel_job_by_id_async(job.id, abort=True)
    assert await manager.list_jobs_to_abort_async() == [job.id]
    await manager.finish_job(job, jobs.Status.ABORTED, delete_job=True)
    job = await manager.fetch_job(queues=None, worker_id=worker_id)
    assert list(await manager.get_stalled_jobs(seconds_since_heartbeat=1000)) == []
    await manager.unregister_worker(worker_id)
    assert [stalled.id for stalled in await manager.get_stalled_jobs()] == [job.id]
    with warnings.catch_warnings(action="ignore"):
        assert [stalled.id for stalled in await manager.get_stalled_jobs(nb_seconds=-1)] == [job.id]
        assert list(await manager.get_stalled_jobs(nb_seconds=1000)) == []
    await manager.retry_job(job, retry_at=NOW)
    waiting = await add.defer_async(a=8, b=8)
    await manager.finish_job_by_id_async(waiting, FAILED, delete_job=False)
    assert await manager.get_job_status_async(waiting) == FAILED
    await manager.finish_job_by_id_async(await add.defer_async(a=8, b=8), jobs.Status.ABORTED, delete_job=True)
    assert await manager.prune_stalled_workers(seconds_since_heartbeat=4000) == []
    waiting = await add.defer_async(a=9, b=9)
    assert await manager.cancel_job_by_id_async(waiting, delete_job=True)
    assert not await manager.cancel_job_by_id_async(waiting)
    assert await manager.defer_periodic_job(
        job=app.tasks["yearly"].configure(task_kwargs={"timestamp": 5}).job, periodic_id="", defer_timestamp=5
    )


async def run_a_worker():
    failed = await fails.defer_async()
    retried = await flaky.defer_async()
    locked = [await notes.configure(lock="l").defer_async(group="l") for _ in range(3)]
    await app.run_worker_async(wait=False, install_signal_handlers=False)
    status = app.job_manager.get_job_status_async
    assert await status(failed) == FAILED
    assert await status(retried) == jobs.Status.TODO
    assert [await status(job_id) for job_id in locked] == [jobs.Status.SUCCEEDED] * 3
    await app.job_manager.retry_job_by_id_async(failed, retry_at=NOW)
    assert await status(failed) == jobs.Status.TODO
    job_id = await sleeps.defer_async(seconds=60)
    worker = asyncio.create_task(app.run_worker_async(install_signal_handlers=False))
    while await status(job_id) != jobs.Status.DOING:
        await asyncio.sleep(0.05)
    assert await app.job_manager.cancel_job_by_id_async(job_id, abort=True)
    while await status(job_id) != jobs.Status.ABORTED:
        await asyncio.sleep(0.05)
    waiting = await add.defer_async(a=3, b=3)
    while await status(waiting) != jobs.Status.SUCCEEDED:
        await asyncio.sleep(0.05)
    worker.cancel()
    await asyncio.wait([worker])
    await app.job_manager.delete_old_jobs(nb_hours=0, include_failed=True, include_cancelled=True, include_aborted=True)
    ended = {"succeeded", "failed", "cancelled", "aborted"}
    assert [job for job in await app.job_manager.list_jobs_async() if job.status in ended] == []
    await app.job_manager.finish_job_by_id_async(waiting := await add.defer_async(a=4, b=4), FAILED, delete_job=False)
    assert await status(waiting) == FAILED


def run_sync():
    with app.replace_connector(procrastinate.SyncPsycopgConnector(conninfo=os.environ["DSN"])), app.open():
        manager = app.job_manager
        assert manager.check_connection()
        job_id = add.configure(lock="sync", queueing_lock="sync").defer(a=1, b=1)
        try:
            add.configure(queueing_lock="sync").defer(a=1, b=1)
        except exceptions.AlreadyEnqueued:
            pass
        else:
            raise AssertionError
        assert len(add.batch_defer({"a": 1, "b": 2}, {"a": 1, "b": 3})) == 2
        assert manager.get_job_status(job_id) == jobs.Status.TODO
        assert [job.id for job in manager.list_jobs(lock="sync")] == [job_id]
        assert [(row["name"], row["todo"]) for row in manager.list_locks(lock="sync")] == [("sync", 1)]
        assert {row["name"] for row in manager.list_queues()} >= {"default"}
        assert {row["name"] for row in manager.list_tasks()} >= {"add"}
        assert manager.cancel_job_by_id(job_id)
        assert manager.get_job_status(job_id) == jobs.Status.CANCELLED
        (failed,) = manager.list_jobs(status="failed")
        manager.retry_job_by_id(failed.id, retry_at=NOW)
        assert manager.get_job_status(failed.id) == jobs.Status.TODO


async def main():
    async with app.open_async():
        await defer()
        await look()
        await listen()
        await run_by_hand()
        await run_a_worker()


note_calls()
with psycopg.connect(os.environ["DSN"], autocommit=True) as setup:
    setup.execute("CREATE TABLE notes (job_id bigint, what text, group_name text)")
asyncio.run(main())
run_sync()
assert not OPERATIONS - CALLED, OPERATIONS - CALLED
print("all of it works")
