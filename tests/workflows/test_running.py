"""Workers run the steps of workflows in their order, and each once."""

from __future__ import annotations

import asyncio
import datetime

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from procrastinate import JobContext
from procrastinate.app import App
from tests.database import libpq_url
from tests.worker.running import Queue, Workers
from tests.workflows.tasks import Notes


def finished(queue: Queue, workflow_id: int) -> tuple[bool, int, int, int]:
    """Return whether a workflow has finished, and how many steps succeeded, failed and were cancelled."""
    row = queue.connection.execute(
        sa.text("SELECT finished_at, succeeded, failed, cancelled FROM procrastinate_workflows WHERE id = :id"),
        {"id": workflow_id},
    ).one()
    return row.finished_at is not None, row.succeeded, row.failed, row.cancelled


async def test_a_step_runs_after_the_steps_that_it_names(
    app: App, workers: Workers, queue: Queue, tasks: Notes
) -> None:
    wf = app.workflow("import")
    first = wf.add(tasks.note, name="first")
    second = wf.add(tasks.note, name="second", after=[first])
    wf.add(tasks.note, name="third", after=[first, second])
    workflow_id = await wf.defer_async()
    await workers.run()
    assert tasks.ran == ["first", "second", "third"]
    assert finished(queue, workflow_id) == (True, 3, 0, 0)


async def test_the_last_step_runs_once_after_a_whole_group(
    app: App, workers: Workers, queue: Queue, tasks: Notes
) -> None:
    wf = app.workflow("import")
    pages = wf.group("pages")
    pages.add_many(tasks.double, [{"number": number} for number in range(50)])
    wf.add(tasks.total, numbers=pages.values)
    workflow_id = await wf.defer_async()
    await workers.run(concurrency=10)
    assert sorted(tasks.ran[:50]) == list(range(50))
    assert tasks.ran[50:] == [[2 * number for number in range(50)]]
    assert finished(queue, workflow_id) == (True, 51, 0, 0)


async def test_a_result_takes_its_place_anywhere_in_the_arguments(app: App, workers: Workers, tasks: Notes) -> None:
    wf = app.workflow("sum")
    one, two = wf.add(tasks.double, number=1), wf.add(tasks.double, number=2)
    wf.add(tasks.note, name={"list": [one.value, None, (two.value,)], "deep": {"value": one.value}})
    await wf.defer_async()
    await workers.run()
    assert tasks.ran[2:] == [{"list": [2, None, [4]], "deep": {"value": 2}}]


async def test_a_result_takes_its_place_under_a_key_that_json_makes_text_of(
    app: App, workers: Workers, tasks: Notes
) -> None:
    wf = app.workflow("sum")
    value = wf.add(tasks.double, number=1).value
    wf.add(tasks.note, name={1: value, False: {None: [value]}, 2.5: {3: {"deep": value}}})
    await wf.defer_async()
    await workers.run()
    assert tasks.ran[1:] == [{"1": 2, "false": {"null": [2]}, "2.5": {"3": {"deep": 2}}}]


async def test_an_empty_group_has_ended(app: App, workers: Workers, tasks: Notes) -> None:
    wf = app.workflow("import")
    pages = wf.group("pages")
    pages.add_many(tasks.double, [])
    wf.add(tasks.total, numbers=pages.values)
    await wf.defer_async()
    await workers.run()
    assert tasks.ran == [[]]


async def test_what_needs_a_failed_step_is_cancelled_with_an_error_that_names_it(
    app: App, workers: Workers, queue: Queue, tasks: Notes
) -> None:
    wf = app.workflow("import")
    fetch = wf.add(tasks.fail, step="fetch")
    parse = wf.add(tasks.note, name="parse", after=[fetch], step="parse")
    save = wf.add(tasks.note, name="save", after=[parse])
    tidy = wf.add(tasks.note, name="tidy", after=[fetch], needs="end")
    workflow_id = await wf.defer_async()
    await workers.run()
    assert tasks.ran == ["failed", "tidy"]
    assert finished(queue, workflow_id) == (True, 1, 1, 2)
    assert tidy.job_id is not None
    for step, named in ((parse, "fetch"), (save, "parse")):
        assert step.job_id is not None
        result = await app.job_manager.get_result_async(step.job_id)
        assert result.job.status == "cancelled"
        assert result.errors[-1].exception_class == "procrastinate.exceptions.StepNotReached"
        assert f"needs the success of {named}," in result.errors[-1].message


