"""Immediate mode: jobs run when they are deferred."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from procrastinate.app import App
from procrastinate.testing.bound_connector import BoundConnector
from procrastinate.testing.runner import Runner, RunOptions, is_running
from procrastinate.timing import utcnow
from procrastinate.worker import WorkerOptions


class RunAtDefer:
    """Runs what is due whenever jobs are deferred, as if an idle worker were waiting for them.

    The job is stored first, and is run and recorded by the caller, on the connection (inside the transaction) on which
    it was deferred. What it defers in its turn is run after it, before the outermost ``defer`` returns. A job that is
    scheduled for later, or is to be tried again later, stays waiting; one whose lock is held waits for it. Begins at
    once, and ends with :meth:`stop`, or with a ``with`` block.

    Parameters
    ----------
    app:
        Whose jobs.
    raise_errors:
        Let ``defer`` raise what a job raised that has failed for good. Otherwise the job is recorded as failed, and
        ``defer`` returns, as it does with a worker.
    worker_options:
        Options of a worker that tasks and middleware can see, and ``delete_jobs``.
    """

    def __init__(self, app: App, *, raise_errors: bool = True, worker_options: WorkerOptions | None = None) -> None:
        self._app = app
        self._options = RunOptions(raise_errors=raise_errors, worker_options=worker_options or WorkerOptions())
        self._before = app.job_manager.defer_hook
        app.job_manager.defer_hook = self

    def stop(self) -> None:
        """Let deferred jobs wait again, as before."""
        self._app.job_manager.defer_hook = self._before

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def deferred(self, connection: Any | None) -> None:
        """Run what is due, for sync code. A job that defers is followed by the jobs that it deferred."""
        if is_running.get():
            return
        if connection is not None:
            with self._app.replace_connector(BoundConnector(self._app.connector, connection)):
                self.deferred(None)
            return
        self._runner(is_async=False).run_sync()

    async def deferred_async(self, connection: Any | None) -> None:
        """As :meth:`deferred`, for async code."""
        if is_running.get():
            return
        if connection is not None:
            with self._app.replace_connector(BoundConnector(self._app.connector, connection)):
                await self.deferred_async(None)
            return
        await self._runner(is_async=True).run()

    def _runner(self, *, is_async: bool) -> Runner:
        caller = self._app.caller_thread()
        return Runner(self._app, caller, self._options, utcnow, lambda _: None, is_async=is_async)
