"""Workers survive outages of the database."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from procrastinate import core, exceptions
from procrastinate.adapters.connections.worker_connector import WorkerConnector
from procrastinate.app import App
from procrastinate.core import Status
from procrastinate.jobs import Job
from procrastinate.manager import JobManager
from procrastinate.worker import backoff, worker_run
from procrastinate.worker.run import outcome_delays
from tests import database
from tests.worker.running import Queue, Workers, happens, until


@contextlib.contextmanager
def outage(databases: database.Databases, database_url: str, queue: Queue) -> Iterator[None]:
    """Close all connections to the database, and refuse new ones."""
    name = sa.make_url(database_url).database
    with sa.create_engine(databases.server, isolation_level="AUTOCOMMIT").connect() as connection:
        connection.exec_driver_sql(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        queue.kill_backends()
        try:
            yield
        finally:
            connection.exec_driver_sql(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
    connection.engine.dispose()


def actions(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [vars(record).get("action", "") for record in caplog.records]


async def test_a_worker_whose_idle_connections_are_cut_goes_on(app: App, workers: Workers, queue: Queue) -> None:
    task = app.task(name="task")(lambda: None)
    running = await workers.listening(queue)
    for _ in range(3):
        assert queue.kill_backends() >= 2
        await until(queue.is_listening)
        await queue.succeeded(await task.defer_async())
    assert not running.task.done()


async def test_a_log_handler_that_raises_during_an_outage_does_not_end_the_worker(
    app: App, workers: Workers, queue: Queue, database_url: str, databases: database.Databases
) -> None:
    """For example, a handler that logs to the same database."""
    task = app.task(name="task")(lambda: None)
    running = await workers.listening(queue)
    raised = asyncio.Event()

    def refuse(record: logging.LogRecord) -> bool:
        if vars(record).get("action") == "fetch_jobs_error":
            raised.set()
            raise ConnectionError
        return True

    running.worker.logger.addFilter(refuse)
    try:
        with outage(databases, database_url, queue):
            await happens(raised)
        await queue.succeeded(await task.defer_async())
    finally:
        running.worker.logger.removeFilter(refuse)


async def test_what_was_deferred_while_it_was_deaf_starts_when_it_hears_again(
    app: App, workers: Workers, queue: Queue, database_url: str, databases: database.Databases
) -> None:
    app.task(name="task")(lambda: None)
    await workers.listening(queue)
    with outage(databases, database_url, queue):
        job_id = queue.sql("INSERT INTO procrastinate_jobs (queue_name, task_name) VALUES ('q', 'task') RETURNING id")
    await queue.succeeded(job_id)


@pytest.mark.parametrize("is_async", [True, False], ids=["async", "sync"])
async def test_jobs_go_on_and_their_outcomes_are_recorded(
    app: App, workers: Workers, queue: Queue, is_async: bool
) -> None:
    started: list[int] = []
    release = threading.Event()

    def sync_task(number: int) -> None:
        started.append(number)
        assert release.wait(10)
        if number == 0:
            raise ValueError

    async def async_task(number: int) -> None:
        started.append(number)
        await asyncio.to_thread(release.wait, 10)
        if number == 0:
            raise ValueError

    task = app.task(name="task")(async_task if is_async else sync_task)
    ids = await task.batch_defer_async(*({"number": number} for number in range(3)))
    await workers.listening(queue, concurrency=3)
    await until(lambda: len(started) == 3)
    assert queue.kill_backends() >= 2
    release.set()
    await queue.failed(ids[0])
    await queue.succeeded(*ids[1:])
    assert sorted(started) == [0, 1, 2]


async def test_a_worker_without_a_graceful_timeout_does_not_wait_for_the_database_to_come_back(
    app: App,
    workers: Workers,
    queue: Queue,
    database_url: str,
    databases: database.Databases,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With a graceful timeout of 0 seconds, the last outcomes get only a moment."""
    monkeypatch.setattr(worker_run, "_LAST_WRITES_TIMEOUT", 0.5)
    started, release = asyncio.Event(), asyncio.Event()

    @app.task
    async def task() -> None:
        started.set()
        await release.wait()

    await task.defer_async()
    running = await workers.listening(queue, shutdown_graceful_timeout=0)
    await happens(started)
    with outage(databases, database_url, queue):
        release.set()
        await until(lambda: "record_outcomes_error" in actions(caplog))
        running.worker.stop()
        async with asyncio.timeout(20):
            await running.task
    assert "outcomes_lost" in actions(caplog)


