"""Jobs in two-phase transactions. PostgreSQL refuses to prepare a transaction that has notified."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

import procrastinate
from procrastinate import core
from procrastinate.core import FinishedJob, Status
from tests.conformance.runs import SyncRun
from tests.conformance.steps import defer, fetch_one, query, worker
from tests.database import libpq_url
from tests.missing import missing


@pytest.fixture
def app(engine: sa.Engine, database_url: str) -> procrastinate.App:
    """Return an app with a worker that requests notifications."""
    run = SyncRun(engine)
    if run(query, "SHOW max_prepared_transactions") == [("0",)]:
        missing("max_prepared_transactions is 0", "PROCRASTINATE_REQUIRE_TWO_PHASES")
    worker(run)
    return procrastinate.App(connector=database_url)


@pytest.fixture
def heard(engine: sa.Engine, database_url: str) -> Iterator[Any]:
    """Yield a function that returns the notifications since its last call."""
    with psycopg.connect(libpq_url(database_url), autocommit=True) as listener:
        listener.execute("LISTEN procrastinate_any_queue_v1")
        listener.execute("LISTEN procrastinate_job_finished_v1")
        yield lambda: [note.payload for note in listener.notifies(timeout=0.2)]


def statuses(engine: sa.Engine) -> list[str]:
    """Return the statuses of all committed jobs."""
    return [status for (status,) in SyncRun(engine)(query, "SELECT status::text FROM procrastinate_jobs ORDER BY id")]


def test_a_session_in_two_phases_defers_cancels_and_aborts(
    app: procrastinate.App, engine: sa.Engine, heard: Any
) -> None:
    run = SyncRun(engine)
    running = defer(run)
    fetch_one(run, worker(run))
    waiting = defer(run)
    heard()
    with Session(engine, twophase=True) as session:
        app.configure_task("task", connection=session).defer()
        app.configure_task("task", connection=session).batch_defer({"n": 1}, {"n": 2})
        assert app.job_manager.cancel_job_by_id(waiting, connection=session)
        assert app.job_manager.cancel_job_by_id(running, abort=True, connection=session)
        assert statuses(engine) == ["doing", "todo"]
        session.commit()
    assert statuses(engine) == ["doing", "cancelled", "todo", "todo", "todo"]
    assert heard() == []


async def test_an_asynchronous_session_in_two_phases_defers(
    app: procrastinate.App, engine: sa.Engine, database_url: str
) -> None:
    async_engine = create_async_engine(database_url)
    async with AsyncSession(async_engine, twophase=True) as session:
        await app.configure_task("task", connection=session).defer_async()
        await session.commit()
    await async_engine.dispose()
    assert statuses(engine) == ["todo"]


def test_a_savepoint_of_a_transaction_in_two_phases_defers(app: procrastinate.App, engine: sa.Engine) -> None:
    with engine.connect() as connection:
        transaction = connection.begin_twophase()
        with connection.begin_nested():
            app.configure_task("task", connection=connection).defer()
        transaction.prepare()
        assert statuses(engine) == []
        transaction.commit()
    assert statuses(engine) == ["todo"]


def test_a_connection_of_psycopg_in_two_phases_defers(
    app: procrastinate.App, engine: sa.Engine, database_url: str
) -> None:
    with psycopg.connect(libpq_url(database_url)) as connection:
        connection.tpc_begin(connection.xid(1, f"two_{engine.url.database}", "b"))
        app.configure_task("task", connection=connection).defer()
        connection.tpc_prepare()
        connection.tpc_commit()
    assert statuses(engine) == ["todo"]


def test_a_transaction_that_another_program_prepares_has_a_setting(
    app: procrastinate.App, engine: sa.Engine, heard: Any
) -> None:
    """The setting ends with the transaction."""
    name = f"by_hand_{engine.url.database}"
    with engine.connect() as connection:
        connection.exec_driver_sql("SET LOCAL procrastinate.notify = off")
        app.configure_task("task", connection=connection).defer()
        connection.exec_driver_sql(f"PREPARE TRANSACTION '{name}'")
        connection.rollback()
        connection.execution_options(isolation_level="AUTOCOMMIT").exec_driver_sql(f"COMMIT PREPARED '{name}'")
        assert heard() == []
        app.configure_task("task", connection=connection).defer()
    assert len(heard()) == 1
    assert statuses(engine) == ["todo", "todo"]


def test_the_success_of_a_job_is_recorded_in_two_phases(app: procrastinate.App, engine: sa.Engine, heard: Any) -> None:
    """Also with `announce=True`: a two-phase transaction cannot notify, so a waiting call polls."""
    run = SyncRun(engine)
    defer(run)
    job = fetch_one(run, worker(run))
    heard()
    with Session(engine, twophase=True) as session:
        assert job.worker_id is not None
        outcome = FinishedJob(id=job.id, attempts=job.attempts, status=Status.SUCCEEDED, result="1", announce=True)
        app.connector.run_on(session, core.complete_job, outcome, worker_id=job.worker_id)
        session.commit()
    assert statuses(engine) == ["succeeded"]
    assert heard() == []


async def test_a_worker_that_sleeps_finds_a_job_of_which_nothing_was_notified(
    app: procrastinate.App, engine: sa.Engine
) -> None:
    """The worker finds it by polling."""
    ran: asyncio.Queue[str] = asyncio.Queue()

    @app.task(name="task")
    async def task(name: str) -> None:
        await ran.put(name)

    async with app.open_async():
        running = asyncio.create_task(
            app.run_worker_async(fetch_job_polling_interval=1.0, install_signal_handlers=False)
        )
        await task.defer_async(name="first")
        assert await asyncio.wait_for(ran.get(), 30) == "first"
        with Session(engine, twophase=True) as session:
            task.configure(connection=session).defer(name="second")
            session.commit()
        assert await asyncio.wait_for(ran.get(), 30) == "second"
        running.cancel()
        await asyncio.wait({running})
