"""``context.transaction(...)``: the task's writes and the success of its job are one transaction."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from procrastinate import core, exceptions
from procrastinate.app import App
from procrastinate.core import Status
from procrastinate.job_context import AbortReason, JobContext
from procrastinate.jobs import Job
from procrastinate.testing import InMemoryConnector
from tests.worker.binds import ASYNC_BINDS, SYNC_BINDS, BindKind
from tests.worker.running import Queue, Workers, happens, until

WRITE = sa.text("INSERT INTO effects (job_id) VALUES (:job_id)")


@pytest.fixture(autouse=True)
def effects(connection: sa.Connection) -> None:
    """Create a user's table, to which tasks write."""
    connection.execute(sa.text("CREATE TABLE effects (job_id bigint)"))


@pytest.fixture
def engine(database_url: str) -> Iterator[sa.Engine]:
    """Yield the user's engine."""
    engine = sa.create_engine(database_url)
    yield engine
    engine.dispose()


@pytest.fixture
async def async_engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    """Yield the user's asynchronous engine."""
    engine = create_async_engine(database_url)
    yield engine
    await engine.dispose()


def written(queue: Queue) -> list[int]:
    """Return the ids of the jobs that wrote, one entry per write."""
    return list(queue.connection.execute(sa.text("SELECT job_id FROM effects ORDER BY job_id")).scalars())


