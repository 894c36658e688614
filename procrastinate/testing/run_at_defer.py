"""Immediate mode: jobs run when they are deferred."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from procrastinate._checks.times import utcnow
from procrastinate.app import App
from procrastinate.testing.bound_connector import BoundConnector
from procrastinate.testing.job_runner import Runner, RunOptions, is_running
from procrastinate.worker import WorkerOptions, with_lists


class RunAtDefer:
    """Runs due jobs whenever jobs are deferred, as if an idle worker were waiting.

    The job is stored first. The caller then runs and records it, on the connection and inside the transaction that
    deferred it. Jobs that it defers run after it, before the outermost ``defer`` returns. A job scheduled for later or
    waiting for a retry stays waiting, and so does a job whose lock is held. Immediate mode starts at once and ends with
    :meth:`stop` or a ``with`` block.

    Parameters
    ----------
    app:
        The app whose jobs run.
    raise_errors:
        If True, ``defer`` raises the exception of a job that finally fails. If False, the job is recorded as failed and
        ``defer`` returns, as it does with a worker.
    worker_options:
        Worker options that tasks and middleware can see, and ``delete_jobs``.
    """

    def __init__(self, app: App, *, raise_errors: bool = True, worker_options: WorkerOptions | None = None) -> None:
        self._app = app
        options = with_lists(worker_options or WorkerOptions())  # each run reads them
        self._options = RunOptions(raise_errors=raise_errors, worker_options=options)
        self._before = app.job_manager.defer_hook
        app.job_manager.defer_hook = self

    def stop(self) -> None:
        """Stop running jobs and restore the previous mode."""
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
        """Run due jobs, for sync code. Jobs that a job defers run after it."""
        if is_running.get():
            return
        if connection is not None:
            with self._app.replace_connector(BoundConnector(self._app.connector, connection)):
                self.deferred(None)
            return
        self._runner(is_async=False).run_sync()

    async def deferred_async(self, connection: Any | None) -> None:
        """Run due jobs like :meth:`deferred`, for async code."""
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