async def test_jobs_that_end_while_the_database_is_away_are_recorded_when_it_is_back(
    app: App,
    workers: Workers,
    queue: Queue,
    database_url: str,
    databases: database.Databases,
    caplog: pytest.LogCaptureFixture,
) -> None:
    started, release, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    @app.task
    async def task() -> None:
        started.set()
        await release.wait()
        ended.set()

    job_id = await task.defer_async()
    running = await workers.listening(queue)
    await happens(started)
    with outage(databases, database_url, queue):
        release.set()
        await happens(ended)
        await until(lambda: {"record_outcomes_error", "side_task_failed"} <= set(actions(caplog)))
        assert queue.status(job_id) is Status.DOING
    await queue.succeeded(job_id)
    await until(queue.is_listening)
    await queue.succeeded(await task.defer_async())
    assert not running.task.done()


@pytest.mark.parametrize(
    ("action", "service"),
    [("record_outcomes_error", None), ("side_task_failed", "deferrer")],
    ids=["outcomes", "ticks"],
)
async def test_the_pauses_of_an_outage_stay_short(
    app: App,
    workers: Workers,
    queue: Queue,
    database_url: str,
    databases: database.Databases,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    action: str,
    service: str | None,
) -> None:
    """Twelve attempts whose pauses grow to ten seconds take longer than the test may."""
    monkeypatch.setattr(backoff, "LONGEST_IN_OUTAGE", 0.1)
    caplog.set_level(logging.DEBUG, "procrastinate.worker")
    started, release = asyncio.Event(), asyncio.Event()

    @app.periodic(cron="* * * * * *")
    @app.task
    async def task(timestamp: int) -> None:
        started.set()
        await release.wait()

    def failures() -> int:
        records = (vars(record) for record in caplog.records)
        return sum(one.get("action") == action and one.get("side_task") == service for one in records)

    job_id = await task.defer_async(timestamp=0)
    await workers.listening(queue)
    await happens(started)
    with outage(databases, database_url, queue):
        release.set()
        await until(lambda: failures() >= 12)
    await queue.succeeded(job_id)


