"""One process runs the jobs of two databases, and neither waits for the other."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
import pathlib
import signal
import sys
import types
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa

import procrastinate
from procrastinate import exceptions
from procrastinate.app import App
from procrastinate.testing import InMemoryConnector
from procrastinate.worker import backoff
from procrastinate.workflows.canvas import chain
from tests import database
from tests.call_counts import counted_calls
from tests.worker.running import Queue, connector_for, soon, until

Task = Callable[[], Awaitable[None]]


class Tenant:
    """A database with an app and a look into it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.app = App(connector=connector_for(url))
        self._engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
        self.queue = Queue(self._engine.connect())

    async def defer(self, task: Task, jobs: int = 1) -> list[int]:
        """Defer jobs that run this function."""
        name = task.__name__
        if name not in self.app.tasks:
            self.app.task(name=name)(task)
        return await self.app.configure_task(name).batch_defer_async(*[{}] * jobs)

    def close(self) -> None:
        self.queue.connection.close()
        self._engine.dispose()


@pytest.fixture
async def tenants(databases: database.Databases) -> AsyncIterator[tuple[Tenant, Tenant]]:
    both = Tenant(databases.create_migrated()), Tenant(databases.create_migrated())
    async with both[0].app.open_async(), both[1].app.open_async():
        yield both
    for tenant in both:
        tenant.close()
        databases.drop(tenant.url)


@contextlib.asynccontextmanager
async def running(*tenants: Tenant, slots: int = 2) -> AsyncIterator[asyncio.Task[None]]:
    """Workers that are stopped at the end of the block."""
    apps = [tenant.app for tenant in tenants]
    task = asyncio.create_task(procrastinate.run_workers_async(apps, slots=slots, fetch_job_polling_interval=0.2))
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await soon(task)


