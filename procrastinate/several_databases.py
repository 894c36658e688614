"""One process that runs the jobs of several databases: an app for each, and one number of slots for all."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Unpack

from procrastinate import exceptions
from procrastinate._checks.amounts import read_count
from procrastinate._text.logs import get_logger
from procrastinate.app import App
from procrastinate.worker import WORKER_NAME, Worker, WorkerOptions, with_lists, worker_options
from procrastinate.worker.backoff import Backoff, Repeats
from procrastinate.worker.processes import exits, signals
from procrastinate.worker.run.shared_slots import SharedSlots

logger = get_logger(__name__)


def run_workers(apps: Iterable[App], *, slots: int, **options: Unpack[WorkerOptions]) -> None:
    """Open the apps, run a worker for each until they stop, and close the apps.

    Parameters
    ----------
    apps:
        The apps, one for each database.
    slots:
        The number of jobs that run at the same time, over all databases. If several databases have jobs, each gets an
        equal share.
    options:
        The options of :class:`~procrastinate.worker.Worker`. They override the ``worker_defaults`` of each app.
        ``concurrency``, if given, limits the jobs that run at the same time for one database.

    Raises
    ------
    TypeError, ValueError
        ``slots`` is no count, there is no app, an app is named twice, or an option is invalid.
    ExceptionGroup
        Workers have ended with errors, and all others have ended, too. With ``wait=False``, a database that cannot be
        reached is such an error, and the jobs of the other databases have run. Otherwise its worker tries again.
    """
    exits.run(_run_opened(_distinct(apps), slots, options))


async def run_workers_async(apps: Iterable[App], *, slots: int, **options: Unpack[WorkerOptions]) -> None:
    """Do the same as :func:`run_workers` in the running event loop, with apps that are open in it.

    Cancelling this coroutine stops all workers gracefully.
    """
    await _Workers(_distinct(apps), slots, options).run()


async def _run_opened(apps: Sequence[App], slots: int, options: WorkerOptions) -> None:
    workers = _Workers(apps, slots, options)
    async with _opened(apps):
        await workers.run()


@contextlib.asynccontextmanager
async def _opened(apps: Sequence[App]) -> AsyncIterator[None]:
    async with contextlib.AsyncExitStack() as stack:
        for app in apps:
            await stack.enter_async_context(app.open_async())
        yield


def _distinct(apps: Iterable[App]) -> list[App]:
    listed = list(apps)
    for app in listed:
        if not isinstance(app, App):
            raise TypeError(f"apps must be a list of procrastinate.App, not of {type(app).__name__}")
    if not listed:
        raise ValueError("apps is empty: name at least one app")
    if len(set(map(id, listed))) < len(listed):
        raise ValueError("apps names an app twice: give each database an app of its own")
    return listed


class _Workers:
    """The workers of several apps, which start and stop together."""

    def __init__(self, apps: Sequence[App], slots: int, options: WorkerOptions) -> None:
        self._apps = apps
        self._slots = SharedSlots(read_count("slots", slots, at_least=1))
        self._options = with_lists(options)  # several workers read them
        self._is_stopping = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._workers = [self._make_worker(number) for number in range(len(apps))]
        self._handles_signals = all(self._given(app).get("install_signal_handlers", True) for app in apps)

    def _given(self, app: App) -> WorkerOptions:
        return {**worker_options(app.worker_defaults), **self._options}

    def _make_worker(self, number: int) -> Worker:
        app = self._apps[number]
        options = self._given(app)
        if options.get("max_jobs") is not None:
            raise ValueError("max_jobs is for a worker of one database: leave it out")
        options.setdefault("concurrency", self._slots.total)
        options["name"] = f"{options.get('name') or WORKER_NAME}.{number + 1}"
        options["install_signal_handlers"] = False  # they are stopped together, by this object
        worker = app.make_worker(**options)
        worker.shared_slots = self._slots
        return worker

    async def run(self) -> None:
        """Run all workers until they have ended.

        Raises
        ------
        ExceptionGroup
            Some have ended with an error.
        """
        handled = signals.handled(self) if self._handles_signals else contextlib.nullcontext()
        with handled:
            serving = [asyncio.create_task(self._serve(number)) for number in range(len(self._apps))]
            for task in serving:
                task.add_done_callback(self._ended)
            was_cancelled = await _wait_for(serving)
        errors = [error for task in serving if not task.cancelled() and (error := task.exception()) is not None]
        if errors:
            raise BaseExceptionGroup("Workers ended with errors", errors)
        if was_cancelled:
            raise asyncio.CancelledError

    async def _serve(self, number: int) -> None:
        """Run the worker of an app. A database that is away at the start, or refuses the worker, is tried again."""
        backoff, repeats = Backoff(), Repeats()
        while not self._is_stopping.is_set():
            worker = self._workers[number]
            try:
                await worker.run()
                return
            except exceptions.ConnectorException as error:
                if not worker.settings.wait:
                    raise
                self._workers[number] = self._make_worker(number)
                level = repeats.level(error, self._loop.time())
                await self._pause(worker, backoff.wait_after(error), level, error)

    async def _pause(self, worker: Worker, seconds: float, level: int, error: exceptions.ConnectorException) -> None:
        message = "The worker cannot start, and tries again in %.1f s. Those of other databases go on. %s"
        worker.logger.log(level, message, seconds, error, extra={"action": "start_worker_later"})
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._is_stopping.wait()

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Stop the others after an error that has nothing to do with a database, and after a cancellation."""
        error = None if task.cancelled() else task.exception()
        if task.cancelled() or not isinstance(error, exceptions.ConnectorException | None):
            self._stop()

    def _stop(self) -> None:
        self._is_stopping.set()
        for worker in self._workers:
            worker.stop()

    def stop_at_signal(self) -> None:
        """Stop all workers gracefully. Called by a signal handler."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: all have ended
            self._loop.call_soon_threadsafe(self._stop)

    def end_at_signal(self, *, cancel: bool) -> None:
        """End all workers at once. Called by a signal handler."""
        for worker in self._workers:
            worker.end_at_signal(cancel=cancel)


async def _wait_for(tasks: Sequence[asyncio.Task[None]]) -> bool:
    """Wait for the end of all tasks, and return whether this was cancelled. Each cancellation cancels all tasks."""
    was_cancelled = False
    while not all(task.done() for task in tasks):
        try:
            await asyncio.wait(tasks)
        except asyncio.CancelledError:
            was_cancelled = True
            for task in tasks:
                task.cancel()
    return was_cancelled