async def test_the_pauses_of_a_job_whose_arguments_an_outage_holds_up_stay_short_and_quiet(
    app: App,
    workers: Workers,
    queue: Queue,
    database_url: str,
    databases: database.Databases,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The outage begins when the job is claimed, and its large arguments are not read."""
    monkeypatch.setattr(backoff, "LONGEST_IN_OUTAGE", 0.1)
    caplog.set_level(logging.DEBUG, "procrastinate.worker")
    is_away, read = asyncio.Event(), JobManager.read_arguments

    async def read_later(manager: JobManager, job: Job) -> Job:
        await is_away.wait()
        return await read(manager, job)

    monkeypatch.setattr(JobManager, "read_arguments", read_later)
    job_id = await app.task(name="large")(lambda text: None).defer_async(text="x" * 300_000)
    await workers.listening(queue)
    await until(lambda: queue.status(job_id) is Status.DOING)

    def failures() -> list[int]:
        return [one.levelno for one in caplog.records if vars(one).get("action") == "arguments_not_read"]

    with outage(databases, database_url, queue):
        is_away.set()
        await until(lambda: len(failures()) >= 12)
    await queue.succeeded(job_id)
    assert failures().count(logging.WARNING) < failures().count(logging.DEBUG)


async def test_a_worker_that_is_stopped_during_an_outage_waits_to_record_outcomes(
    app: App, workers: Workers, queue: Queue, database_url: str, databases: database.Databases
) -> None:
    started, release = asyncio.Event(), asyncio.Event()

    @app.task
    async def task() -> None:
        started.set()
        await release.wait()

    job_id = await task.defer_async()
    running = await workers.listening(queue)
    await happens(started)
    with outage(databases, database_url, queue):
        running.worker.stop()
        release.set()
        await asyncio.sleep(0)
    await running.ended()
    assert queue.status(job_id) is Status.SUCCEEDED


async def test_an_outage_longer_than_the_stall_timeout_runs_no_job_twice(
    app: App, workers: Workers, queue: Queue, database_url: str, databases: database.Databases
) -> None:
    """When the database is back, all workers look dead. None may be pruned before it had time for a heartbeat."""
    started, release = asyncio.Event(), asyncio.Event()
    runs: list[int] = []

    @app.task
    async def task() -> None:
        runs.append(1)
        started.set()
        await release.wait()

    lively: dict[str, Any] = {"update_heartbeat_interval": 0.1, "stalled_worker_timeout": 1.0}
    job_id = await task.defer_async()
    running = await workers.listening(queue, **lively)
    await happens(started)
    await workers.listening(queue, await workers.another_app(), queues=["none"], **lively)
    with outage(databases, database_url, queue):
        since = queue.sql("SELECT now()")
        await until(lambda: queue.sql("SELECT clock_timestamp() - :since > interval '1.5 seconds'", since=since))
    alive = "SELECT count(*) FROM procrastinate_workers WHERE last_heartbeat > :since + interval '1.5 seconds'"
    await until(lambda: queue.sql(alive, since=since) == 2)
    release.set()
    await queue.succeeded(job_id)
    assert runs == [1]
    assert queue.row(job_id)["attempts"] == 1
    await running.stopped()


# Errors when outcomes are recorded


def make_trigger(queue: Queue, body: str) -> None:
    """Create a user's trigger that fires whenever a job ends."""
    queue.sql(
        "CREATE FUNCTION users_trigger() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN " + body + " RETURN new; END $$"
    )
    queue.sql(
        "CREATE TRIGGER users_trigger BEFORE UPDATE ON procrastinate_jobs FOR EACH ROW "
        "WHEN (old.status = 'doing') EXECUTE FUNCTION users_trigger()"
    )


async def test_an_outcome_is_recorded_again_after_a_passing_error(
    app: App, workers: Workers, queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    queue.sql("CREATE SEQUENCE hiccups")
    make_trigger(queue, "IF nextval('hiccups') <= 2 THEN RAISE EXCEPTION USING errcode = '40001'; END IF;")
    runs: list[int] = []
    job_id = await app.task(name="task")(lambda: runs.append(1)).defer_async()
    workers.start()
    await queue.succeeded(job_id)
    assert runs == [1]
    assert actions(caplog).count("record_outcomes_error") == 2


async def test_an_outcome_that_is_refused_holds_up_no_other_and_is_tried_again(
    app: App, workers: Workers, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outcome_delays, "_REFUSED_PAUSE", 0.1)
    make_trigger(queue, "IF old.args @> '{\"bad\": true}' THEN RAISE EXCEPTION 'Not now'; END IF;")
    runs: list[bool] = []
    task = app.task(name="task")(lambda bad: runs.append(bad))
    ids = await task.batch_defer_async({"bad": False}, {"bad": True}, {"bad": False})
    await workers.listening(queue, concurrency=3)
    await queue.succeeded(ids[0], ids[2])
    await queue.succeeded(await task.defer_async(bad=False))
    assert queue.status(ids[1]) is Status.DOING
    await queue.ddl("DROP TRIGGER users_trigger ON procrastinate_jobs")
    await queue.succeeded(ids[1])
    assert runs.count(True) == 1


async def test_a_refused_outcome_does_not_keep_the_worker_from_stopping(
    app: App, workers: Workers, queue: Queue
) -> None:
    make_trigger(queue, "RAISE EXCEPTION 'Never';")
    ran = asyncio.Event()

    @app.task
    async def task() -> None:
        ran.set()

    await task.defer_async()
    running = workers.start()
    await happens(ran)
    await running.stopped()


class LosesAnswers(WorkerConnector):
    """A connector that loses the answers to the first fetches after the database has executed them."""

    to_lose = 1
    then: Callable[[], Any] = staticmethod(lambda: None)

    def get_worker_connector(self) -> WorkerConnector:
        return self

    async def run_async(self, operation: Any, *args: Any, **kwargs: Any) -> Any:
        answer = await super().run_async(operation, *args, **kwargs)
        if operation is core.fetch_jobs and answer and self.to_lose:
            self.to_lose -= 1
            self.then()
            raise exceptions.DatabaseUnavailable("The connection was lost")
        return answer


async def test_jobs_whose_fetch_was_never_answered_run_all_the_same(
    app: App, workers: Workers, queue: Queue, database_url: str
) -> None:
    """In the database, the jobs run on a live worker that does not know them."""
    runs: list[int] = []

    @app.task
    async def task(number: int) -> None:
        runs.append(number)

    ids = await task.batch_defer_async({"number": 0}, {"number": 1})
    connector = LosesAnswers(database.libpq_url(database_url))
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(app.replace_connector(connector))
        await connector.open_async()
        stack.push_async_callback(connector.close_async)
        running = workers.start(concurrency=2)
        for job_id in ids:
            await queue.succeeded(job_id)
        await running.stopped()
    assert sorted(runs) == [0, 1]
    assert connector.to_lose == 0


async def test_jobs_of_an_unanswered_fetch_run_after_an_open_transaction_lets_go_of_their_queueing_lock(
    app: App, workers: Workers, queue: Queue, database_url: str, engine: sa.Engine
) -> None:
    """The worker fetches nothing until it has returned them."""
    task = app.task(name="task")(lambda: None)
    job_id = await task.configure(queueing_lock="taken").defer_async()
    connector = LosesAnswers(database.libpq_url(database_url))
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(app.replace_connector(connector))
        await connector.open_async()
        stack.push_async_callback(connector.close_async)
        user = stack.enter_context(engine.connect())
        connector.then = lambda: core.defer_job(user, database.new_job(queueing_lock="taken"))
        running = workers.start()
        await queue.succeeded(job_id)
        user.rollback()
        await running.stopped()
    assert connector.to_lose == 0
