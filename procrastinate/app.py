"""The app: a set of tasks and the database connection that defers and runs their jobs."""

from __future__ import annotations

import contextlib
import contextvars
import copy
from collections.abc import Awaitable, Generator, Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Self, TypeVar, Unpack

from procrastinate import builtin_tasks, exceptions
from procrastinate._caller_thread import CallerThread, PlainCallerThread
from procrastinate._checks.amounts import read_count
from procrastinate._functions import import_path
from procrastinate._functions.declarations import read_declaration
from procrastinate._functions.signature import check_hook
from procrastinate._text.logs import get_logger
from procrastinate.blueprints import Blueprint
from procrastinate.builtin_tasks import MIN_RETENTION_HOURS
from procrastinate.connector import BaseConnector, as_connector, openings_in_loop, openings_of
from procrastinate.core.defaults import LARGEST_COUNT
from procrastinate.defer_hooks import DeferHook
from procrastinate.jobs import Job, JobDeferrer
from procrastinate.limits import Limit, read_limits_of_queues
from procrastinate.manager import JobManager, Limits
from procrastinate.periodic import PeriodicDefaults, read_max_delay
from procrastinate.queues import Queues
from procrastinate.schema import SchemaManager
from procrastinate.tasks import ConfigureTaskOptions, Task, configure_task
from procrastinate.worker import WorkerDefaults, WorkerOptions, command_settings, with_lists, worker_options
from procrastinate.workflows.graph import IfFailed, Workflow
from procrastinate.workflows.operations import Workflows
from procrastinate.workflows.running import RunningStep

if TYPE_CHECKING:
    from procrastinate.inspection import Inspect
    from procrastinate.worker import Worker

logger = get_logger(__name__)


H = TypeVar("H", bound=DeferHook)