@contextlib.contextmanager
def refusing(databases: database.Databases, tenant: Tenant) -> Iterator[None]:
    """Refuse new connections to a database, and end all others."""
    name = sa.make_url(tenant.url).database
    engine = sa.create_engine(databases.server, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with engine.connect() as connection:
        connection.exec_driver_sql(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        tenant.queue.kill_backends()
        try:
            yield
        finally:
            connection.exec_driver_sql(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')


async def test_jobs_of_both_databases_share_the_slots(tenants: tuple[Tenant, Tenant]) -> None:
    now, most = 0, 0

    async def work() -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.002)
        now -= 1

    for tenant in tenants:
        await tenant.defer(work, jobs=40)
    await soon(procrastinate.run_workers_async([tenant.app for tenant in tenants], slots=3, wait=False))
    assert most == 3
    assert [tenant.queue.statuses() for tenant in tenants] == [{"succeeded": 40}] * 2


async def test_a_database_with_many_jobs_leaves_every_second_slot_to_the_other(tenants: tuple[Tenant, Tenant]) -> None:
    started: list[str] = []
    other_is_ready = asyncio.Event()

    async def long() -> None:
        if not started:
            await other_is_ready.wait()
        started.append("long")
        await asyncio.sleep(0.02)

    async def short() -> None:
        started.append("short")

    await tenants[0].defer(long, jobs=40)
    async with running(*tenants, slots=1):
        await until(lambda: tenants[0].queue.statuses().get("doing", 0) > 0)
        short_jobs = await tenants[1].defer(short, jobs=3)
        other_is_ready.set()
        await tenants[1].queue.succeeded(*short_jobs)
    of_short = [index for index, name in enumerate(started) if name == "short"]
    assert started[of_short[0] : of_short[-1] + 1] == ["short", "long", "short", "long", "short"]


@pytest.mark.parametrize("how", ["signal", "cancellation"])
async def test_a_stop_lets_the_running_jobs_of_both_databases_end(tenants: tuple[Tenant, Tenant], how: str) -> None:
    is_stopped = asyncio.Event()
    started: set[int] = set()

    def work_of(tenant: int) -> Callable[[], Awaitable[None]]:
        async def work() -> None:
            started.add(tenant)
            await is_stopped.wait()

        return work

    for number, tenant in enumerate(tenants):
        await tenant.defer(work_of(number), jobs=2)
    async with running(*tenants, slots=4) as task:  # the first to start may take as many as it has jobs
        await until(lambda: started == {0, 1})
        if how == "signal":
            signal.raise_signal(signal.SIGTERM)
        else:
            task.cancel()
        await asyncio.sleep(0)
        is_stopped.set()
        with contextlib.suppress(asyncio.CancelledError):
            await soon(task)
    for tenant in tenants:
        statuses = tenant.queue.statuses()
        assert statuses["succeeded"] >= 1
        assert "doing" not in statuses


async def test_a_database_that_is_away_at_the_start_does_not_keep_the_other_waiting(
    tenants: tuple[Tenant, Tenant], databases: database.Databases
) -> None:
    async def work() -> None:
        pass

    there, away = tenants
    (late,) = await away.defer(work)
    with refusing(databases, away):
        async with running(*tenants) as task:
            for _ in range(3):
                await there.queue.succeeded(*await there.defer(work))
            assert not task.done()
    async with running(*tenants):
        await away.queue.succeeded(late)


async def test_a_database_that_is_away_for_long_at_the_start_is_soon_served_afterwards(
    tenants: tuple[Tenant, Tenant],
    databases: database.Databases,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Twelve attempts whose pauses grow to ten seconds take longer than the test may."""
    monkeypatch.setattr(backoff, "LONGEST_IN_OUTAGE", 0.1)
    caplog.set_level(logging.DEBUG, "procrastinate.worker")

    async def work() -> None:
        pass

    def failures() -> list[int]:
        return [one.levelno for one in caplog.records if vars(one).get("action") == "start_worker_later"]

    (late,) = await tenants[1].defer(work)
    with refusing(databases, tenants[1]):
        async with running(*tenants):
            await until(lambda: len(failures()) >= 12)
    assert failures().count(logging.WARNING) < failures().count(logging.DEBUG)
    async with running(*tenants):
        await tenants[1].queue.succeeded(late)


async def test_a_database_that_goes_away_and_comes_back_does_not_keep_the_other_waiting(
    tenants: tuple[Tenant, Tenant], databases: database.Databases
) -> None:
    async def work() -> None:
        pass

    there, away = tenants
    async with running(*tenants, slots=1) as task:
        await away.queue.succeeded(*await away.defer(work))
        with refusing(databases, away):
            for _ in range(5):
                await there.queue.succeeded(*await there.defer(work))
        await away.queue.succeeded(*await away.defer(work))
        assert not task.done()


async def test_a_one_shot_worker_runs_the_jobs_of_the_others_before_it_names_the_database_that_is_away(
    tenants: tuple[Tenant, Tenant],
) -> None:
    async def work() -> None:
        pass

    job_ids = await tenants[0].defer(work, jobs=3)
    away = App(connector="postgresql://127.0.0.1:1/nowhere")
    async with away.open_async():
        with pytest.raises(ExceptionGroup) as raised:
            await soon(procrastinate.run_workers_async([away, tenants[0].app], slots=2, wait=False))
    assert [type(error) for error in raised.value.exceptions] == [exceptions.DatabaseUnavailable]
    await tenants[0].queue.succeeded(*job_ids)


async def test_queues_from_an_iterator_are_those_of_each_database(tenants: tuple[Tenant, Tenant]) -> None:
    """The worker of the second database would find no queue, which means all queues."""

    async def work() -> None:
        pass

    for tenant in tenants:
        await tenant.defer(work)
    queues = iter(["mail"])
    await soon(procrastinate.run_workers_async([one.app for one in tenants], slots=1, wait=False, queues=queues))
    assert [tenant.queue.statuses() for tenant in tenants] == [{"todo": 1}] * 2


async def test_an_error_that_no_database_is_the_cause_of_stops_all_workers(tenants: tuple[Tenant, Tenant]) -> None:
    is_running = asyncio.Event()

    async def work() -> None:
        is_running.set()

    await tenants[0].defer(work)
    tenants[1].app.queues_of_tasks = _broken  # type: ignore[method-assign]
    with pytest.raises(ExceptionGroup) as raised:
        await soon(procrastinate.run_workers_async([tenant.app for tenant in tenants], slots=2, queues=["default"]))
    assert [type(error) for error in raised.value.exceptions] == [ZeroDivisionError]


def _broken() -> set[str] | None:
    raise ZeroDivisionError


@pytest.mark.parametrize(
    ("apps", "options", "error"),
    [
        ([], {}, ValueError),
        (["app"], {}, TypeError),
        ([App(connector="postgresql:///a")] * 2, {}, ValueError),
        ([App(connector="postgresql:///a")], {"slots": 0}, ValueError),
        ([App(connector="postgresql:///a")], {"max_jobs": 1}, ValueError),
    ],
)
async def test_what_cannot_be_meant_is_refused(
    apps: list[App], options: dict[str, int], error: type[Exception]
) -> None:
    with pytest.raises(error):
        await procrastinate.run_workers_async(apps, **{"slots": 1, **options})  # type: ignore[arg-type]


async def test_a_worker_alone_asks_no_shared_slots(tenants: tuple[Tenant, Tenant]) -> None:
    async def work() -> None:
        pass

    await tenants[0].defer(work, jobs=3)
    with counted_calls() as calls:
        await soon(tenants[0].app.run_worker_async(wait=False))
    files = {pathlib.PurePath(file).name for file, _ in calls.names}
    assert "slots.py" in files
    assert not files & {"shared_slots.py", "sharing_slots.py", "several_databases.py"}


def test_run_workers_opens_and_closes_the_apps(databases: database.Databases) -> None:
    urls = [databases.create_migrated() for _ in range(2)]
    ran: list[str] = []
    apps = [App(connector=url) for url in urls]
    for app, url in zip(apps, urls, strict=True):
        app.task(name="work")(lambda url=url: ran.append(url))
        with app.open():
            app.configure_task("work").defer()
    procrastinate.run_workers(apps, slots=1, wait=False)
    assert sorted(ran) == sorted(urls)
    for app in apps:
        with pytest.raises(exceptions.AppNotOpen):
            app.check_connection()
    for url in urls:
        databases.drop(url)


async def test_a_blueprint_of_several_apps_defers_into_the_database_of_the_job(tenants: tuple[Tenant, Tenant]) -> None:
    """By ``defer``, ``configure``, a workflow and a schedule, under the namespace of that app."""
    tasks = procrastinate.Blueprint()

    @tasks.periodic(cron="* * * * *")
    @tasks.task(name="child", aliases=["former"])
    async def child(timestamp: int = 0) -> None: ...

    @tasks.task(name="parent", pass_context=True)
    def parent(context: procrastinate.JobContext) -> None:
        child.defer()
        child.configure(queue="other").defer()
        workflow = context.app.workflow("steps")
        workflow.add(child)
        workflow.defer()

    for tenant, namespace in zip(tenants, ("north", "south"), strict=True):
        tenant.app.add_tasks_from(tasks, namespace=namespace)
    for tenant, namespace in zip(tenants, ("north", "south"), strict=True):
        with tenant.app.open():
            await tenant.app.configure_task(f"{namespace}:parent").defer_async()
            await tenant.app.run_worker_async(wait=False, install_signal_handlers=False)
            await tenant.app.run_worker_async(wait=False, install_signal_handlers=False)
        ended = "SELECT array_agg(task_name || ' ' || status::text ORDER BY id) FROM procrastinate_jobs"
        found = tenant.queue.sql(ended)
        assert set(found) == {f"{namespace}:parent succeeded", f"{namespace}:child succeeded"}
        assert len(found) >= 5  # a second tick may have come
    assert list(tenants[0].app.tasks)[-3:] == ["north:child", "north:former", "north:parent"]


async def test_a_step_of_a_shared_task_has_the_name_that_the_app_of_the_workflow_knows(
    tenants: tuple[Tenant, Tenant],
) -> None:
    """Outside a job, and however the step is written."""
    tasks = procrastinate.Blueprint()

    @tasks.task(name="child")
    async def child(a: int = 0) -> None: ...

    north, south = (tenant.app for tenant in tenants)
    north.add_tasks_from(tasks, namespace="north")
    calls_of_north: list[Any] = [child.call(a=1), child.configure(priority=3)]
    south.add_tasks_from(tasks, namespace="south")
    calls = [child, child.call(a=2), child.configure(priority=3), *calls_of_north, north.tasks["north:child"]]
    for tenant, namespace in zip(tenants, ("north", "south"), strict=True):
        workflow = tenant.app.workflow("steps")
        for call in calls:
            workflow.add(call)
        workflow.group("group").add_many(child, [{"a": 3}])
        workflow.on_success(child)
        with tenant.app.open():
            workflow.defer()
            await tenant.app.run_worker_async(wait=False, install_signal_handlers=False)
        ended = "SELECT array_agg(DISTINCT task_name || ' ' || status::text) FROM procrastinate_jobs"
        assert tenant.queue.sql(ended) == [f"{namespace}:child succeeded"]
    with north.open():
        chain(north.tasks["north:child"].call(), child.call()).defer()
        await north.run_worker_async(wait=False, install_signal_handlers=False)
    assert tenants[0].queue.sql("SELECT count(*) FROM procrastinate_jobs WHERE status = 'succeeded'") == 10


ADDING = """
import procrastinate
from shards_of_test import apps, tasks

for name, app in apps.items():
    app.add_tasks_from(tasks, namespace=name)
"""


def test_a_blueprint_of_several_apps_may_be_added_again_by_a_module_that_is_reloaded(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = types.ModuleType("shards_of_test")
    tasks = procrastinate.Blueprint()
    tasks.periodic(cron="* * * * *")(tasks.task(name="child")(lambda timestamp: None))
    apps = {name: App(connector=InMemoryConnector()) for name in ("north", "south")}
    shards.__dict__.update(tasks=tasks, apps=apps)
    monkeypatch.setitem(sys.modules, "shards_of_test", shards)
    (tmp_path / "adding_of_test.py").write_text(ADDING)
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("adding_of_test")
    importlib.reload(module)
    for name, app in apps.items():
        task = app.tasks[f"{name}:child"]
        assert (task.name, task.blueprint) == (f"{name}:child", app)
        (schedule,) = app.periodic_registry.periodic_tasks.values()
        assert schedule.task is task