async def test_a_held_step_goes_on_after_a_retry_by_hand(
    app: App, workers: Workers, queue: Queue, tasks: Notes
) -> None:
    broken = [True]

    @app.task
    async def pay() -> None:
        if broken[0]:
            raise ValueError("no money")

    wf = app.workflow("order", if_failed="hold")
    paying = wf.add(pay)
    wf.add(tasks.note, name="send", after=[paying])
    workflow_id = await wf.defer_async()
    await workers.run()
    assert tasks.ran == []
    assert finished(queue, workflow_id)[0] is False
    broken.clear()
    broken.append(False)
    assert paying.job_id is not None
    await app.job_manager.retry_job_by_id_async(paying.job_id)
    await workers.run()
    assert tasks.ran == ["send"]
    assert finished(queue, workflow_id) == (True, 2, 0, 0)


async def test_a_retry_is_no_end(app: App, workers: Workers, tasks: Notes) -> None:
    wf = app.workflow("import")
    wf.add(tasks.note, name="last", after=[wf.add(tasks.flaky, name="flaky")])
    await wf.defer_async()
    await workers.run()
    assert tasks.ran == ["flaky", "flaky", "flaky", "last"]


@pytest.mark.parametrize(
    ("fails", "expected"), [(False, {"success", "end"}), (True, {"failure", "end"})], ids=["success", "failure"]
)
async def test_callbacks_run_once_all_steps_have_ended(
    app: App, workers: Workers, queue: Queue, tasks: Notes, fails: bool, expected: set[str]
) -> None:
    wf = app.workflow("import")
    first = wf.add(tasks.fail if fails else tasks.note, name="first")
    pages = wf.group("pages", after=[first])
    pages.add_many(tasks.note, [{"name": "page"}])
    wf.on_success(tasks.note, name="success")
    wf.on_failure(tasks.note, name="failure")
    wf.on_end(tasks.note, name="end")
    await wf.defer_async()
    await workers.run()
    steps = ["first"] if fails else ["first", "page"]
    assert tasks.ran[: len(steps)] == steps
    assert set(tasks.ran[len(steps) :]) == expected
    assert len(tasks.ran) == len(steps) + 2
    assert queue.sql("SELECT count(*) FROM procrastinate_workflows WHERE finished_at IS NULL") == 0
    errors = queue.sql("SELECT count(*) FROM procrastinate_errors WHERE exception_class LIKE '%StepNotReached'")
    assert errors == (1 if fails else 0)


async def test_a_delay_begins_at_the_end_of_the_step_before(
    app: App, workers: Workers, queue: Queue, tasks: Notes
) -> None:
    wf = app.workflow("import")
    first = wf.add(tasks.note, name="first")
    second = wf.add(tasks.note, name="second", after=[first], delay=datetime.timedelta(hours=1))
    await wf.defer_async()
    await workers.run()
    assert tasks.ran == ["first"]
    assert first.job_id is not None
    assert second.job_id is not None
    waits = queue.row(second.job_id)["scheduled_at"] - queue.row(first.job_id)["finished_at"]
    assert datetime.timedelta(minutes=59) < waits < datetime.timedelta(minutes=61)


async def test_a_step_with_a_lock_takes_its_turn_behind_other_jobs(app: App, workers: Workers, tasks: Notes) -> None:
    wf = app.workflow("import")
    first = wf.add(tasks.note.configure(lock="shop"), name="first")
    wf.add(tasks.note.configure(lock="shop"), name="second", after=[first])
    await wf.defer_async()
    await tasks.note.configure(lock="shop").defer_async(name="another")
    await workers.run()
    assert sorted(tasks.ran) == ["another", "first", "second"]
    assert tasks.ran.index("first") < tasks.ran.index("second")


async def test_an_idle_worker_starts_the_next_step_without_polling(
    app: App, workers: Workers, queue: Queue, tasks: Notes
) -> None:
    await workers.listening(queue)
    wf = app.workflow("import")
    step = wf.add(tasks.note, name=0)
    for number in range(1, 10):
        step = wf.add(tasks.note, name=number, after=[step])
    await wf.defer_async()
    assert step.job_id is not None
    await queue.succeeded(step.job_id)
    assert tasks.ran == list(range(10))


async def test_members_stay_although_the_worker_deletes_other_jobs(
    app: App, workers: Workers, queue: Queue, tasks: Notes
) -> None:
    wf = app.workflow("import")
    wf.add(tasks.total, numbers=[wf.add(tasks.double, number=4).value])
    workflow_id = await wf.defer_async()
    await tasks.note.defer_async(name="outside")
    await workers.run(delete_jobs="always")
    assert [4] in [tasks.ran[0:1], tasks.ran[1:2]]
    assert queue.statuses() == {"succeeded": 2}
    assert finished(queue, workflow_id) == (True, 2, 0, 0)


async def test_a_step_that_ends_in_its_own_transaction_lets_the_next_go(
    app: App, workers: Workers, queue: Queue, tasks: Notes, database_url: str
) -> None:
    engine = create_async_engine(database_url)

    @app.task(pass_context=True, store_result=True)
    async def write(context: JobContext) -> None:
        async with context.transaction(engine):
            context.set_result(7)

    wf = app.workflow("import")
    wf.add(tasks.note, name=wf.add(write).value)
    await wf.defer_async()
    await workers.run()
    await engine.dispose()
    assert tasks.ran == [7]


