"""A worker whose tasks kill its process in their first attempt: ``python -m tests.worker.dying_program URL``."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import sessionmaker

from procrastinate.app import App
from procrastinate.job_context import JobContext
from tests.database import driver_url

URL = sys.argv[1] if __name__ == "__main__" else "postgresql+psycopg://"
WRITE = sa.text("INSERT INTO effects (job_id) VALUES (:job_id)")

app = App(connector=URL)
engine = sa.create_engine(URL)
async_engine = create_async_engine(driver_url(URL, "asyncpg"))


def die(*_: Any) -> None:
    """Kill the process, like the kernel when memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)


def die_at_commit(context: JobContext, moment: str, used: sa.Engine) -> None:
    """Die before the driver sends COMMIT, after all other statements."""
    if context.job.attempts == 0 and moment == "before":
        sa.event.listen(used, "commit", die)


def die_afterwards(context: JobContext, moment: str) -> None:
    """Die after the database has committed, before the worker reads the answer."""
    if context.job.attempts == 0 and moment == "after":
        die()


@app.task(name="sync psycopg", pass_context=True)
def sync(context: JobContext, moment: str) -> None:
    """Run a sync task with a session."""
    die_at_commit(context, moment, engine)
    with context.transaction(sessionmaker(engine)) as session:
        session.execute(WRITE, {"job_id": context.job.id})
        app.configure_task("follow up", queue="later", connection=session).defer()
    die_afterwards(context, moment)


@app.task(name="async asyncpg", pass_context=True)
async def asynchronous(context: JobContext, moment: str) -> None:
    """Run an async task with a session."""
    die_at_commit(context, moment, async_engine.sync_engine)
    async with context.transaction(async_sessionmaker(async_engine)) as session:
        await session.execute(WRITE, {"job_id": context.job.id})
        await app.configure_task("follow up", queue="later", connection=session).defer_async()
    die_afterwards(context, moment)
    await async_engine.dispose()


@app.task(name="plain", pass_context=True)
def plain(context: JobContext, moment: str) -> None:
    """Run a task that does not use `context.transaction()`."""
    die_at_commit(context, moment, engine)
    with sessionmaker(engine).begin() as session:
        session.execute(WRITE, {"job_id": context.job.id})
        app.configure_task("follow up", queue="later", connection=session).defer()
    die_afterwards(context, moment)


if __name__ == "__main__":
    app.run_worker(queues=["default"], wait=False, listen_notify=False)
    engine.dispose()
