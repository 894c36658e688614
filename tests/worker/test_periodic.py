"""Periodic tasks are deferred on time and once, whatever the number of workers."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
import sqlalchemy as sa

from procrastinate import core
from procrastinate.app import App
from procrastinate.core import Status
from procrastinate.defer_hooks import Defer
from procrastinate.periodic import PeriodicDeferrer
from procrastinate.unique import Unique
from tests.database import new_job
from tests.worker.running import Queue, Workers, connector_for, until
from tests.worker.test_refused_rows import refuse

EVERY_SECOND = "* * * * * *"


def ticks(queue: Queue) -> int:
    return int(queue.sql("SELECT count(*) FROM procrastinate_periodic_defers"))


def add_tick(app: App, cron: str, queue: str = "default") -> None:
    """Add a periodic task that does nothing."""
    task: Any = app.task(name="tick", queue=queue)(lambda timestamp: None)
    app.periodic(cron=cron)(task)


async def test_each_tick_is_deferred_once_whatever_the_number_of_workers(
    app: App, workers: Workers, queue: Queue
) -> None:
    ran: list[tuple[int, str]] = []

    async def tick(timestamp: int, schedule: str) -> None:
        ran.append((timestamp, schedule))

    task: Any = app.task(name="tick", queue="ticks")(tick)
    for schedule in ("a", "b"):
        app.periodic(cron=EVERY_SECOND, periodic_id=schedule, task_kwargs={"schedule": schedule})(task)

    running = [workers.start(await workers.another_app(), queues=["ticks"]) for _ in range(3)]
    await until(lambda: ticks(queue) >= 6)
    last = queue.sql("SELECT max(defer_timestamp) FROM procrastinate_periodic_defers")
    for one in running:
        await one.stopped()
    await workers.run(queues=["ticks"])
    assert len(ran) == len(set(ran))
    stored = queue.sql(
        "SELECT json_agg(json_build_array(defer_timestamp, periodic_id)) FROM procrastinate_periodic_defers"
    )
    assert sorted(ran) == sorted((timestamp, schedule) for timestamp, schedule in stored)
    for schedule in ("a", "b"):
        # Of the ticks without a running worker, only the last is deferred.
        of_schedule = sorted(timestamp for timestamp, name in ran if name == schedule and timestamp < last)
        assert of_schedule == list(range(of_schedule[0], of_schedule[-1] + 1))


async def test_a_periodic_task_is_deferred_even_by_a_worker_of_other_queues(
    app: App, workers: Workers, queue: Queue
) -> None:
    add_tick(app, "* * * * *", queue="ticks")
    workers.start(queues=["others"])
    await until(lambda: queue.statuses() == {"todo": 1})


async def test_a_tick_that_is_too_old_is_not_deferred(app: App, workers: Workers, queue: Queue) -> None:
    app.periodic_defaults = {"max_delay": 0.001}
    add_tick(app, "0 0 29 2 *")
    await workers.run()
    assert queue.statuses() == {}


async def test_a_tick_is_not_deferred_again_after_a_restart_even_when_its_job_is_gone(
    app: App, workers: Workers, queue: Queue
) -> None:
    add_tick(app, "0 * * * *")
    app.periodic_defaults = {"max_delay": 7200}
    for _ in range(3):
        running = workers.start(delete_jobs="always")
        await until(lambda: ticks(queue) >= 1 and queue.statuses() == {})
        await running.stopped()
    hours = queue.sql("SELECT count(DISTINCT defer_timestamp) FROM procrastinate_periodic_defers")
    assert ticks(queue) == hours


@pytest.mark.parametrize("key", [None, Unique()], ids=["plain", "unique"])
async def test_a_renamed_task_does_not_run_its_last_tick_again(
    app: App, workers: Workers, queue: Queue, database_url: str, key: Unique | None
) -> None:
    ran: list[str] = []
    renamed = App(connector=connector_for(database_url))
    for one, name, aliases in ((app, "old", []), (renamed, "new", ["old"])):
        task: Any = one.task(name=name, aliases=aliases, unique=key)(lambda timestamp, name=name: ran.append(name))
        one.periodic(cron="0 0 1 * *")(task)
        one.periodic_defaults = {"max_delay": 10**9}
    workers.start(app)
    await until(lambda: queue.statuses() == {"succeeded": 1})
    async with renamed.open_async():
        deferrer = PeriodicDeferrer(renamed.periodic_registry, max_delay=10**9)
        await deferrer.defer_jobs(deferrer.get_previous_tasks(time.time()))
    assert queue.statuses() == {"succeeded": 1}
    assert ran == ["old"]


async def test_a_tick_whose_queueing_lock_is_taken_is_left_out(app: App, workers: Workers, queue: Queue) -> None:
    task: Any = app.task(name="tick", queueing_lock="one", queue="ticks")(lambda timestamp: None)
    app.periodic(cron="0 0 1 * *")(task)
    app.periodic_defaults = {"max_delay": 10**9}
    waiting = await task.defer_async(timestamp=0)
    workers.start(queues=["others"])
    await until(lambda: ticks(queue) == 1)
    assert queue.statuses() == {"todo": 1}
    assert queue.status(waiting) is Status.TODO


async def test_a_tick_whose_queueing_lock_an_open_transaction_holds_does_not_delay_the_others(
    app: App, workers: Workers, queue: Queue, engine: sa.Engine
) -> None:
    """The tick is deferred when that transaction has ended."""
    for name in ("first", "second"):
        task: Any = app.task(name=name, queueing_lock=name, queue="ticks")(lambda timestamp: None)
        app.periodic(cron="0 0 1 * *")(task)
    app.periodic_defaults = {"max_delay": 10**9}
    with engine.connect() as user:
        core.defer_job(user, new_job(queueing_lock="first"))
        workers.start(queues=["others"])
        await until(lambda: ticks(queue) == 1)
        user.rollback()
    await until(lambda: ticks(queue) == 2)


async def test_a_schedule_whose_tick_the_database_refuses_does_not_hold_up_the_others(
    app: App, workers: Workers, queue: Queue
) -> None:
    """The tick is retried until the database accepts it."""
    refuse = """
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not this one'; END $$;
        CREATE TRIGGER refuse BEFORE INSERT ON procrastinate_jobs FOR EACH ROW
        WHEN (NEW.task_name = 'first') EXECUTE FUNCTION refuse()
    """
    queue.sql(refuse)
    for name in ("first", "second"):
        task: Any = app.task(name=name, queue="ticks")(lambda timestamp: None)
        app.periodic(cron="0 0 1 * *")(task)
    app.periodic_defaults = {"max_delay": 10**9}
    workers.start(queues=["others"])
    await until(lambda: ticks(queue) == 1)
    await queue.ddl("DROP TRIGGER refuse ON procrastinate_jobs")
    await until(lambda: ticks(queue) == 2)


async def test_a_tick_that_is_refused_again_and_again_makes_no_other_schedule_late(
    app: App, queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    """A service that fails starts again after growing pauses, so the deferrer does not fail."""
    refuse(queue, event="INSERT", condition="NEW.task_name = 'first'")
    for name in ("first", "second"):
        task: Any = app.task(name=name, queue="ticks")(lambda timestamp: None)
        app.periodic(cron="* * * * * *")(task)
    deferring = asyncio.create_task(PeriodicDeferrer(app.periodic_registry, job_manager=app.job_manager).worker())
    await until(lambda: ticks(queue) >= 3 or deferring.done())
    assert not deferring.done()
    deferring.cancel()
    await asyncio.wait({deferring})
    (record,) = (record for record in caplog.records if vars(record)["action"] == "periodic_task_refused")
    assert "this row is under audit" in record.getMessage()


async def test_a_schedule_of_a_job_that_cannot_be_stored_does_not_hold_up_the_others(
    app: App, workers: Workers, queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    for name, kwargs in (("first", {}), ("wrong", {"thing": object()}), ("last", {})):
        task: Any = app.task(name=name)(lambda timestamp, thing=None: None)
        app.periodic(cron="0 0 1 * *", task_kwargs=kwargs)(task)
    app.periodic_defaults = {"max_delay": 10**9}
    workers.start()
    await until(lambda: queue.statuses() == {"succeeded": 2})
    (record,) = (record for record in caplog.records if vars(record)["action"] == "periodic_task_error")
    assert "Argument 'thing' of task wrong" in record.getMessage()


@pytest.mark.parametrize("exit_type", [SystemExit, GeneratorExit])
async def test_a_key_function_that_exits_does_not_hold_up_the_others(
    app: App, queue: Queue, exit_type: type[BaseException]
) -> None:
    def leave(arguments: object) -> str:
        raise exit_type

    bad: Any = app.task(name="bad", unique=Unique(by=leave))(lambda timestamp: None)
    app.periodic(cron="* * * * *")(bad)
    add_tick(app, "* * * * *")
    schedules = app.periodic_registry.periodic_tasks.values()
    await PeriodicDeferrer(app.periodic_registry).defer_jobs([(schedule, 1_700_000_000) for schedule in schedules])
    assert queue.sql("SELECT string_agg(task_name, ',') FROM procrastinate_jobs") == "tick"


async def test_a_one_shot_worker_runs_the_job_of_a_tick_that_is_slow_to_defer(
    app: App, workers: Workers, queue: Queue
) -> None:
    """If cron starts the workers, no other worker may defer the tick."""
    await queue.ddl(
        """
        CREATE FUNCTION wait_a_little() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN PERFORM pg_sleep(0.5); RETURN NEW; END $$;
        CREATE TRIGGER slow BEFORE INSERT ON procrastinate_periodic_defers
            FOR EACH ROW EXECUTE FUNCTION wait_a_little();
        """
    )
    add_tick(app, "0 0 1 * *")
    app.periodic_defaults = {"max_delay": 10**9}
    await workers.run()
    assert queue.statuses() == {"succeeded": 1}


async def test_a_deferrer_stands_alone(app: App, queue: Queue) -> None:
    add_tick(app, "* * * * *")
    deferrer = PeriodicDeferrer(app.periodic_registry)
    running = asyncio.create_task(deferrer.worker())
    await until(lambda: queue.statuses() == {"todo": 1})
    running.cancel()
    await asyncio.wait([running])


async def test_a_periodic_task_that_a_job_declares_is_deferred(app: App, workers: Workers, queue: Queue) -> None:
    """A job may import the module of the first periodic task while the worker runs."""

    async def load() -> None:
        add_tick(app, EVERY_SECOND, queue="ticks")

    await app.task(name="load")(load).defer_async()
    workers.start(queues=["default"])
    await until(lambda: ticks(queue) >= 1)
    assert app.periodic_registry.periodic_tasks


async def test_a_schedule_that_is_declared_while_ticks_are_deferred_leaves_them_alone(
    app: App, workers: Workers, queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    """A hook declares it, between two ticks of one look."""
    for name in ("first", "second"):
        task: Any = app.task(name=name, queue="ticks")(lambda timestamp: None)
        app.periodic(cron="0 0 1 * *")(task)
    app.periodic_defaults = {"max_delay": 10**9}

    @app.on_defer
    def declare(defer: Defer) -> None:
        if "tick" not in app.tasks:
            add_tick(app, "0 0 2 * *", queue="ticks")

    workers.start(queues=["others"])
    await until(lambda: ticks(queue) == 2)
    assert not [record for record in caplog.records if vars(record).get("side_task") == "deferrer"]