def actions(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the logged actions."""
    return [vars(record).get("action", "") for record in caplog.records]


@pytest.mark.parametrize("kind", SYNC_BINDS, ids=str)
async def test_writes_follow_ups_and_the_success_of_the_job_are_committed_together(
    app: App, workers: Workers, queue: Queue, database_url: str, kind: BindKind
) -> None:
    with kind.open(database_url) as bind:
        inside: list[tuple[Any, ...]] = []

        @app.task(pass_context=True)
        def task(context: JobContext) -> None:
            with context.transaction(bind) as opened:
                opened.execute(WRITE, {"job_id": context.job.id})
                app.configure_task("follow up", queue="later", connection=opened).defer()
                inside.append((written(queue), queue.status(context.job.id or 0), queue.statuses()))
            inside.append((written(queue), queue.status(context.job.id or 0), queue.statuses()))

        job_id = await task.defer_async()
        await workers.run(queues=["default"])
        assert inside == [
            ([], Status.DOING, {"doing": 1}),
            ([job_id], Status.SUCCEEDED, {"succeeded": 1, "todo": 1}),
        ]
        assert queue.row(job_id)["attempts"] == 1
        assert queue.events(job_id) == ["deferred", "started", "succeeded"]
        if hasattr(bind, "close"):
            bind.close()


@pytest.mark.parametrize("kind", ASYNC_BINDS, ids=str)
async def test_so_are_those_of_async_tasks(
    app: App, workers: Workers, queue: Queue, database_url: str, kind: BindKind
) -> None:
    async with kind.open_async(database_url) as bind:
        inside: list[tuple[Any, ...]] = []

        @app.task(pass_context=True)
        async def task(context: JobContext) -> None:
            async with context.transaction(bind) as opened:
                await opened.execute(WRITE, {"job_id": context.job.id})
                await app.configure_task("follow up", queue="later", connection=opened).defer_async()
                inside.append((written(queue), queue.status(context.job.id or 0), queue.statuses()))
            inside.append((written(queue), queue.status(context.job.id or 0), queue.statuses()))

        job_id = await task.defer_async()
        await workers.run(queues=["default"])
        assert inside == [
            ([], Status.DOING, {"doing": 1}),
            ([job_id], Status.SUCCEEDED, {"succeeded": 1, "todo": 1}),
        ]
        assert queue.events(job_id) == ["deferred", "started", "succeeded"]
        if hasattr(bind, "close"):
            await bind.close()


async def test_objects_of_the_session_are_written_with_it(
    app: App, workers: Workers, queue: Queue, engine: sa.Engine
) -> None:
    """Also unflushed objects."""

    class Base(DeclarativeBase): ...

    class Note(Base):
        __tablename__ = "notes"
        id: Mapped[int] = mapped_column(primary_key=True)

    Base.metadata.create_all(engine)

    @app.task(pass_context=True)
    def task(context: JobContext) -> None:
        with context.transaction(sessionmaker(engine, autoflush=False)) as session:
            session.add(Note())

    job_id = await task.defer_async()
    await workers.run()
    assert queue.status(job_id) is Status.SUCCEEDED
    assert queue.sql("SELECT count(*) FROM notes") == 1


@pytest.mark.parametrize("delete_jobs", ["successful", "always"])
async def test_a_job_is_deleted_in_it_where_the_worker_deletes_jobs(
    app: App, workers: Workers, queue: Queue, engine: sa.Engine, delete_jobs: str
) -> None:
    @app.task(pass_context=True)
    def task(context: JobContext) -> None:
        with context.transaction(engine) as connection:
            connection.execute(WRITE, {"job_id": context.job.id})

    job_id = await task.defer_async()
    await workers.run(delete_jobs=delete_jobs)
    assert queue.status(job_id) is None
    assert written(queue) == [job_id]


async def test_what_a_block_that_raises_has_written_vanishes_and_the_job_is_tried_again(
    app: App, workers: Workers, queue: Queue, engine: sa.Engine
) -> None:
    @app.task(pass_context=True, retry=1)
    def task(context: JobContext) -> None:
        with context.transaction(engine) as connection:
            connection.execute(WRITE, {"job_id": context.job.id})
            if context.job.attempts == 0:
                raise ValueError("on purpose")

    job_id = await task.defer_async()
    await workers.run()
    assert (queue.status(job_id), written(queue)) == (Status.SUCCEEDED, [job_id])
    assert queue.row(job_id)["attempts"] == 2


async def test_what_is_raised_after_the_block_changes_nothing_and_is_logged(
    app: App, workers: Workers, queue: Queue, async_engine: AsyncEngine, caplog: pytest.LogCaptureFixture
) -> None:
    @app.task(pass_context=True, retry=1)
    async def task(context: JobContext) -> None:
        async with context.transaction(async_engine) as connection:
            await connection.execute(WRITE, {"job_id": context.job.id})
        raise ValueError("too late")

    job_id = await task.defer_async()
    await workers.run()
    assert (queue.status(job_id), written(queue)) == (Status.SUCCEEDED, [job_id])
    assert "raised_after_commit" in actions(caplog)
    assert "outcome_refused" not in actions(caplog)


async def test_a_recorded_outcome_is_not_recorded_again(
    app: App, workers: Workers, queue: Queue, engine: sa.Engine, caplog: pytest.LogCaptureFixture
) -> None:
    """No warning is logged."""

    @app.task(pass_context=True)
    def task(context: JobContext) -> None:
        with context.transaction(engine):
            pass

    caplog.set_level("DEBUG", logger="procrastinate")
    await task.defer_async()
    await workers.run()
    assert {"job_success", "finish_task"} <= set(actions(caplog))
    assert max(record.levelno for record in caplog.records) == 20


async def test_a_result_is_kept_in_it(
    app: App, workers: Workers, queue: Queue, engine: sa.Engine, caplog: pytest.LogCaptureFixture
) -> None:
    """A waiting call is notified at the commit and finds the result. A value returned later is not stored, and the
    worker logs that.
    """

    @app.task(pass_context=True, store_result=True)
    def task(context: JobContext, keeps: bool) -> str:
        with context.transaction(engine):
            if keeps:
                context.set_result({"a": [1]})
        return "late"

    kept, lost = await task.defer_async(keeps=True), await task.defer_async(keeps=False)
    waiting = asyncio.create_task(app.job_manager.wait_async(kept, timeout=10))
    await workers.run()
    assert (await waiting).value == {"a": [1]}
    assert not (await app.job_manager.get_result_async(lost)).has_value
    assert actions(caplog).count("returned_after_commit") == 1


async def test_a_result_that_cannot_be_kept_is_refused(
    app: App, workers: Workers, queue: Queue, engine: sa.Engine
) -> None:
    """`set_result()` raises, so the transaction is rolled back."""

    @app.task(name="unkeepable", pass_context=True, store_result=True)
    def unkeepable(context: JobContext) -> None:
        with context.transaction(engine) as connection:
            connection.execute(WRITE, {"job_id": context.job.id})
            context.set_result(object())

    @app.task(name="keeps nothing", pass_context=True)
    def keeps_nothing(context: JobContext) -> None:
        with context.transaction(engine) as connection:
            connection.execute(WRITE, {"job_id": context.job.id})
            context.set_result(1)

    first, second = await unkeepable.defer_async(), await keeps_nothing.defer_async()
    await workers.run()
    errors = [(await app.job_manager.get_result_async(job_id)).errors[0] for job_id in (first, second)]
    assert errors[0].exception_class.endswith("InvalidResult")
    assert "store_result=True" in errors[1].message
    assert written(queue) == []


async def test_a_commit_whose_answer_was_lost_is_not_made_again(
    app: App, workers: Workers, queue: Queue, engine: sa.Engine, caplog: pytest.LogCaptureFixture
) -> None:
    """The run sees an error, but its retry is refused, because the job has succeeded."""

    @app.task(pass_context=True, retry=True)
    def task(context: JobContext) -> None:
        with Session(engine) as session, context.transaction(session):
            session.execute(WRITE, {"job_id": context.job.id})
            sa.event.listen(session, "after_commit", _lose_answer)

    def _lose_answer(_: Session) -> None:
        raise ConnectionError("the answer was lost")

    job_id = await task.defer_async()
    await workers.run()
    assert (queue.status(job_id), written(queue)) == (Status.SUCCEEDED, [job_id])
    assert queue.row(job_id)["attempts"] == 1
    assert "outcome_refused" in actions(caplog)


async def test_a_commit_that_fails_leaves_nothing(app: App, workers: Workers, queue: Queue, engine: sa.Engine) -> None:
    """A deferred constraint fails at the commit, after the outcome was written."""
    queue.sql("ALTER TABLE effects ADD UNIQUE (job_id) DEFERRABLE INITIALLY DEFERRED")

    @app.task(pass_context=True)
    def task(context: JobContext) -> None:
        with context.transaction(engine) as connection:
            connection.execute(WRITE, [{"job_id": 7}, {"job_id": 7}])

    job_id = await task.defer_async()
    await workers.run()
    assert (queue.status(job_id), written(queue)) == (Status.FAILED, [])


@pytest.mark.parametrize("sent_back_by", ["hand", "others"])
async def test_a_job_that_was_given_to_another_is_rolled_back(
    app: App, workers: Workers, queue: Queue, engine: sa.Engine, sent_back_by: str
) -> None:
    """A worker that was pruned as dead commits nothing, and the other run commits."""
    begun, go_on = threading.Event(), threading.Event()
    raised: list[BaseException] = []

    @app.task(pass_context=True)
    def task(context: JobContext) -> None:
        try:
            with context.transaction(engine) as connection:
                connection.execute(WRITE, {"job_id": context.job.id})
                if context.job.attempts == 0:
                    begun.set()
                    assert go_on.wait(10)
        except BaseException as error:
            raised.append(error)
            raise

    job_id = await task.defer_async()
    running = workers.start()
    await happens(begun)
    if sent_back_by == "hand":
        await app.job_manager.retry_job_by_id_async(job_id)
    else:
        core.unregister_worker(queue.connection, running.worker.worker_id or 0)
        assert core.rescue_jobs(queue.connection, max_rescues=5)
    go_on.set()
    await until(lambda: raised)
    assert isinstance(raised[0], exceptions.JobNotHeld)
    workers.start(await workers.another_app())
    await queue.succeeded(job_id)
    assert written(queue) == [job_id]


async def test_a_run_that_is_out_of_time_commits_nothing(
    app: App, workers: Workers, queue: Queue, engine: sa.Engine, caplog: pytest.LogCaptureFixture
) -> None:
    """The thread goes on, and its commit is refused."""
    failed = threading.Event()

    @app.task(pass_context=True, timeout=0.1)
    def task(context: JobContext) -> None:
        with context.transaction(engine) as connection:
            connection.execute(WRITE, {"job_id": context.job.id})
            assert failed.wait(10)

    job_id = await task.defer_async()
    workers.start()
    await queue.failed(job_id)
    failed.set()
    await until(lambda: "discard_late_result" in actions(caplog))
    (record,) = (record for record in caplog.records if vars(record).get("action") == "discard_late_result")
    assert record.exc_info is not None
    assert record.exc_info[0] is exceptions.JobNotHeld
    assert written(queue) == []


async def test_a_user_can_ask_for_an_abort_while_the_transaction_is_open(
    app: App, workers: Workers, queue: Queue, engine: sa.Engine, async_engine: AsyncEngine
) -> None:
    """The row of the job is not locked yet. An async task is stopped, and its writes are rolled back."""
    begun, go_on = threading.Event(), threading.Event()
    async_begun = asyncio.Event()
    reasons: list[AbortReason | None] = []

    @app.task(pass_context=True)
    def patient(context: JobContext) -> None:
        with context.transaction(engine) as connection:
            connection.execute(WRITE, {"job_id": context.job.id})
            begun.set()
            assert go_on.wait(10)
        reasons.append(context.abort_reason())

    @app.task(pass_context=True)
    async def stopped(context: JobContext) -> None:
        async with context.transaction(async_engine) as connection:
            await connection.execute(WRITE, {"job_id": context.job.id})
            async_begun.set()
            await asyncio.Event().wait()

    first, second = await patient.defer_async(), await stopped.defer_async()
    await workers.listening(queue, concurrency=2)
    await happens(begun)
    await happens(async_begun)
    for job_id in (first, second):
        assert await app.job_manager.cancel_job_by_id_async(job_id, abort=True)
    await queue.reaches(second, Status.ABORTED)
    go_on.set()
    await queue.succeeded(first)
    assert written(queue) == [first]
    await until(lambda: reasons == [AbortReason.USER_REQUEST])


async def test_a_transaction_waits_for_a_locked_row(
    app: App, workers: Workers, queue: Queue, engine: sa.Engine
) -> None:
    """Promotions briefly lock the rows of running jobs."""

    begun, go_on = threading.Event(), threading.Event()

    @app.task(pass_context=True)
    def task(context: JobContext) -> None:
        with context.transaction(engine) as connection:
            connection.execute(WRITE, {"job_id": context.job.id})
            begun.set()
            assert go_on.wait(10)

    job_id = await task.defer_async()
    workers.start()
    await happens(begun)
    with engine.connect() as other:
        other.execute(sa.text("SELECT 1 FROM procrastinate_jobs WHERE id = :id FOR SHARE"), {"id": job_id})
        go_on.set()
        await until(lambda: queue.sql("SELECT count(*) FROM pg_locks WHERE NOT granted"))
        assert (queue.status(job_id), written(queue)) == (Status.DOING, [])
        other.rollback()
        await queue.succeeded(job_id)
    assert written(queue) == [job_id]


async def test_the_next_job_of_the_lock_starts_at_once(
    app: App, workers: Workers, queue: Queue, engine: sa.Engine
) -> None:
    @app.task(pass_context=True, lock="lock")
    def task(context: JobContext) -> None:
        with context.transaction(engine) as connection:
            connection.execute(WRITE, {"job_id": context.job.id})

    ids = await task.batch_defer_async({}, {}, {})
    workers.start(listen_notify=False)
    await queue.succeeded(*ids)
    assert written(queue) == ids


async def test_a_job_has_one_transaction_and_another_where_the_first_was_rolled_back(
    app: App, workers: Workers, queue: Queue, engine: sa.Engine
) -> None:
    refused: list[str] = []

    @app.task(pass_context=True)
    def task(context: JobContext) -> None:
        with contextlib.suppress(ZeroDivisionError), context.transaction(engine) as connection:
            connection.execute(WRITE, {"job_id": context.job.id})
            raise ZeroDivisionError
        with context.transaction(engine) as connection:
            connection.execute(WRITE, {"job_id": context.job.id})
            with pytest.raises(RuntimeError, match="is open already") as nested, context.transaction(engine):
                pass
        with pytest.raises(RuntimeError, match="has been committed already") as second, context.transaction(engine):
            pass
        refused.extend(str(error.value) for error in (nested, second))

    job_id = await task.defer_async()
    await workers.run()
    assert (queue.status(job_id), written(queue), len(refused)) == (Status.SUCCEEDED, [job_id], 2)


async def test_a_transaction_that_was_ended_by_hand_is_an_error(
    app: App, workers: Workers, queue: Queue, engine: sa.Engine
) -> None:
    """SQLAlchemy raises it at the end of the block."""

    @app.task(pass_context=True)
    def task(context: JobContext) -> None:
        with context.transaction(sessionmaker(engine)) as session:
            session.execute(WRITE, {"job_id": context.job.id})
            session.rollback()

    job_id = await task.defer_async()
    await workers.run()
    assert (queue.status(job_id), written(queue)) == (Status.FAILED, [])


async def test_what_gives_no_transaction_is_refused(
    app: App, workers: Workers, queue: Queue, engine: sa.Engine, async_engine: AsyncEngine
) -> None:
    """The error comes before any write, and says what to pass."""
    autocommit = engine.execution_options(isolation_level="AUTOCOMMIT")
    refused: list[str] = []

    @app.task(pass_context=True)
    def task(context: JobContext) -> None:
        busy = Session(engine)
        busy.execute(sa.text("SELECT 1"))
        cases: list[tuple[Any, type[Exception], str]] = [
            (None, TypeError, "Engine or sessionmaker"),
            ("postgresql:///", TypeError, "not str"),
            (async_engine, TypeError, "async with"),
            (autocommit, ValueError, "READ COMMITTED"),
            (busy, RuntimeError, "already in a transaction"),
        ]
        for bind, expected, words in cases:
            with pytest.raises(expected, match=words), context.transaction(bind):
                raise AssertionError("not reached")
            refused.append(words)
        busy.close()

    job_id = await task.defer_async()
    await workers.run()
    assert (queue.status(job_id), len(refused)) == (Status.SUCCEEDED, 5)


async def test_a_sync_bind_in_an_async_with_is_refused(
    app: App, workers: Workers, queue: Queue, engine: sa.Engine
) -> None:
    @app.task(pass_context=True)
    async def task(context: JobContext) -> None:
        bind: Any = engine
        with pytest.raises(TypeError, match="write `with"):
            async with context.transaction(bind):
                raise AssertionError("not reached")

    job_id = await task.defer_async()
    await workers.run()
    assert queue.status(job_id) is Status.SUCCEEDED


def test_a_context_made_by_hand_has_none(app: App, engine: sa.Engine) -> None:
    context = JobContext(app=app, job=Job(id=1, queue="q", lock=None, queueing_lock=None, task_name="task"))
    with pytest.raises(RuntimeError, match="made by hand"):
        context.transaction(engine)


async def test_in_memory_a_job_ends_with_the_users_own_transaction(engine: sa.Engine, queue: Queue) -> None:
    app = App(connector=InMemoryConnector())

    @app.task(name="with engine", pass_context=True)
    def with_engine(context: JobContext) -> None:
        with context.transaction(engine) as connection:
            connection.execute(WRITE, {"job_id": context.job.id})

    @app.task(name="without", pass_context=True)
    async def without(context: JobContext) -> None:
        async with context.transaction():
            assert context.job.id is not None

    for task in (with_engine, without):
        await task.defer_async()
    await app.run_worker_async(wait=False, install_signal_handlers=False)
    jobs = await app.job_manager.list_jobs_async()
    assert [(job.status, job.attempts) for job in jobs] == [("succeeded", 1)] * 2
    assert written(queue) == [1]