async def test_a_deleted_step_counts_as_one_that_did_not_succeed(
    app: App, workers: Workers, queue: Queue, tasks: Notes
) -> None:
    wf = app.workflow("import")
    first = wf.add(tasks.note, name="first")
    wf.add(tasks.note, name="second", after=[first])
    wf.on_failure(tasks.note, name="failure")
    await wf.defer_async()
    queue.sql("DELETE FROM procrastinate_jobs WHERE id = :id", id=first.job_id)
    await workers.run()
    assert tasks.ran == ["failure"]
    assert queue.sql("SELECT count(*) FROM procrastinate_workflows WHERE finished_at IS NULL") == 0


@pytest.mark.parametrize("way", ["session", "connection", "psycopg", "async session"])
async def test_a_rollback_leaves_nothing_of_a_workflow(
    app: App, queue: Queue, tasks: Notes, engine: sa.Engine, database_url: str, way: str
) -> None:
    def build() -> object:
        wf = app.workflow("import")
        pages = wf.group("pages")
        pages.add_many(tasks.double, [{"number": number} for number in range(3)])
        wf.add(tasks.total, numbers=pages.values)
        return wf

    if way == "session":
        with Session(engine) as session:
            build().defer(connection=session)  # type: ignore[attr-defined]
            session.rollback()
    elif way == "connection":
        with engine.connect() as connection:
            build().defer(connection=connection)  # type: ignore[attr-defined]
            connection.rollback()
    elif way == "psycopg":
        with psycopg.connect(libpq_url(database_url)) as driver_connection:
            build().defer(connection=driver_connection)  # type: ignore[attr-defined]
            driver_connection.rollback()
    else:
        async_engine = create_async_engine(database_url)
        async with AsyncSession(async_engine) as async_session:
            await build().defer_async(connection=async_session)  # type: ignore[attr-defined]
            await async_session.rollback()
        await async_engine.dispose()
    for table in ("jobs", "workflows", "dependencies", "arrivals"):
        assert queue.sql(f"SELECT count(*) FROM procrastinate_{table}") == 0  # noqa: S608


async def test_two_workers_run_each_step_once(app: App, workers: Workers, queue: Queue, tasks: Notes) -> None:
    wf = app.workflow("import")
    first = wf.add(tasks.note, name="first")
    pages = wf.group("pages", after=[first])
    pages.add_many(tasks.note, [{"name": number} for number in range(200)])
    wf.add(tasks.note, name="last", after=[pages])
    workflow_id = await wf.defer_async()
    one, two = workers.start(concurrency=5), workers.start(await workers.another_app(), concurrency=5)
    assert wf.steps[-1].handle is not None
    await queue.succeeded(wf.steps[-1].handle.job_id)
    await asyncio.gather(one.stopped(), two.stopped())
    assert tasks.ran[0] == "first"
    assert tasks.ran[-1] == "last"
    assert sorted(tasks.ran[1:-1]) == list(range(200))
    assert finished(queue, workflow_id)[1] in (0, 202)


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
async def test_a_step_ends_in_a_users_transaction_of_any_isolation_level(
    app: App, workers: Workers, tasks: Notes, engine: sa.Engine, level: str
) -> None:
    wf = app.workflow("import")
    first, second = wf.add(tasks.note, name="first"), wf.add(tasks.note, name="second")
    wf.add(tasks.note, name="last", after=[first, second], needs="end")
    await wf.defer_async()
    assert first.job_id is not None
    assert second.job_id is not None
    with engine.connect().execution_options(isolation_level=level) as connection:  # type: ignore[call-overload]
        connection.execute(sa.text("SELECT count(*) FROM procrastinate_jobs"))
        await app.job_manager.cancel_job_by_id_async(second.job_id)
        app.job_manager.cancel_job_by_id(first.job_id, connection=connection)
        connection.commit()
    await workers.run()
    assert tasks.ran == ["last"]


async def test_an_open_transaction_that_ends_a_step_holds_up_no_other_step(
    app: App, workers: Workers, tasks: Notes, engine: sa.Engine
) -> None:
    wf = app.workflow("import")
    held = wf.add(tasks.note, name="held")
    pages = wf.group("pages")
    pages.add_many(tasks.note, [{"name": "page"}] * 3)
    wf.add(tasks.note, name="last", after=[pages])
    await wf.defer_async()
    assert held.job_id is not None
    with engine.connect() as connection:
        app.job_manager.cancel_job_by_id(held.job_id, connection=connection)
        await workers.run()
        assert tasks.ran == ["page", "page", "page", "last"]
        connection.rollback()
    await workers.run()
    assert tasks.ran[4:] == ["held"]
