"""Correct programs: no type checker may report an error."""

from __future__ import annotations

import datetime

from sqlalchemy import Engine, create_engine
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from procrastinate import App, BaseRetryStrategy, JobContext, RetryDecision, RetryStrategy
from procrastinate.exceptions import AlreadyEnqueued
from procrastinate.jobs import Job, JobDeferrer, Status
from procrastinate.tasks import Task
from procrastinate.testing import InMemoryConnector, Jobs, RunRecord, WorkerThread
from tests.typing.programs import tasks


class Fixed(BaseRetryStrategy):
    """A custom strategy."""

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision | None:
        """Retry twice, in another queue."""
        return RetryDecision(retry_in={"minutes": 1}, queue="slow", priority=-1) if job.attempts < 2 else None


def defers() -> list[int]:
    """Defer in every way."""
    ids: list[int] = [
        tasks.bare.defer(a=1),
        tasks.bare.defer(a=1, b="y"),
        tasks.called.defer(a=1),
        tasks.asynchronous.defer(a=1),
        tasks.with_context.defer(a=1),
        tasks.periodic.defer(),
        tasks.of_blueprint.defer(a=1, b=[1]),
    ]
    deferrer: JobDeferrer = tasks.bare.configure(
        lock="a",
        queueing_lock="b",
        queue="c",
        priority=1,
        schedule_in={"seconds": 5},
        schedule_at=datetime.datetime.now(tz=datetime.UTC),
        task_kwargs={"a": 1},
        connection=None,
    )
    ids.append(deferrer.defer(b="z"))
    ids += tasks.bare.batch_defer({"a": 1}, {"a": 2})
    return ids


async def defers_async() -> None:
    """Defer in every asynchronous way."""
    job_id: int = await tasks.bare.defer_async(a=1)
    ids: list[int] = await tasks.bare.batch_defer_async({"a": job_id})
    await tasks.asynchronous.configure(lock="a").defer_async(a=ids[0])
    async with tasks.app.open_async() as app:
        await app.run_worker_async(queues=["a"], concurrency=3, wait=False, delete_jobs="always")


class OrderSession(Session):
    """A custom session class."""


def transactions(context: JobContext, maker: sessionmaker[OrderSession], scoped: scoped_session[Session]) -> None:
    """Open transactions of each type, each of which yields the given object or the one that it opens."""
    engine: Engine = create_engine("postgresql+psycopg://")
    with context.transaction(engine) as connection:
        context.set_result(connection.in_transaction())
    with context.transaction(maker) as session:
        own: OrderSession = session
    with context.transaction(own) as same:
        own = same
    with context.transaction(scoped) as same_scoped:
        scoped = same_scoped
    with context.transaction():
        pass


async def async_transactions(
    context: JobContext, engine: AsyncEngine, maker: async_sessionmaker[AsyncSession], session: AsyncSession
) -> None:
    """Open asynchronous transactions of each type."""
    async with context.transaction(engine) as connection:
        await connection.rollback()
    async with context.transaction(maker) as opened:
        session = opened
    async with context.transaction(session) as same:
        session = same
    async with context.transaction():
        pass


def calls() -> tuple[bool, str]:
    """Call tasks like functions."""
    return tasks.bare(1, b="x"), tasks.called(1)


def manages(app: App) -> None:
    """Use other methods of the app."""
    with app.replace_connector(InMemoryConnector()) as replaced, replaced.open():
        try:
            tasks.bare.defer(a=1)
        except AlreadyEnqueued:
            status: Status = app.job_manager.get_job_status(1)
            print(status.value)
    strategy: RetryStrategy = RetryStrategy(wait=1, retry_exceptions={ValueError})
    task = app.task(name="inline", retry=strategy)(_inline)
    task.defer(a=1)
    any_task: Task[..., int, ...] = task
    any_task.defer(b=2)


def runs_jobs(app: App) -> list[RunRecord]:
    """Run jobs like a test."""
    with Jobs(app, worker_options={"additional_context": {"a": 1}}) as jobs:
        found: Job = jobs.assert_deferred(tasks.bare, {"queue": "q", "scheduled_at": None}, a=1)
        jobs.assert_not_deferred(tasks.bare, a=found.task_kwargs["a"])
        later: datetime.datetime = jobs.advance(hours=1)
        with jobs.run_at_defer(raise_errors=False):
            tasks.bare.defer(a=1)
        records = jobs.run(tasks=[tasks.bare, "name"], queues=["q"], until=later, limit=1)
        records += jobs.run(tasks=tasks.bare, until="empty", raise_errors=False)
    with WorkerThread(app, concurrency=2) as worker:
        worker.wait_until_done(timeout=1)
    return records


def _inline(a: int) -> int:
    return a


def workflows(app: App) -> int:
    """The value of a step has the type of the task's result."""
    wf = app.workflow("import", if_failed="hold")
    page = wf.add(tasks.fetched, url="a")
    words = wf.add(tasks.counted.call(text=page.value), after=[page], needs="end", delay=2)
    wf.add(tasks.stored.call(number=words.value, texts=[page.value]))
    number: int = words.value
    text: str = page.value
    pages = wf.group("pages", after=[page])
    pages.add_many(tasks.fetched, [{"url": "a"}])
    wf.on_end(tasks.stored, number=number, texts=[text])
    state: str = app.workflows.get(wf.defer()).state
    return len(state)
