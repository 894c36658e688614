"""Jobs in every state, made by 3.10 itself."""

import asyncio

from plain_app import add, app, fails, flaky, sleeps

from procrastinate import exceptions


async def end_some():
    for number in range(5):
        await add.defer_async(a=number, b=1)
    await fails.defer_async()
    await flaky.defer_async()
    await app.job_manager.cancel_job_by_id_async(await add.defer_async(a=0, b=0))
    await app.run_worker_async(wait=False, install_signal_handlers=False)


async def abort_one():
    job_id = await sleeps.defer_async(seconds=60)
    worker = asyncio.create_task(app.run_worker_async(install_signal_handlers=False))
    while (await app.job_manager.get_job_status_async(job_id)).value != "doing":
        await asyncio.sleep(0.05)
    await app.job_manager.cancel_job_by_id_async(job_id, abort=True)
    while (await app.job_manager.get_job_status_async(job_id)).value != "aborted":
        await asyncio.sleep(0.05)
    worker.cancel()
    await asyncio.wait([worker])


async def let_some_wait():
    await add.defer_async(a=1, b=2)
    await add.configure(schedule_in={"days": 30}).defer_async(a=1, b=3)
    await add.configure(schedule_in={"seconds": 0}).defer_async(a=1, b=4)
    await add.configure(priority=5).defer_async(a=1, b=5)
    for number in range(3):
        await add.configure(lock="first").defer_async(a=number, b=6)
    await add.configure(lock="first", priority=9).defer_async(a=9, b=6)
    await add.configure(lock="second", schedule_in={"hours": 1}).defer_async(a=0, b=7)
    await add.configure(lock="second").defer_async(a=1, b=7)
    await add.configure(queueing_lock="taken").defer_async(a=0, b=8)
    try:
        await add.configure(queueing_lock="taken").defer_async(a=1, b=8)
    except exceptions.AlreadyEnqueued:
        pass
    else:
        raise AssertionError
    await app.job_manager.defer_periodic_job(
        job=app.tasks["yearly"].configure(task_kwargs={"timestamp": 1}).job,
        periodic_id="",
        defer_timestamp=1,
    )


async def leave_some_behind():
    """Of a worker that died long ago, and of one that was pruned."""
    execute = app.connector.execute_query_async
    rows = await app.connector.execute_query_all_async("SELECT worker_id FROM procrastinate_register_worker_v1()")
    orphan = await sleeps.configure(queue="orphans", lock="third").defer_async(seconds=0)
    other = await sleeps.configure(queue="orphans").defer_async(seconds=0)
    await execute(
        "UPDATE procrastinate_jobs SET status = 'doing', worker_id = %(w)s WHERE id = %(i)s",
        w=rows[0]["worker_id"],
        i=orphan,
    )
    await execute("UPDATE procrastinate_jobs SET status = 'doing' WHERE id = %(i)s", i=other)
    await execute("UPDATE procrastinate_workers SET last_heartbeat = now() - interval '40 days'")
    await add.configure(lock="third", queue="orphans").defer_async(a=0, b=9)


async def main():
    async with app.open_async():
        await end_some()
        await abort_one()
        await let_some_wait()
        await leave_some_behind()


asyncio.run(main())
