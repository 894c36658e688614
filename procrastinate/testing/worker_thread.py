"""A worker for tests that commit, in a thread of the test process."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self, Unpack

from procrastinate._checks.times import utcnow
from procrastinate._durations import setting
from procrastinate.app import App
from procrastinate.job_context import JobContext
from procrastinate.jobs import Job, Status
from procrastinate.manager import JobManager
from procrastinate.testing.default_app import find_app
from procrastinate.worker import Worker, WorkerOptions, worker_options

_LOOK_INTERVAL = 0.02
_START_TIMEOUT = 30.0


class WorkerThread:
    """A real worker, with its own connections, in a thread with its own event loop::

        with WorkerThread(app) as worker:
            send_mail.defer(to="you")
            worker.wait_until_done()

    It sees committed data only: nothing of a Django ``TestCase``, everything of a ``TransactionTestCase`` or a live
    server.

    Parameters
    ----------
    app:
        The app or its dotted path. ``None`` means the app of the Django project.
    options:
        Options of ``app.run_worker``.

    Attributes
    ----------
    deletes_jobs:
        True to delete all jobs, history and workers after the worker stops. The default is False.
    """

    def __init__(self, app: App | str | None = None, **options: Unpack[WorkerOptions]) -> None:
        self.app = find_app(app)
        self.deletes_jobs = False
        self._options: WorkerOptions = {
            "install_signal_handlers": False,
            "wait_for_schema": False,
            **options,
            "wait": True,
        }
        self._worker: Worker | None = None
        self._error: BaseException | None = None
        self._errors_by_job: dict[int, BaseException] = {}
        self._thread = threading.Thread(target=self._run_thread, name="procrastinate-test-worker", daemon=True)

    def start(self) -> Self:
        """Start the worker and wait until it is registered.

        Raises
        ------
        BaseException
            The worker could not start.
        """
        self._thread.start()
        deadline = time.monotonic() + _START_TIMEOUT
        while not self._is_registered():
            self._raise_own_error()
            if time.monotonic() > deadline:
                raise TimeoutError("The worker has not started: is the database running?")
            time.sleep(_LOOK_INTERVAL)
        return self

    def stop(self, timeout: float = 30.0) -> None:
        """Stop the worker after its running jobs.

        Raises
        ------
        TimeoutError
            The jobs have not ended after ``timeout`` seconds.
        """
        if self._worker is not None:
            self._worker.stop()
        self._thread.join(timeout)
        if self._thread.is_alive():
            raise TimeoutError(
                f"The worker has not stopped within {setting(timeout)}: one of its jobs is still running"
            )
        self._raise_own_error()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def wait_until_done(self, timeout: float = 30.0, *, raise_errors: bool = True) -> None:
        """Wait until no job is running or due. Jobs scheduled for later do not count.

        Parameters
        ----------
        timeout:
            The maximum wait in seconds.
        raise_errors:
            True to raise the exception of a job that has finally failed.

        Raises
        ------
        TimeoutError
            Jobs are left. The message names them.
        """
        deadline = time.monotonic() + timeout
        while self._is_at_work(timeout, deadline):
            time.sleep(_LOOK_INTERVAL)
        if raise_errors:
            self._raise_error_of_job()

    async def wait_until_done_async(self, timeout: float = 30.0, *, raise_errors: bool = True) -> None:  # noqa: ASYNC109
        """Wait like :meth:`wait_until_done`, in an async test."""
        # One look at a time, because the worker also needs the thread of Django's asynchronous ORM.
        caller = self.app.caller_thread()
        deadline = time.monotonic() + timeout
        while await caller.call(lambda: self._is_at_work(timeout, deadline)):  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_INTERVAL)
        if raise_errors:
            await caller.call(self._raise_error_of_job)

    def _is_at_work(self, timeout: float, deadline: float) -> bool:
        self._raise_own_error()
        if time.monotonic() < deadline and self._has_running():
            return True
        left = self._unfinished()
        if not left:
            return False
        if time.monotonic() > deadline:
            names = ", ".join(f"{job.call_string} ({job.status})" for job in left[:5])
            raise TimeoutError(
                f"{len(left)} jobs have not ended within {setting(timeout)}: {names}. A worker does not see the jobs "
                "of an open transaction, and runs only the jobs of its queues"
            )
        return True

    def _has_running(self) -> bool:
        """Return true if a job is running. This check is cheap, and most of the time it is enough."""
        return any(queue["doing"] for queue in self.app.job_manager.list_queues(status=Status.DOING.value))

    def _unfinished(self) -> list[Job]:
        """Return running and due jobs from one query. Between two queries a running job may defer another and end."""
        return [job for job in self.app.job_manager.list_jobs() if job.status == "doing" or _is_due(job)]

    def _raise_error_of_job(self) -> None:
        for job in self.app.job_manager.list_jobs(status=Status.FAILED.value):
            error = self._errors_by_job.pop(job.id or 0, None)
            if error is not None:
                error.add_note(f"Raised by job {job.call_string}, in the worker of the test")
                raise error

    def _raise_own_error(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error

    # In the thread

    def _run_thread(self) -> None:
        try:
            asyncio.run(self._run())
        except BaseException as error:
            self._error = error

    async def _run(self) -> None:
        async with self.app.open_async():
            self._worker = self.app.make_worker(**self._options_with_errors())
            await self._worker.run()
            await self.app.caller_thread().release()
            if self.deletes_jobs:
                await self._delete_everything()

    def _options_with_errors(self) -> WorkerOptions:
        """Return the options of the worker, with a middleware around those that the app and the test have."""
        given: WorkerOptions = {**worker_options(self.app.worker_defaults), **self._options}
        return {**self._options, "worker_middleware": [self._keep_error, *(given.get("worker_middleware") or ())]}

    async def _delete_everything(self) -> None:
        """Delete on a separate connection, because no connection of this thread may stay open."""
        connector = self.app.connector.get_worker_connector()
        await connector.open_async()
        try:
            await JobManager(connector).delete_everything_async()
        finally:
            await connector.close_async()

    def _is_registered(self) -> bool:
        return self._worker is not None and self._worker.worker_id is not None

    async def _keep_error(self, call_next: Callable[[], Awaitable[Any]], context: JobContext, worker: Worker) -> Any:
        try:
            return await call_next()
        except BaseException as error:
            self._errors_by_job[context.job.id or 0] = error
            raise


def _is_due(job: Job) -> bool:
    return job.status == "todo" and (job.scheduled_at is None or job.scheduled_at <= utcnow())
