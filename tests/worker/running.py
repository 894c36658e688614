"""Helpers for tests of workers: workers that are stopped at the end, access to the queue, and deadlines."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import sqlalchemy as sa

from procrastinate import core
from procrastinate.adapters.connections.worker_connector import WorkerConnector
from procrastinate.app import App
from procrastinate.jobs import Job, Status
from procrastinate.worker import Worker
from tests import database
from tests.worker.describing import describe

T = TypeVar("T")

DEADLINE = 30.0
"""Seconds after which a test stops waiting and fails."""

NEVER = 600.0
"""Seconds. A polling interval longer than any test."""

LOOK_EVERY = 0.01
APPLICATION = "a worker under test"


def connector_for(database_url: str, application: str = APPLICATION) -> WorkerConnector:
    """Return a connector for a worker. Its application name tells its backends from those of the test."""
    return WorkerConnector({"conninfo": database.libpq_url(database_url), "application_name": application})


async def soon(awaitable: Coroutine[Any, Any, T] | asyncio.Future[T]) -> T:
    """Wait for an awaitable until the deadline."""
    async with asyncio.timeout(DEADLINE):
        return await awaitable


async def happens(event: asyncio.Event | threading.Event) -> None:
    """Wait until the event is set."""
    if isinstance(event, asyncio.Event):
        await soon(event.wait())
    else:
        assert await asyncio.to_thread(event.wait, DEADLINE), "The event was not set in time"


async def until(condition: Callable[[], T]) -> T:
    """Wait until the condition holds, and return its result."""
    try:
        async with asyncio.timeout(DEADLINE):
            while not (result := condition()):  # noqa: ASYNC110 - no event says when a row changes
                await asyncio.sleep(LOOK_EVERY)
            return result
    except TimeoutError:
        raise AssertionError(f"It did not come to that in {DEADLINE:g} s; last: {result!r}") from None


class Queue:
    """Reads the database on its own connection, and waits for expected changes."""

    def __init__(self, connection: sa.Connection) -> None:
        self.connection = connection

    def sql(self, statement: str, **parameters: Any) -> Any:
        """Execute a statement, and return the first value of the first row, if any."""
        result = self.connection.execute(sa.text(statement), parameters)
        return result.scalar() if result.returns_rows else None

    async def ddl(self, statement: str) -> None:
        """Change a table, in another thread. DDL waits for the worker's transactions, which wait for the event loop."""
        await soon(asyncio.to_thread(self.sql, statement))

    def row(self, job_id: int) -> dict[str, Any]:
        """Return all columns of a job."""
        statement = sa.text("SELECT * FROM procrastinate_jobs WHERE id = :id")
        return dict(self.connection.execute(statement, {"id": job_id}).one()._mapping)

    def status(self, job_id: int) -> Status | None:
        """Return the status of a job."""
        return core.get_job_status(self.connection, job_id)

    def statuses(self) -> dict[str, int]:
        """Return the number of jobs by status."""
        statement = sa.text("SELECT status::text, count(*) AS jobs FROM procrastinate_jobs GROUP BY 1")
        return {row.status: row.jobs for row in self.connection.execute(statement)}

    def events(self, job_id: int) -> list[str]:
        """Return the events of a job, in order."""
        statement = sa.text("SELECT type::text FROM procrastinate_events WHERE job_id = :id ORDER BY id")
        return list(self.connection.execute(statement, {"id": job_id}).scalars())

    async def reaches(self, job_id: int, *statuses: Status) -> Status:
        """Wait until a job has one of these statuses."""
        try:
            await until(lambda: self.status(job_id) in statuses)
        except AssertionError as error:
            error.add_note(f"Job {job_id} of:\n{describe(self.connection)}")
            raise
        status = self.status(job_id)
        assert status is not None
        return status

    async def succeeded(self, *job_ids: int) -> None:
        """Wait until the jobs have succeeded."""
        for job_id in job_ids:
            status = await self.reaches(job_id, Status.SUCCEEDED, Status.FAILED, Status.ABORTED)
            assert status is Status.SUCCEEDED, f"Job {job_id}: {status}"

    async def failed(self, *job_ids: int) -> None:
        """Wait until the jobs have failed."""
        for job_id in job_ids:
            status = await self.reaches(job_id, Status.SUCCEEDED, Status.FAILED, Status.ABORTED)
            assert status is Status.FAILED, f"Job {job_id}: {status}"

    def backends(self, application: str = APPLICATION) -> list[int]:
        """Return the backend process ids of a worker's connections."""
        statement = sa.text(
            "SELECT pid FROM pg_stat_activity WHERE application_name = :name AND datname = current_database()"
        )
        return list(self.connection.execute(statement, {"name": application}).scalars())

    def is_listening(self, workers: int = 1) -> bool:
        """Return whether `workers` connections wait for notifications."""
        count: int = self.sql(
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE query LIKE 'LISTEN%' AND state = 'idle' AND datname = current_database()"
        )
        return count >= workers

    def kill_backends(self) -> int:
        """End all other connections, like a restart of the server, and return their number."""
        statement = sa.text(
            "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name <> ''"
        )
        return int(self.connection.execute(statement).scalar_one())


