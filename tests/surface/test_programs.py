"""Small uses by 3.x programs that no other test covers."""

from __future__ import annotations

import asyncio
import datetime
import logging

import pytest

import procrastinate
from procrastinate import jobs, retry
from procrastinate.app import App
from procrastinate.periodic import PeriodicDeferrer
from procrastinate.testing import InMemoryConnector
from procrastinate.worker import Worker


@pytest.fixture
def connector() -> InMemoryConnector:
    return InMemoryConnector()


@pytest.fixture
def app(connector: InMemoryConnector) -> App:
    return App(connector=connector)


def actions(caplog: pytest.LogCaptureFixture) -> set[str]:
    """Return the logged actions."""
    return {vars(record)["action"] for record in caplog.records if "action" in vars(record)}


# Opening


def test_an_app_is_opened_and_closed(app: App, connector: InMemoryConnector) -> None:
    with app.open() as opened:
        assert opened is app
    assert app.open(pool_or_engine=None) is app
    app.close()
    assert connector.states == ["open", "closed"] * 2


async def test_an_app_is_awaited_or_entered(app: App, connector: InMemoryConnector) -> None:
    assert await app.open_async(pool=None) is app
    await app.close_async()
    async with app.open_async() as opened:
        assert opened is app
    assert connector.states == ["open_async", "closed_async"] * 2


def test_a_connector_is_set_on_the_app_and_on_its_manager(app: App) -> None:
    """Programs did this before ``replace_connector`` existed."""
    other = InMemoryConnector()
    app.connector = other
    app.job_manager.connector = other
    app.configure_task("task").defer()
    assert len(other.jobs) == 1


# Declaring


def test_what_is_declared_is_logged(app: App, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="procrastinate")
    blueprint = procrastinate.Blueprint()

    @blueprint.periodic(cron="* * * * *")
    @blueprint.task(name="tick")
    def tick(timestamp: int) -> None: ...

    app.add_tasks_from(blueprint, namespace="ns")
    app.import_paths = ["tests.unit.imported"]
    app.perform_import_paths()
    assert actions(caplog) == {"loading_blueprint", "registering_periodic_task", "import_module", "imported_tasks"}


def test_a_pattern_is_used_again_and_again(app: App, connector: InMemoryConnector) -> None:
    task = app.task(name="task", queue="q")(lambda a, b: None)
    pattern = task.configure(task_kwargs={"a": 1, "b": 1}, priority=3)
    pattern.defer(b=2)
    pattern.batch_defer({}, {"a": 5})
    assert [row["args"] for row in connector.jobs.values()] == [{"a": 1, "b": 2}, {"a": 1, "b": 1}, {"a": 5, "b": 1}]
    assert {(row["queue_name"], row["priority"]) for row in connector.jobs.values()} == {("q", 3)}
    assert (pattern.job.task_name, pattern.job_manager, pattern.connection) == ("task", app.job_manager, None)


# Retry decisions


def test_a_decision_shows_what_was_decided() -> None:
    noon = datetime.datetime(2030, 1, 1, 12, tzinfo=datetime.UTC)
    decision = retry.RetryDecision(retry_at=noon, priority=1, queue="q", lock="l")
    assert (decision.retry_at, decision.priority, decision.queue, decision.lock) == (noon, 1, "q", "l")
    assert retry.RetryDecision().retry_at is None
    assert retry.RetryDecision(retry_in={"seconds": 5}).retry_at is not None


# Workers


def test_a_worker_shows_its_options(app: App) -> None:
    worker = Worker(app, ["a", "b"], "mine", 3)
    assert (worker.worker_name, worker.queues, worker.concurrency) == ("mine", ("a", "b"), 3)
    assert (worker.worker_id, worker.app) == (None, app)


async def test_jobs_that_hold_up_the_end_are_named(app: App, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="procrastinate")

    @app.task(name="stops", pass_context=True)
    async def stops(context: procrastinate.JobContext) -> None:
        worker.stop()
        while "ending_job" not in actions(caplog):  # noqa: ASYNC110 - no event says what was logged
            await asyncio.sleep(0.01)

    await stops.defer_async()
    worker = Worker(app, install_signal_handlers=False)
    async with asyncio.timeout(10):
        await worker.run()
    assert {"ending_job", "finish_task"} <= actions(caplog)


def test_the_log_level_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    from procrastinate.cli.logs import configure_logging
    from procrastinate.cli.main import make_parser

    root = logging.getLogger()
    before = (root.level, list(root.handlers))
    try:
        configure_logging(make_parser().parse_args(["-v", "worker"]))
    finally:
        root.setLevel(before[0])
        root.handlers[:] = before[1]
    assert "set_log_level" in actions(caplog)


async def test_notifications_are_heard(app: App) -> None:
    heard: asyncio.Queue[tuple[str, jobs.Notification]] = asyncio.Queue()

    async def on_notification(*, channel: str, notification: jobs.Notification) -> None:
        heard.put_nowait((channel, notification))

    listening = asyncio.create_task(app.job_manager.listen_for_jobs(on_notification=on_notification, queues=["q"]))
    await asyncio.sleep(0)
    job_id = await app.configure_task("task", queue="q").defer_async()
    async with asyncio.timeout(10):
        channel, notification = await heard.get()
    assert (channel, notification["type"], notification["job_id"]) == (
        *("procrastinate_queue_v1#q", "job_inserted", job_id),
    )
    listening.cancel()
    await asyncio.wait({listening})


# Periodic tasks without a worker


async def test_ticks_are_deferred_by_hand(app: App, connector: InMemoryConnector) -> None:
    """Programs test their schedules in this way."""

    @app.periodic(cron="0 4 * * *", periodic_id="four", queue="q")
    @app.task(name="tidy")
    def tidy(timestamp: int) -> None: ...

    ((name, periodic_id),) = app.periodic_registry.periodic_tasks
    assert (name, periodic_id) == ("tidy", "four")
    deferrer = PeriodicDeferrer(registry=app.periodic_registry, max_delay=24 * 3600)
    at = datetime.datetime(2030, 1, 1, 4, 1, tzinfo=datetime.UTC).timestamp()
    (due,) = deferrer.get_previous_tasks(at=at)
    periodic_task, timestamp = due
    assert (periodic_task.task, periodic_task.cron, timestamp) == (tidy, "0 4 * * *", at - 60)
    await deferrer.defer_jobs([due])
    (row,) = connector.jobs.values()
    assert (row["args"], row["queue_name"]) == ({"timestamp": int(at - 60)}, "q")


async def test_a_builtin_task_is_called_from_a_task_of_the_project(app: App, connector: InMemoryConnector) -> None:
    """The recipe for removing old jobs on a schedule."""
    from procrastinate import builtin_tasks

    @app.task(name="tidy", pass_context=True)
    async def tidy(context: procrastinate.JobContext) -> None:
        await builtin_tasks.remove_old_jobs(context, max_hours=0, remove_failed=True)

    await tidy.defer_async()
    await app.run_worker_async(wait=False, install_signal_handlers=False)
    await tidy.defer_async()
    connector.clock = lambda: datetime.datetime.now(tz=datetime.UTC) + datetime.timedelta(hours=1)
    await app.run_worker_async(wait=False, install_signal_handlers=False)
    assert [row["id"] for row in connector.jobs.values()] == [2]