class App(Blueprint):
    """A set of tasks and the connection to the database that stores their jobs.

    Parameters
    ----------
    connector:
        A connector, a database URL, or a SQLAlchemy ``Engine`` or ``AsyncEngine``.
    read_connector:
        The same for a replica, or a :class:`~procrastinate.replicas.ReadReplica`. Lists, statistics, ``app.inspect``,
        the pages of the dashboard and metrics are read there. Everything else uses ``connector``.
    import_paths:
        Dotted names of the modules that declare tasks. A worker imports them before it starts.
    worker_defaults:
        Default options for ``run_worker`` and the worker command. The command also reads ``processes`` and ``uvloop``.
    periodic_defaults:
        ``{"max_delay": seconds}``, 600 by default. A starting worker defers the last tick of a periodic task only if
        the tick is at most this old.
    check_arguments:
        If true, ``defer`` raises ``TypeError`` for arguments that do not fit the signature of the task's function.
    log_arguments:
        Whether log records show the arguments and the results of jobs. The default shows them if the logger
        ``procrastinate`` writes debug messages, because they often contain personal data. A task turns them off for
        its own jobs with ``@app.task(log_arguments=False)``.
    min_retention_hours:
        The built-in task ``remove_old_jobs`` keeps every finished job for at least this many hours, even if its
        arguments ask for less. The limit matters because a role that may only insert jobs can defer that task.
    limits:
        A :class:`~procrastinate.Limit` for each queue whose jobs are limited unless they have a limit of their own.

    Raises
    ------
    TypeError, ValueError
        ``limits`` has something else than limits of different queues, ``periodic_defaults`` or ``worker_defaults`` has
        an unknown option or an invalid value, or ``import_paths`` is a string.
    """

    def __init__(
        self,
        *,
        connector: Any,
        read_connector: Any = None,
        import_paths: Iterable[str] | None = None,
        worker_defaults: WorkerOptions | WorkerDefaults | None = None,
        periodic_defaults: PeriodicDefaults | None = None,
        check_arguments: bool = True,
        log_arguments: bool | None = None,
        min_retention_hours: int = MIN_RETENTION_HOURS,
        limits: Iterable[Limit] = (),
    ) -> None:
        super().__init__()
        self._limits_of_queues = read_limits_of_queues(limits)
        self.check_arguments = check_arguments
        self.log_arguments = log_arguments
        self.min_retention_hours = min(
            read_count("min_retention_hours", min_retention_hours, at_least=0), LARGEST_COUNT
        )
        self.connector: BaseConnector = as_connector(connector)
        if read_connector is not None:
            from procrastinate.replicas import with_replica  # most programs read from no replica

            self.connector = with_replica(self.connector, read_connector)
        self.import_paths = _read_import_paths(import_paths)
        self.worker_defaults: WorkerOptions | WorkerDefaults = with_lists(worker_defaults or WorkerOptions())
        self.periodic_defaults: PeriodicDefaults = periodic_defaults or {}
        read_max_delay(**self.periodic_defaults)
        self._check_worker_defaults()
        self._job_manager = JobManager(self.connector)
        self._register_builtin_tasks()

    def _check_worker_defaults(self) -> None:
        """Refuse invalid worker options now, so that the error points at their declaration and not at a later start."""
        if not self.worker_defaults:
            return
        from procrastinate.worker import Worker

        command_settings(self.worker_defaults)
        Worker(self, **worker_options(self.worker_defaults))

    @classmethod
    def from_path(cls, dotted_path: str) -> App:
        """Import and return the app at ``package.module.name``.

        Raises
        ------
        LoadFromPathError
            The path does not lead to an app.
        """
        return import_path.load_from_path(dotted_path, App)

    @property
    def job_manager(self) -> JobManager:
        """The :class:`~procrastinate.manager.JobManager`, with every operation on the queue."""
        return self._job_manager

    @job_manager.setter
    def job_manager(self, value: Any) -> NoReturn:
        raise AttributeError(
            "App.job_manager cannot be replaced: a worker makes its own. An outcome of a worker that no longer has the "
            "job is not recorded here, so no manager of yours is needed to fence it"
        )

    @property
    def limits(self) -> Limits:
        """The :class:`~procrastinate.manager.Limits`, which shows limits and changes their numbers."""
        return Limits(self._job_manager)

    def find_limit_of_queue(self, queue: str | None) -> Limit | None:
        """Return the limit for jobs of this queue that have none of their own, or ``None``."""
        return None if queue is None else self._limits_of_queues.get(queue)

    def list_limits(self) -> list[Limit]:
        """Return the limits of the tasks and of the queues, one for each name."""
        of_queues = {limit.name: limit for limit in self._limits_of_queues.values()}
        return list({**of_queues, **{limit.name: limit for limit in super().list_limits()}}.values())

    @property
    def schema_manager(self) -> SchemaManager:
        """The :class:`~procrastinate.schema.SchemaManager`, which applies and prints the database schema."""
        return SchemaManager(self.connector)

    @property
    def queues(self) -> Queues:
        """The :class:`~procrastinate.queues.Queues`, which pauses and resumes queues."""
        return Queues(self.connector)

    @property
    def inspect(self) -> Inspect:
        """The :class:`~procrastinate.inspection.Inspect`, which reads the state of the queue."""
        from procrastinate.inspection import Inspect  # it builds many statements, which few programs need

        return Inspect(self.connector)

    def find_task(self, name: str) -> Task[Any, Any, Any] | None:
        """Return the task with this name or alias, or ``None``."""
        return self.tasks.get(name)

    def knows_task(self, name: str) -> bool:
        """Return true if a worker of this program is likely to find a task of this name."""
        return self.find_task(name) is not None

    def queues_of_tasks(self) -> set[str] | None:
        """Return the queues named by tasks and periodic schedules. ``None`` means that jobs may be in any queue."""
        scheduled = (one.configure_kwargs.get("queue") for one in self.periodic_registry.periodic_tasks.values())
        return {task.queue for task in self.tasks.values()} | set(filter(None, scheduled))

    def find_task_of(self, job: Job) -> Task[Any, Any, Any] | None:
        """Return the task that this job runs, or ``None`` if the app does not have it."""
        return self.find_task(job.task_name)

    def will_configure_task(self) -> None:
        """Do nothing: tasks of an app can always be deferred."""

    def configure_task(
        self, name: str, *, allow_unknown: bool = True, **options: Unpack[ConfigureTaskOptions]
    ) -> JobDeferrer:
        """Return a deferrer for jobs of the task with this name, which may be declared in another program.

        Parameters
        ----------
        allow_unknown:
            If true, the name may be unknown to this app. The app of the worker must know it.
        options:
            The same options as :meth:`Task.configure <procrastinate.tasks.Task.configure>`.

        Raises
        ------
        TaskNotFound
            The app has no such task, and ``allow_unknown`` is false.
        """
        task = self.tasks.get(name)
        if task is not None:
            deferrer = task.configure(**options)
            deferrer.job_manager = self.job_manager  # the task may have been added to another app later
            return deferrer
        if not allow_unknown:
            raise exceptions.TaskNotFound(
                f"Task {name!r} is not registered in this app: import the module that declares it, "
                "or allow unknown tasks (--unknown)"
            )
        deferrer = configure_task(name=name, job_manager=self.job_manager, **options)
        deferrer.job = deferrer.job.loggable(self.logs_arguments)
        return deferrer

    def on_defer(self, hook: H) -> H:
        """Call a function at each defer of this app. Use it as a decorator.

        The function gets a :class:`~procrastinate.defer_hooks.Defer`. What it puts into ``defer.meta`` is stored with
        the jobs. It may return a context manager, which is entered around the statement that stores them. It is a plain
        function, also for async code, and it runs in the context of the caller. If it raises an ``Exception``, that is
        logged, and the jobs are deferred. Another exception, such as an exit or a time limit, reaches the caller.

        Raises
        ------
        TypeError
            The function is not callable with a defer, or is async.
        """
        check_hook("on_defer", hook, "defer")
        self.job_manager.hooks.add(hook, read_declaration(hook).function)
        return hook

    def workflow(self, name: str, *, if_failed: IfFailed = "cancel") -> Workflow:
        """Return a workflow to build. Its ``defer()`` stores it.

        Parameters
        ----------
        name:
            A name for lists and pages. Several workflows may share it.
        if_failed:
            What becomes of a step that needs the success of a step that did not succeed. ``"cancel"`` cancels it, and
            what needs it in turn. ``"hold"`` keeps it waiting, for a retry by hand.
        """
        return Workflow(self.job_manager, name, if_failed=if_failed, own=self.own)

    def workflow_of(self, job: Job) -> RunningStep:
        """Return what ``context.workflow`` is for this running job."""
        return RunningStep(self.job_manager, job, self.own)

    @property
    def workflows(self) -> Workflows:
        """The :class:`~procrastinate.workflows.operations.Workflows`, which shows, cancels and retries workflows."""
        return Workflows(self.job_manager)

    def with_connector(self, connector: Any) -> App:
        """Return a copy of the app with the same tasks and another connector. It reads from no replica.

        ``task.defer()`` uses this app and not the copy, also in jobs of the copy, because both have the same tasks. To
        defer with the copy, write ``copy.configure_task("name").defer()``. In its jobs, ``context.app`` is the copy.

        To swap the connector of this app for a while, use :meth:`replace_connector`.
        """
        app = copy.copy(self)
        app.connector = as_connector(connector)
        app._job_manager = JobManager(app.connector, self._job_manager.hooks)
        return app

    @contextlib.contextmanager
    def replace_connector(self, connector: Any) -> Iterator[App]:
        """Use another connector inside the ``with`` block, for example in tests."""
        before = self.connector
        self.use_connector(as_connector(connector))
        try:
            yield self
        finally:
            self.use_connector(before)

    def use_connector(self, connector: BaseConnector) -> None:
        """Use another connector from now on."""
        self.connector = connector
        self._job_manager.connector = connector

    def _register_builtin_tasks(self) -> None:
        self.add_tasks_from(builtin_tasks.make_blueprint(), namespace=builtin_tasks.NAMESPACE)
        for name, task in list(self.tasks.items()):
            self.add_task_alias(task, name.removeprefix(f"{builtin_tasks.NAMESPACE}:"))

    def keep_own(self, task: Task[Any, Any, Any]) -> None:
        """Keep a copy of a task that is about to be added to another app, with its names and this app's connector.

        The jobs, the ticks and the follow-up jobs of this app go on as they are.
        """
        own = self._own_copies[task] = task.share()
        for name, registered in self.tasks.items():
            if registered is task:
                self.tasks[name] = own
        self.periodic_registry.replace(task, own)

    def perform_import_paths(self) -> None:
        """Import the modules listed in ``import_paths``."""
        import_path.import_all(self.import_paths, why=self._why_imported)
        logger.debug(
            "The modules with tasks are imported", extra={"action": "imported_tasks", "tasks": list(self.tasks)}
        )

    def _why_imported(self, path: str) -> str:
        """Return the reason for importing this module. It becomes a note on an import error."""
        return "It is one of the app's import_paths"

    # Worker

    def make_worker(self, **options: Unpack[WorkerOptions]) -> Worker:
        """Return a worker without starting it. Start it with ``await worker.run()``, stop it with ``worker.stop()``.

        Parameters
        ----------
        options:
            The options of :class:`~procrastinate.worker.Worker`. They override the app's ``worker_defaults``.
        """
        from procrastinate.worker import Worker

        self.perform_import_paths()
        merged: WorkerOptions = {**worker_options(self.worker_defaults), **options}
        return Worker(self, **merged)

    async def run_worker_async(self, **options: Unpack[WorkerOptions]) -> None:
        """Run a worker in the running event loop until it stops. Cancelling this coroutine stops it gracefully.

        Parameters
        ----------
        options:
            The options of :class:`~procrastinate.worker.Worker`. They override the app's ``worker_defaults``.
        """
        await self.make_worker(**options).run()

    def run_worker(self, **options: Unpack[WorkerOptions]) -> None:
        """Open the app, run a worker until it stops, and close the app.

        Parameters
        ----------
        options:
            The options of :class:`~procrastinate.worker.Worker`. They override the app's ``worker_defaults``.
        """

        from procrastinate.worker.processes import exits

        async def run() -> None:
            async with self.open_async():
                await self.run_worker_async(**options)

        exits.run(run())

    def adopt_context(self, context: contextvars.Context) -> None:
        """Copy the context variables of a sync task, which ran in another thread, into the current context."""
        here = contextvars.copy_context()
        for variable, value in context.items():
            if variable not in here or here[variable] is not value:
                variable.set(value)

    def caller_thread(self) -> CallerThread:
        """Return the thread for sync tasks that a test runs itself."""
        return PlainCallerThread()

    # Connection

    def check_connection(self) -> bool:
        """Return true if the database has the tables of Procrastinate.

        Raises
        ------
        ConnectorException
            The database cannot be reached.
        """
        return self.job_manager.check_connection()

    async def check_connection_async(self) -> bool:
        """Asynchronous version of :meth:`check_connection`."""
        return await self.job_manager.check_connection_async()

    def open(self, pool_or_engine: Any = None) -> Self:
        """Open the app for synchronous use. ``with app.open():`` closes it after the last such block.

        Parameters
        ----------
        pool_or_engine:
            A connection pool or engine to use instead of a new one. The app does not close it.
        """
        openings_of(self.connector).open(self.connector, pool_or_engine)
        return self

    def close(self) -> None:
        """Close the connections that :meth:`open` opened."""
        openings_of(self.connector).close(self.connector)

    def open_async(self, pool: Any = None) -> AwaitableContext:
        """Open the app for asynchronous use. ``async with app.open_async():`` closes it after the last such block.

        Parameters
        ----------
        pool:
            A connection pool or engine to use instead of a new one. The app does not close it.
        """
        return AwaitableContext(self, pool)

    async def close_async(self) -> None:
        """Close the connections that :meth:`open_async` opened."""
        await openings_in_loop(self.connector).close_async(self.connector)

    def __enter__(self) -> Self:
        openings_of(self.connector).enter_block()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        openings_of(self.connector).leave_block(self.connector)


def _read_import_paths(import_paths: Iterable[str] | None) -> list[str]:
    """Return the paths as a list. Refuse a string, which would count as a list of letters."""
    if isinstance(import_paths, str):
        raise TypeError(f"import_paths takes a list of modules, not the string {import_paths!r}: write it in a list")
    return list(import_paths or [])


class AwaitableContext(Awaitable[App]):
    """Return value of :meth:`App.open_async`: ``await`` opens the app, ``async with`` opens and closes it."""

    def __init__(self, app: App, pool: Any) -> None:
        self._app = app
        self._pool = pool

    async def _open(self) -> App:
        connector = self._app.connector
        await openings_in_loop(connector).open_async(connector, self._pool)
        return self._app

    def __await__(self) -> Generator[Any, None, App]:
        return self._open().__await__()

    async def __aenter__(self) -> App:
        connector = self._app.connector
        await openings_in_loop(connector).enter_block_async(connector, self._pool)
        return self._app

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        connector = self._app.connector
        await openings_in_loop(connector).leave_block_async(connector)
