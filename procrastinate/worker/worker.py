"""A worker, as apps, tasks and middleware know it: its options, its name, a way to stop it."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

# A worker needs it in any case. A program with a worker in a thread hung once. While one thread imported it, a
# statement of the other failed in the ORM's half-loaded `_inspect_mapped_object`.
import sqlalchemy.ext.asyncio  # noqa: F401

from procrastinate import exceptions
from procrastinate._text.logs import get_logger
from procrastinate.job_context import queues_display
from procrastinate.jobs import DeleteJobCondition, Job
from procrastinate.manager import JobManager
from procrastinate.middleware import TaskMiddleware, WorkerMiddleware
from procrastinate.tasks import Task
from procrastinate.worker import worker_settings
from procrastinate.worker.fetch.first_look import finds_nothing
from procrastinate.worker.loop_task import LoopTask
from procrastinate.worker.option_attribute import Option
from procrastinate.worker.own_context import OwnContext
from procrastinate.worker.processes import exits, forked_children, signals
from procrastinate.worker.registration import Registration
from procrastinate.worker.run.run_reports import RunReports
from procrastinate.worker.run.shared_slots import SharedSlots
from procrastinate.worker.run.unknown_tasks import UnknownTasks
from procrastinate.worker.schema_wait import wait_until_ready
from procrastinate.worker.services.limit_definer import LimitDefiner
from procrastinate.worker.services.teller import identity_of
from procrastinate.worker.worker_run import WorkerRun

if TYPE_CHECKING:
    from procrastinate.app import App

R = TypeVar("R")


class Worker:
    """Runs jobs. ``app.run_worker(...)`` makes a worker with these options and runs it once.

    Each option is also an attribute (``worker_name`` for ``name``), which may be set before the run.

    Parameters
    ----------
    queues:
        Names of the queues whose jobs it runs. ``None`` means all.
    name:
        A name for the logs.
    concurrency:
        Number of jobs that run at the same time.
    wait:
        If true, it waits for jobs when there are none. If false, it returns.
    fetch_job_polling_interval, abort_job_polling_interval:
        Seconds between two looks into the database, in case a notification is lost.
    shutdown_graceful_timeout:
        Seconds that running jobs get when the worker stops, before they are asked to stop. ``None`` means no limit.
    listen_notify:
        If true, it listens for notifications of new jobs, on a connection of its own.
    delete_jobs:
        Which finished jobs are deleted: ``"never"``, ``"successful"`` or ``"always"``.
    additional_context:
        A dict of which each job gets a copy, as ``context.additional_context``.
    install_signal_handlers:
        If true, it stops gracefully at SIGINT and SIGTERM.
    update_heartbeat_interval, stalled_worker_timeout:
        Seconds between two heartbeats, and seconds without one after which other workers count this one as dead.
    max_rescues:
        A job that was rescued this many times fails instead of running again.
    max_jobs:
        It stops gracefully after it has started this many jobs, retries included. A supervisor then starts a fresh
        process. ``None`` means no limit.
    prefetch:
        If true, and while jobs take milliseconds, it fetches more jobs than can start at once: as many as end within
        20 ms. They are ``doing``. Any that have not started after 100 ms, or when the worker stops, are released.
    task_middleware, worker_middleware:
        Functions around each task, sync or async as the task is, and async functions around each job.
    store_errors:
        If true, a job keeps the exception that ended an attempt: class, message, and traceback without the values of
        variables. ``app.job_manager.get_result(job_id).errors`` and the admin show it.
    wait_for_schema:
        If true, it waits until the schema is applied, and logs a warning each minute. If false, or with
        ``wait=False``, it ends with ``SchemaNotApplied``.
    legacy_worker_timeout:
        Seconds without a heartbeat after which a worker of Procrastinate 3.x counts as dead. Such a worker sends none
        while it finishes its last jobs.
    unknown_task_timeout:
        Seconds for which jobs of a task that this worker does not know wait for a worker that does, as in a rolling
        deploy. The time begins with the first job of that task in this worker. After it the jobs fail. With 0 they fail
        at once.
    """

    worker_name = Option("name")
    queues = Option()
    concurrency = Option()
    wait = Option()
    fetch_job_polling_interval = Option()
    abort_job_polling_interval = Option()
    shutdown_graceful_timeout = Option()
    listen_notify = Option()
    delete_jobs = Option()
    additional_context = Option()
    install_signal_handlers = Option()
    update_heartbeat_interval = Option()
    stalled_worker_timeout = Option()
    max_rescues = Option()
    max_jobs = Option()
    prefetch = Option()
    task_middleware = Option()
    worker_middleware = Option()
    store_errors = Option()
    unknown_task_timeout = Option()
    legacy_worker_timeout = Option()
    wait_for_schema = Option()

    def __init__(
        self,
        app: App,
        queues: Iterable[str] | None = None,
        name: str | None = worker_settings.WORKER_NAME,
        concurrency: int = worker_settings.WORKER_CONCURRENCY,
        wait: bool = True,
        fetch_job_polling_interval: float = worker_settings.FETCH_JOB_POLLING_INTERVAL,
        abort_job_polling_interval: float = worker_settings.ABORT_JOB_POLLING_INTERVAL,
        shutdown_graceful_timeout: float | None = None,
        listen_notify: bool = True,
        delete_jobs: str | DeleteJobCondition | None = None,
        additional_context: dict[str, Any] | None = None,
        install_signal_handlers: bool = True,
        update_heartbeat_interval: float = worker_settings.UPDATE_HEARTBEAT_INTERVAL,
        stalled_worker_timeout: float = worker_settings.STALLED_WORKER_TIMEOUT,
        task_middleware: list[TaskMiddleware] | None = None,
        worker_middleware: list[WorkerMiddleware] | None = None,
        max_rescues: int = worker_settings.MAX_RESCUES,
        max_jobs: int | None = None,
        store_errors: bool = True,
        prefetch: bool = True,
        unknown_task_timeout: float = worker_settings.UNKNOWN_TASK_TIMEOUT,
        legacy_worker_timeout: float = worker_settings.LEGACY_WORKER_TIMEOUT,
        wait_for_schema: bool = True,
    ) -> None:
        self.app = app
        settings = worker_settings.WorkerSettings(
            queues=worker_settings.read_queues(queues),
            name=name or worker_settings.WORKER_NAME,
            concurrency=concurrency,
            wait=wait,
            fetch_job_polling_interval=fetch_job_polling_interval,
            abort_job_polling_interval=abort_job_polling_interval,
            shutdown_graceful_timeout=shutdown_graceful_timeout,
            listen_notify=listen_notify,
            delete_jobs=worker_settings.read_delete_jobs(delete_jobs),
            additional_context=additional_context or {},
            install_signal_handlers=install_signal_handlers,
            update_heartbeat_interval=update_heartbeat_interval,
            stalled_worker_timeout=stalled_worker_timeout,
            max_rescues=max_rescues,
            max_jobs=max_jobs,
            prefetch=prefetch,
            task_middleware=tuple(task_middleware or ()),
            worker_middleware=tuple(worker_middleware or ()),
            store_errors=store_errors,
            unknown_task_timeout=unknown_task_timeout,
            legacy_worker_timeout=legacy_worker_timeout,
            wait_for_schema=wait_for_schema,
        )
        self.use_settings(settings)
        self.worker_id: int | None = None
        self.stop_requested = False
        self.ends_at_once = False
        """True after a second signal or cancellation. The worker then waits for no job."""
        self._loop_task: LoopTask | None = None
        self.own_context = OwnContext(contextvars.Context())
        """The context variables that the program had set when it started the worker. Each job starts with a copy."""
        self.shared_slots: SharedSlots | None = None
        """The slots that this worker shares with workers of other databases, besides its own ``concurrency``."""
        self.reports = RunReports()
        """What the running jobs report."""
        self._current_run: WorkerRun | None = None

    @property
    def has_started(self) -> bool:
        """True once :meth:`run` was called."""
        return self._loop_task is not None

    def use_settings(self, settings: worker_settings.WorkerSettings) -> None:
        """Use these options, and the logger with the name in them."""
        self.settings = settings
        self.unknown_tasks = UnknownTasks(settings.unknown_task_timeout)
        self.logger = get_logger(_logger_name(settings.name))

    def stop(self) -> None:
        """Start no more jobs, and return from :meth:`run` when the running ones have ended. Any thread may call it."""
        self.stop_requested = True
        if self._loop_task is not None:
            self._loop_task.call_soon(self._stop_session)

    @property
    def _stop_event(self) -> _StopEvent:
        """Stand in for the event of 3.x, which programs set."""
        return _StopEvent(self)

    def _stop_session(self) -> None:
        if self._current_run is not None:
            self._current_run.stop()
        elif self._loop_task is not None:
            self._loop_task.cancel_step()

    def stop_with_supervisor(self) -> None:
        """Stop as at a first signal: the next one ends the worker at once."""
        signals.note_stop()
        self.stop()

    def stop_at_signal(self) -> None:
        """Stop gracefully. Called by a signal handler."""
        self.stop()

    def end_at_signal(self, *, cancel: bool) -> None:
        """End at once. Called by a signal handler.

        Parameters
        ----------
        cancel:
            False if the program cancels the worker by itself.
        """
        self.ends_at_once = True
        if self._current_run is not None:
            self._current_run.hasten()
        if cancel and self._loop_task is not None:
            self._loop_task.cancel_soon()

    def find_task(self, task_name: str) -> Task[Any, Any, Any]:
        """Return the task with this name.

        Raises
        ------
        TaskNotFound
            The app has none.
        """
        return _require_task(task_name, self.app.find_task(task_name))

    def find_task_of(self, job: Job) -> Task[Any, Any, Any]:
        """Return the task that a job runs.

        Raises
        ------
        TaskNotFound
            The app has none.
        """
        return _require_task(job.task_name, self.app.find_task_of(job))

    def log_context(self) -> dict[str, Any]:
        """Return the fields of the worker for the ``extra`` of a log record."""
        queues = None if self.settings.queues is None else list(self.settings.queues)
        return {"name": self.settings.name, "worker_id": self.worker_id, "job_id": None, "queues": queues}

    async def run(self, on_start: Callable[[], None] | None = None) -> None:
        """Run jobs until stopped. A cancellation stops the worker gracefully.

        Parameters
        ----------
        on_start:
            Called when the worker is registered. From then on, nothing can keep it from starting.

        Raises
        ------
        DatabaseUnavailable, SchemaNotApplied, MissingGrant
            Only at the start. The worker waits for a database that goes away later. It also waits for a schema that is
            not there, unless ``wait`` or ``wait_for_schema`` is off.
        """
        variables = contextvars.copy_context()
        self.own_context = OwnContext(variables)
        loop_task = self._loop_task = LoopTask(variables)
        with forked_children.released(), self._signal_handlers(), exits.contained(loop_task.loop, variables):
            has_nothing_to_do = await self._unless_stopped(loop_task, finds_nothing(self.app, self.settings))
            if has_nothing_to_do:
                self._log_first_look(on_start)
            elif has_nothing_to_do is not None:
                await self._run_connected(loop_task, on_start)

    async def _run_connected(self, loop_task: LoopTask, on_start: Callable[[], None] | None) -> None:
        connector = self.app.connector.get_worker_connector()
        owned = connector is not self.app.connector
        if owned:
            await connector.open_async()
        try:
            await self._run_session(loop_task, JobManager(connector, self.app.job_manager.hooks), on_start)
        finally:
            if owned:
                await connector.close_async()

    def _log_first_look(self, on_start: Callable[[], None] | None) -> None:
        """Log what a worker that has run logs."""
        queues = queues_display(self.settings.queues)
        for action, message in (("start_worker", "Starting worker on %s"), ("stop_worker", "Stopped worker on %s")):
            with contextlib.suppress(BaseException):  # a log handler that raises must not end the program
                self.logger.info(message, queues, extra={"action": action, "worker": self.log_context()})
        if on_start is not None:
            on_start()

    async def _run_session(self, loop_task: LoopTask, manager: JobManager, on_start: Callable[[], None] | None) -> None:
        limit_definer = LimitDefiner(manager, self.app, self.logger)
        registration = Registration(manager, self.settings.terms, identity_of(self.settings, self.app.tasks))
        worker_id = None
        try:
            worker_id = await self._unless_stopped(loop_task, self._register(manager, limit_definer, registration))
        finally:
            if worker_id is None:
                await registration.take_back()
        self.worker_id = worker_id
        if worker_id is None:
            return
        self._current_run = WorkerRun(self, manager, limit_definer)
        if on_start is not None:
            on_start()
        await self._current_run.run()

    async def _unless_stopped(self, loop_task: LoopTask, step: Coroutine[Any, Any, R]) -> R | None:
        """Take a step of the start. Return ``None`` if the worker is stopped before the database has answered."""
        try:
            return await loop_task.take_step(step)
        except asyncio.CancelledError as error:
            if exits.ends_task(error):
                raise
            self.logger.info("Stopping worker before it has started", extra={"action": "stopping_worker"})
            return None

    async def _register(self, manager: JobManager, limit_definer: LimitDefiner, registration: Registration) -> int:
        waits = self.settings.wait and self.settings.wait_for_schema
        await wait_until_ready(manager, waits=waits, logger=self.logger)
        await limit_definer.define()
        return await registration.register()

    def _signal_handlers(self) -> contextlib.AbstractContextManager[None]:
        if not self.settings.install_signal_handlers:
            return contextlib.nullcontext()
        return signals.handled(self)


class _StopEvent:
    """Stops a worker."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def set(self) -> None:
        """Stop the worker, like :meth:`Worker.stop`."""
        self._worker.stop()

    def is_set(self) -> bool:
        """Return true if the worker was asked to stop."""
        return self._worker.stop_requested


def _logger_name(worker_name: str) -> str:
    """Return ``procrastinate.worker`` and the name. The default name would only say "worker" again."""
    first, _, rest = worker_name.partition(".")
    if first == worker_settings.WORKER_NAME:
        return f"procrastinate.worker.{rest}" if rest else "procrastinate.worker"
    return f"procrastinate.worker.{worker_name}"


def _require_task(name: str, task: Task[Any, Any, Any] | None) -> Task[Any, Any, Any]:
    if task is None:
        raise exceptions.TaskNotFound(
            f"Task {name!r} is not registered in this app: is the module that declares it imported "
            "(import_paths), and did it keep its name (aliases)?"
        )
    return task
