"""``connection=``: all operations are committed or rolled back with the user's own rows, on each driver."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, async_scoped_session
from sqlalchemy.orm import Session, scoped_session

import procrastinate
from procrastinate import core
from procrastinate.core import Status
from procrastinate.jobs import Job
from tests.conformance.runs import SyncRun
from tests.conformance.steps import PAST, change, defer, fetch_one, finish
from tests.standalone.user_connections import (
    ASYNC_KINDS,
    ASYNC_SCOPED_SESSION,
    SCOPED_SESSION,
    SYNC_KINDS,
    AsyncKind,
    SyncKind,
)

Ids = dict[str, int]
"""Ids of the existing jobs, by task name."""

BEFORE = ["failed: failed", "old: succeeded", "running: doing", "unwanted: todo", "waiting: todo"]
AFTER = ["batch: todo", "batch: todo", "failed: todo", "new: todo", "running: doing, to abort", "waiting: cancelled"]
OWN_ROW = "a row of the user's own"
INSERT_OWN_ROW = "INSERT INTO own_rows VALUES (1)"


@pytest.fixture
def app(database_url: str) -> procrastinate.App:
    """Return an app that is not open, because it must need no connection of its own."""
    return procrastinate.App(connector=database_url)


@pytest.fixture(params=[*SYNC_KINDS, SCOPED_SESSION], ids=str)
def users(request: pytest.FixtureRequest, database_url: str) -> Iterator[Any]:
    """Return an open connection of the user, of each kind."""
    kind: SyncKind = request.param
    with kind.open(database_url) as connection:
        yield connection


@pytest.fixture(params=[*ASYNC_KINDS, ASYNC_SCOPED_SESSION], ids=str)
async def async_users(request: pytest.FixtureRequest, database_url: str) -> AsyncIterator[Any]:
    """Like ``users``, but asynchronous."""
    kind: AsyncKind = request.param
    async with kind.open(database_url) as connection:
        yield connection


@pytest.fixture
def ids(engine: sa.Engine) -> Ids:
    """Create the jobs of ``BEFORE`` and a table of the user, commit them, and return the ids of the jobs."""
    run = SyncRun(engine)
    worker_id = run(core.register_worker)
    ids: Ids = {}
    for name, status in (("old", Status.SUCCEEDED), ("failed", Status.FAILED), ("running", None)):
        ids[name] = defer(run, task_name=name)
        job = fetch_one(run, worker_id)
        if status is not None:
            finish(run, job, status=status)
    for name in ("waiting", "unwanted"):
        ids[name] = defer(run, task_name=name)
    change(run, ids["old"], finished_at=PAST)
    run(core.unregister_worker, worker_id)
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE own_rows (id int)"))
    assert seen_by_others(engine) == BEFORE
    return ids


def seen_by_others(engine: sa.Engine) -> list[str]:
    """Return a description of all committed rows."""
    jobs = sa.text("SELECT task_name, status::text, abort_requested FROM procrastinate_jobs")
    with engine.connect() as connection:
        lines = [_line(*row) for row in connection.execute(jobs)]
        own_rows = connection.execute(sa.text("SELECT id FROM own_rows")).all()
    return sorted(lines) + [OWN_ROW] * len(own_rows)


def listed(jobs: Iterable[Job]) -> list[str]:
    """Return the same description of listed jobs."""
    return sorted(_line(job.task_name, job.status, job.abort_requested) for job in jobs)


def _line(name: str, status: str, abort_requested: bool) -> str:
    return f"{name}: {status}{', to abort' if abort_requested else ''}"


def change_everything(app: procrastinate.App, users: Any, ids: Ids) -> None:
    """Run every operation that changes jobs, and insert a row of the user."""
    if isinstance(users, sa.Connection | Session | scoped_session):
        users.execute(sa.text(INSERT_OWN_ROW))
    else:
        users.cursor().execute(INSERT_OWN_ROW)
    manager = app.job_manager
    app.configure_task("new", connection=users).defer()
    app.configure_task("batch", connection=users).batch_defer({"a": 1}, {"a": 2})
    assert manager.cancel_job_by_id(ids["waiting"], connection=users)
    assert manager.cancel_job_by_id(ids["unwanted"], delete_job=True, connection=users)
    assert manager.cancel_job_by_id(ids["running"], abort=True, connection=users)
    manager.retry_job_by_id(ids["failed"], connection=users)
    asyncio.run(manager.delete_old_jobs(1, connection=users))


async def change_everything_async(app: procrastinate.App, users: Any, ids: Ids) -> None:
    """Like :func:`change_everything`, but asynchronous."""
    if isinstance(users, AsyncConnection | AsyncSession | async_scoped_session):
        await users.execute(sa.text(INSERT_OWN_ROW))
    else:
        await users.cursor().execute(INSERT_OWN_ROW)
    manager = app.job_manager
    await app.configure_task("new", connection=users).defer_async()
    await app.configure_task("batch", connection=users).batch_defer_async({"a": 1}, {"a": 2})
    assert await manager.cancel_job_by_id_async(ids["waiting"], connection=users)
    assert await manager.cancel_job_by_id_async(ids["unwanted"], delete_job=True, connection=users)
    assert await manager.cancel_job_by_id_async(ids["running"], abort=True, connection=users)
    await manager.retry_job_by_id_async(ids["failed"], connection=users)
    await manager.delete_old_jobs(1, connection=users)


ENDS = pytest.mark.parametrize(("end", "committed"), [("commit", [*AFTER, OWN_ROW]), ("rollback", BEFORE)])


@ENDS
def test_every_change_ends_with_the_transaction(
    app: procrastinate.App, users: Any, ids: Ids, engine: sa.Engine, end: str, committed: list[str]
) -> None:
    """Until then, no other session sees the changes."""
    change_everything(app, users, ids)
    assert seen_by_others(engine) == BEFORE
    getattr(users, end)()
    assert seen_by_others(engine) == committed


@ENDS
async def test_every_change_ends_with_the_async_transaction(
    app: procrastinate.App, async_users: Any, ids: Ids, engine: sa.Engine, end: str, committed: list[str]
) -> None:
    """Until then, no other session sees the changes."""
    await change_everything_async(app, async_users, ids)
    assert seen_by_others(engine) == BEFORE
    await getattr(async_users, end)()
    assert seen_by_others(engine) == committed


def test_every_look_sees_what_the_transaction_did(app: procrastinate.App, users: Any, ids: Ids) -> None:
    """After the rollback, none of it is visible."""
    manager = app.job_manager
    change_everything(app, users, ids)
    assert listed(manager.list_jobs(connection=users)) == AFTER
    assert manager.get_job_status(ids["failed"], connection=users) is Status.TODO
    assert manager.get_result(ids["waiting"], connection=users).status is Status.CANCELLED
    assert [queue["jobs_count"] for queue in manager.list_queues(connection=users)] == [6]
    assert [task["jobs_count"] for task in manager.list_tasks(connection=users)] == [2, 1, 1, 1, 1]
    assert manager.list_locks(connection=users) == []
    assert listed(asyncio.run(manager.get_stalled_jobs(connection=users))) == ["running: doing, to abort"]
    users.rollback()
    assert listed(manager.list_jobs(connection=users)) == BEFORE


async def test_every_async_look_sees_what_the_transaction_did(
    app: procrastinate.App, async_users: Any, ids: Ids
) -> None:
    """After the rollback, none of it is visible."""
    manager = app.job_manager
    await change_everything_async(app, async_users, ids)
    assert listed(await manager.list_jobs_async(connection=async_users)) == AFTER
    assert await manager.get_job_status_async(ids["failed"], connection=async_users) is Status.TODO
    assert (await manager.get_result_async(ids["waiting"], connection=async_users)).status is Status.CANCELLED
    assert [queue["jobs_count"] for queue in await manager.list_queues_async(connection=async_users)] == [6]
    assert [task["jobs_count"] for task in await manager.list_tasks_async(connection=async_users)] == [2, 1, 1, 1, 1]
    assert await manager.list_locks_async(connection=async_users) == []
    assert listed(await manager.get_stalled_jobs(connection=async_users)) == ["running: doing, to abort"]
    await async_users.rollback()
    assert listed(await manager.list_jobs_async(connection=async_users)) == BEFORE


@pytest.mark.parametrize("kind", [kind for kind in SYNC_KINDS if kind.name.startswith("Session")], ids=str)
def test_a_savepoint_takes_its_jobs_back(
    app: procrastinate.App, database_url: str, engine: sa.Engine, ids: Ids, kind: SyncKind
) -> None:
    """Changes from before the savepoint stay."""
    with kind.open(database_url) as session:
        app.configure_task("new", connection=session).defer()
        savepoint = session.begin_nested()
        change_everything(app, session, ids)
        savepoint.rollback()
        session.commit()
    assert seen_by_others(engine) == sorted([*BEFORE, "new: todo"])


@pytest.mark.parametrize("kind", [kind for kind in ASYNC_KINDS if kind.name.startswith("AsyncSession")], ids=str)
async def test_an_async_savepoint_takes_its_jobs_back(
    app: procrastinate.App, database_url: str, engine: sa.Engine, ids: Ids, kind: AsyncKind
) -> None:
    """Changes from before the savepoint stay."""
    async with kind.open(database_url) as session:
        await app.configure_task("new", connection=session).defer_async()
        savepoint = await session.begin_nested()
        await change_everything_async(app, session, ids)
        await savepoint.rollback()
        await session.commit()
    assert seen_by_others(engine) == sorted([*BEFORE, "new: todo"])
