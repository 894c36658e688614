"""Limits on real workers: several at once, workers that are killed, limits that change while jobs run."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence

import pytest

from procrastinate import App, JobContext, Limit, Rate
from procrastinate.core import LimitDefinition, Status, define_limits
from procrastinate.worker.services import limit_definer
from tests.worker.limited_processes import Workers, workers
from tests.worker.limited_program import IN_ALL, PER_KEY
from tests.worker.limited_program import app as program
from tests.worker.running import Queue, until

LONG = bool(os.environ.get("PROCRASTINATE_TESTS_LONG"))
JOBS = 1000 if LONG else 150
HELD = """
SELECT max(held) FROM (
    SELECT count(*) AS held FROM procrastinate_jobs
    WHERE limit_name = :name AND (status = 'doing' OR (status = 'todo' AND readiness = 1))
    GROUP BY CASE WHEN :by_key THEN limit_key END
) AS counted
"""
LEFT = "SELECT count(*) FROM procrastinate_jobs WHERE status IN ('todo', 'doing')"


def check_limits(queue: Queue, per_key: int = 2) -> None:
    """Check the slots in one snapshot of the table."""
    assert (queue.sql(HELD, name=PER_KEY.name, by_key=True) or 0) <= per_key
    assert (queue.sql(HELD, name=IN_ALL.name, by_key=False) or 0) <= 3


async def run_to_the_end(queue: Queue, running: Workers, *, kills: int, within: float = 180) -> None:
    """Look at the slots all the time until every job has ended. Kill a worker each time a share of the jobs has."""
    loop = asyncio.get_running_loop()
    deadline, killed, number = loop.time() + within, 0, queue.sql(LEFT)
    while left := queue.sql(LEFT):
        check_limits(queue)
        if killed < kills and left < number * (1 - (killed + 1) / (kills + 1)):
            running.kill_one()
            killed += 1
        assert loop.time() < deadline, f"{left} jobs are left"
        await asyncio.sleep(0.005)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("kills", [0, 4], ids=["workers live", "workers are killed"])
async def test_limits_hold_whatever_becomes_of_the_workers(queue: Queue, database_url: str, kills: int) -> None:
    async with App(connector=database_url).open_async() as opened:
        with program.replace_connector(opened.connector) as deferring:
            for name in ("per key", "in all", "locked"):
                number = JOBS // 5 if name == "locked" else JOBS
                await deferring.tasks[name].batch_defer_async(*({"number": one} for one in range(number)))
        with workers(database_url, 3) as running:
            await run_to_the_end(queue, running, kills=kills)
        assert {(one.held, one.in_line) for one in await opened.limits.list_async()} == {(0, 0)}
    ended = queue.sql("SELECT count(*) FROM procrastinate_jobs WHERE status = 'succeeded'")
    assert ended == 2 * JOBS + JOBS // 5


@pytest.fixture
def limited_app(database_url: str) -> App:
    return App(connector=database_url)


async def test_limits_whose_rows_are_gone_are_stored_again(
    limited_app: App, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limit_definer, "_PAUSE", 0.05)
    task = limited_app.task(name="task", limit=Limit("l", concurrency=1))(lambda: None)
    async with limited_app.open_async():
        worker = limited_app.make_worker(update_heartbeat_interval=0.1, install_signal_handlers=False)
        running = asyncio.create_task(worker.run())
        await until(lambda: queue.sql("SELECT count(*) FROM procrastinate_limits"))
        await queue.ddl("TRUNCATE procrastinate_limits")
        await queue.succeeded(await task.defer_async())
        worker.stop()
        await running


async def test_a_worker_names_the_limits_that_another_program_had_stored_with_other_numbers(
    limited_app: App, queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    for limit in (Limit("shared", concurrency=2), Limit("same", total=1), Limit("new", total=1)):
        limited_app.task(name=limit.name, limit=limit)(lambda: None)
    plain = limited_app.task(name="plain")(lambda: None)
    of_others = [LimitDefinition(name="shared", concurrency=3), LimitDefinition(name="same", total=1)]
    async with limited_app.open_async():
        await limited_app.connector.run_async(define_limits, of_others)
        for _ in range(2):
            await plain.defer_async()  # a worker without jobs would not start
            await limited_app.run_worker_async(wait=False, install_signal_handlers=False)
    assert queue.sql("SELECT concurrency FROM procrastinate_limits WHERE name = 'shared'") == 2
    reports = [record for record in caplog.records if getattr(record, "action", "") == "limits_differ"]
    assert [vars(record)["limit_name"] for record in reports] == ["shared"]


OF_BIG, CUSTOMERS = (100_000, 50) if LONG else (1500, 4)
"""How many jobs a big customer has, and how many small customers there are."""
STARTS = "SELECT array_agg(job_id ORDER BY at, id) FROM procrastinate_events WHERE type = 'started'"

LEFT_OF_SMALL = f"{LEFT} AND limit_key <> 'big'"


@pytest.mark.timeout(300 if LONG else 60)
async def test_jobs_of_late_customers_pass_those_of_a_big_one(limited_app: App, queue: Queue) -> None:
    """Twenty jobs of each new customer start within 1.1 times the starts that they share with the big one."""
    by_tenant = Limit("fair", by=lambda kwargs: kwargs["tenant"], fair=True)
    late: list[int] = []
    ran = 0

    @limited_app.task(limit=by_tenant)
    async def work(tenant: str) -> None:
        nonlocal ran
        ran += 1
        if ran == 100:
            customers = [f"small-{one % CUSTOMERS}" for one in range(20 * CUSTOMERS)]
            late.extend(await work.batch_defer_async(*({"tenant": one} for one in customers)))

    async with limited_app.open_async():
        for _ in range(0, OF_BIG, 500):
            await work.batch_defer_async(*[{"tenant": "big"}] * 500)
        worker = asyncio.create_task(limited_app.run_worker_async(concurrency=10))
        await until(lambda: late)
        while left := queue.sql(LEFT_OF_SMALL):
            await until(lambda left=left: queue.sql(LEFT_OF_SMALL) < left)  # type: ignore[misc]
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)
    started = queue.sql(STARTS)
    place = started.index(max(late, key=started.index))
    print(f"the last of {len(late)} jobs started after {place} others")
    assert place <= 100 + 1.1 * (CUSTOMERS + 1) * 20 + 10


async def test_a_job_holds_off_the_next_job_of_its_key(limited_app: App, queue: Queue) -> None:
    """The polling interval is longer than the test, and both jobs are ready when the first one holds off."""

    @limited_app.task(limit=Limit("api", by="k", concurrency=1), pass_context=True)
    async def call(context: JobContext) -> None:
        if context.job.id == min(ids):
            await context.hold_off_async({"milliseconds": 500})

    async with limited_app.open_async():
        ids = await call.batch_defer_async(*[{}] * 2)
        worker = asyncio.create_task(limited_app.run_worker_async(fetch_job_polling_interval=600))
        await until(lambda: not queue.sql(LEFT))
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)
    lasted = "SELECT extract(epoch FROM max(at) - min(at))::float FROM procrastinate_events WHERE type = 'started'"
    assert queue.sql(lasted) >= 0.5


async def test_a_sync_task_without_a_limit_is_told_what_a_hold_off_needs(limited_app: App, queue: Queue) -> None:
    raised: list[BaseException] = []

    @limited_app.task(pass_context=True)
    def call(context: JobContext) -> None:
        try:
            context.hold_off(1)
        except RuntimeError as error:
            raised.append(error)

    async with limited_app.open_async():
        await call.defer_async()
        await limited_app.run_worker_async(wait=False)
    assert "has no limit that could be held off: declare the task with limit=Limit(...)" in str(raised[0])


async def test_tasks_that_share_a_limit_do_not_run_at_the_same_time(limited_app: App, queue: Queue) -> None:
    one = Limit("one", concurrency=1)
    running: list[str] = []

    async def work(name: str) -> None:
        running.append(name)
        assert len(running) == 1
        await asyncio.sleep(0.02)
        running.remove(name)

    for name in ("first", "second"):
        limited_app.task(name=name, limit=one)(work)
    async with limited_app.open_async():
        for name in ("first", "second") * 3:
            await limited_app.tasks[name].defer_async(name=name)
        await limited_app.run_worker_async(wait=False, concurrency=5)
    assert queue.sql("SELECT count(*) FROM procrastinate_jobs WHERE status = 'succeeded'") == 6


async def test_a_worker_starts_while_an_operator_changes_a_limit_in_an_open_transaction(
    limited_app: App, queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    @limited_app.task(limit=Limit("one", concurrency=1))
    async def work() -> None: ...

    @limited_app.task
    async def other() -> None: ...

    async with limited_app.open_async():
        limited, free = await work.defer_async(), await other.defer_async()
        with queue.connection.engine.connect() as operator:
            limited_app.limits.set("one", concurrency=2, allow_undefined=True, connection=operator)
            worker = asyncio.create_task(limited_app.run_worker_async(fetch_job_polling_interval=0.1))
            await until(lambda: queue.status(free) is Status.SUCCEEDED)
            assert "An open transaction changes a limit" in caplog.text
            operator.commit()
        await until(lambda: queue.status(limited) is Status.SUCCEEDED)
        await until(lambda: queue.sql("SELECT concurrency FROM procrastinate_limits") == 1)
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)


async def test_a_limit_that_is_declared_while_a_worker_runs_holds_on_it(limited_app: App, queue: Queue) -> None:
    async with limited_app.open_async():
        worker = asyncio.create_task(limited_app.run_worker_async(fetch_job_polling_interval=0.1))
        await until(lambda: queue.sql("SELECT count(*) FROM procrastinate_workers"))

        @limited_app.task(limit=Limit("late", concurrency=1))
        async def work() -> None: ...

        job_id = await work.defer_async()
        await until(lambda: queue.status(job_id) is Status.SUCCEEDED)
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)


async def test_a_worker_reports_a_limit_that_no_worker_has_defined_once(
    limited_app: App, queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    elsewhere = App(connector=limited_app.connector)

    @elsewhere.task(limit=Limit("of another program", by=lambda kwargs: kwargs["key"], concurrency=1))
    async def work(key: str) -> None: ...

    async with limited_app.open_async():
        await work.batch_defer_async({"key": "a"}, {"key": "b"})
        worker = asyncio.create_task(limited_app.run_worker_async(update_heartbeat_interval=0.05))
        await until(lambda: "'of another program'" in caplog.text)
        beat = queue.sql("SELECT last_heartbeat FROM procrastinate_workers")
        await until(lambda: queue.sql("SELECT last_heartbeat FROM procrastinate_workers") > beat)
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)
    assert caplog.text.count("No worker has defined the limit") == 1
    assert queue.sql(LEFT) == 2


async def test_a_waiting_worker_starts_the_next_job_at_once(limited_app: App, queue: Queue) -> None:
    """The polling interval is longer than the test."""

    @limited_app.task(limit=Limit("one", concurrency=1))
    async def work() -> None: ...

    async with limited_app.open_async():
        worker = asyncio.create_task(limited_app.run_worker_async(fetch_job_polling_interval=600))
        await until(lambda: queue.sql("SELECT count(*) FROM procrastinate_limits"))
        await work.batch_defer_async(*[{}] * 10)
        await until(lambda: not queue.sql(LEFT))
        job_id = await work.defer_async()
        await until(lambda: queue.status(job_id) is Status.SUCCEEDED)
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)


async def test_a_raised_limit_reaches_a_waiting_worker(limited_app: App, queue: Queue) -> None:
    release = asyncio.Event()

    @limited_app.task(limit=Limit("one", concurrency=1))
    async def work() -> None:
        await release.wait()

    async with limited_app.open_async():
        worker = asyncio.create_task(limited_app.run_worker_async(fetch_job_polling_interval=600, concurrency=5))
        await work.batch_defer_async(*[{}] * 3)
        running = "SELECT count(*) FROM procrastinate_jobs WHERE status = 'doing'"
        await until(lambda: queue.sql(running) == 1)
        await limited_app.limits.set_async("one", concurrency=2)
        await until(lambda: queue.sql(running) == 2)
        release.set()
        await until(lambda: not queue.sql(LEFT))
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)


NOTE_STARTS = """
CREATE TABLE noted (at timestamptz NOT NULL DEFAULT clock_timestamp(), weight integer NOT NULL);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO noted (weight) VALUES (coalesce(NEW.limit_weight, 1));
    RETURN NULL;