def pending_tasks() -> list[asyncio.Task[Any]]:
    """Return the tasks of the running event loop that have not ended. asyncio does not list those of workers.

    An event loop that has ended may leave tasks of jobs behind. They exist until Python collects the garbage.
    """
    loop = asyncio.get_running_loop()
    tasks = [one for one in gc.get_objects() if issubclass(type(one), asyncio.Task)]
    return [task for task in tasks if task.get_loop() is loop and not task.done()]


class RunningWorker:
    """A worker in the test's own event loop."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.task = asyncio.create_task(worker.run())

    @property
    def runs(self) -> int:
        """Return the number of running jobs, from their asyncio tasks."""
        return sum(task.get_name().startswith("process job ") for task in pending_tasks())

    async def ended(self) -> None:
        """Wait until the worker has ended by itself."""
        await soon(asyncio.shield(self.task))

    async def stopped(self) -> None:
        """Stop the worker gracefully, and wait for its end."""
        self.worker.stop()
        await self.ended()

    async def end_of_test(self) -> None:
        """Stop the worker. Cancel it and fail if it does not stop before the deadline."""
        self.worker.stop()
        done, _ = await asyncio.wait({self.task}, timeout=DEADLINE)
        if not done:
            self.task.cancel()
            await asyncio.wait({self.task}, timeout=1)
            self.task.cancel()
            await asyncio.wait({self.task}, timeout=1)
            raise AssertionError("The worker did not stop in time")
        if not self.task.cancelled():
            self.task.result()


class Workers:
    """Starts workers for an app, and stops them at the end of the test."""

    def __init__(self, app: App, database_url: str) -> None:
        self.app = app
        self._database_url = database_url
        self._running: list[RunningWorker] = []
        self._listening = 0
        self._connectors: list[WorkerConnector] = []

    def start(self, app: App | None = None, **options: Any) -> RunningWorker:
        """Start a worker. By default it is notified of jobs and never polls."""
        defaults: dict[str, Any] = {
            "fetch_job_polling_interval": NEVER,
            "abort_job_polling_interval": NEVER,
            "install_signal_handlers": False,
        }
        running = RunningWorker(Worker(app or self.app, **defaults | options))
        self._running.append(running)
        return running

    async def listening(self, queue: Queue, app: App | None = None, **options: Any) -> RunningWorker:
        """Start a worker, and wait until it listens for notifications."""
        running = self.start(app, **options)
        self._listening += 1
        await until(lambda: queue.is_listening(self._listening))
        return running

    async def run(self, **options: Any) -> Worker:
        """Run a worker until nothing is left to do."""
        running = self.start(**{"wait": False} | options)
        await running.ended()
        return running.worker

    async def another_app(self, application: str = APPLICATION) -> App:
        """Return an app with the same tasks on separate connections, as in another process."""
        connector = connector_for(self._database_url, application)
        self._connectors.append(connector)
        app = self.app.with_connector(connector)
        await app.open_async()
        return app

    async def end_of_test(self) -> None:
        """Stop all workers."""
        try:
            for running in self._running:
                await running.end_of_test()
        finally:
            for connector in self._connectors:
                await connector.close_async()


class WorkerThread:
    """A worker in a thread with its own event loop, which its tasks may block."""

    def __init__(self, app: App, database_url: str, application: str = APPLICATION, **options: Any) -> None:
        self.app = app.with_connector(connector_for(database_url, application))
        self.worker = Worker(self.app, **options)
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    async def stopped(self) -> None:
        """Stop the worker from the test's thread, and wait for its thread."""
        self.worker.stop()
        await asyncio.to_thread(self._thread.join, DEADLINE)
        assert not self._thread.is_alive(), "The worker did not stop in time"
        if self.error is not None:
            raise self.error

    def _run(self) -> None:
        try:
            asyncio.run(self._open_and_run())
        except BaseException as error:
            self.error = error

    async def _open_and_run(self) -> None:
        async with self.app.open_async():
            await self.worker.run()


def job_of(queue: Queue, job_id: int) -> Job:
    """Return a stored job."""
    row = queue.row(job_id)
    return Job.from_row(row)