END $$;
CREATE TRIGGER note AFTER UPDATE ON procrastinate_jobs
    FOR EACH ROW WHEN (OLD.status = 'todo' AND NEW.status = 'doing') EXECUTE FUNCTION note();
"""
MOST_IN_A_WINDOW = """
SELECT max(number) FROM (
    SELECT sum(weight) OVER (ORDER BY at RANGE BETWEEN CURRENT ROW AND CAST(:window AS interval) FOLLOWING) AS number
    FROM noted
) AS counted
"""


@pytest.mark.timeout(1200 if LONG else 120)
@pytest.mark.parametrize(("weights", "number"), [((1,), 60), (range(1, 8), 14)], ids=["light jobs", "heavy jobs"])
async def test_all_rates_hold_in_every_window_though_workers_are_killed(
    queue: Queue, database_url: str, weights: Sequence[int], number: int
) -> None:
    number *= 20 if LONG else 1
    queue.sql(NOTE_STARTS)
    async with App(connector=database_url).open_async() as opened:
        with program.replace_connector(opened.connector) as deferring:
            for weight in weights:
                calls = [{"number": one} for one in range(number // len(weights))]
                await deferring.tasks["rated"].configure(weight=weight).batch_defer_async(*calls)
        with workers(database_url, 2) as running:
            await run_to_the_end(queue, running, kills=2, within=1000 if LONG else 100)
    assert queue.sql("SELECT count(*) FROM noted") >= number
    assert queue.sql(MOST_IN_A_WINDOW, window="0.4999 s") in (7, 8)
    assert 20 < queue.sql(MOST_IN_A_WINDOW, window="3.9999 s") <= 40


async def test_a_waiting_worker_starts_the_next_job_when_the_window_opens(limited_app: App, queue: Queue) -> None:
    """The polling interval is longer than the test."""

    @limited_app.task(limit=Limit("one", rate=Rate(1, per=0.3)))
    async def work() -> None: ...

    async with limited_app.open_async():
        worker = asyncio.create_task(limited_app.run_worker_async(fetch_job_polling_interval=600))
        await work.batch_defer_async(*[{}] * 4)
        await until(lambda: not queue.sql(LEFT))
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)
    lasted = "SELECT extract(epoch FROM max(at) - min(at))::float FROM procrastinate_events WHERE type = 'started'"
    assert queue.sql(lasted) >= 0.9
