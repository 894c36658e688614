"""The app: tasks, and the connection on which they are deferred and run."""

from __future__ import annotations

import contextlib
import contextvars
import copy
from collections.abc import Awaitable, Generator, Iterable, Iterator
from types import TracebackType
from typing import Any, Self, Unpack

from procrastinate import builtin_tasks, exceptions, paths
from procrastinate.amounts import read_count
from procrastinate.blueprints import Blueprint
from procrastinate.builtin_tasks import MIN_RETENTION_HOURS
from procrastinate.caller_thread import CallerThread, PlainCallerThread
from procrastinate.connector import BaseConnector, as_connector
from procrastinate.jobs import Job, JobDeferrer
from procrastinate.logs import get_logger
from procrastinate.manager import JobManager
from procrastinate.periodic import PeriodicDefaults, read_max_delay
from procrastinate.schema import SchemaManager
from procrastinate.tasks import ConfigureTaskOptions, Task, configure_task
from procrastinate.worker import Worker, WorkerDefaults, WorkerOptions, command_settings, exits, worker_options

logger = get_logger(__name__)


class App(Blueprint):
    """Tasks, and the database where their jobs wait.

    Parameters
    ----------
    connector:
        A connector, a database URL, a SQLAlchemy ``Engine`` or ``AsyncEngine``.
    import_paths:
        Modules that declare tasks: a worker imports them before it starts.
    worker_defaults:
        Options for ``run_worker``, unless the call says otherwise; for the worker command, ``processes`` and
        ``uvloop``, too.
    periodic_defaults:
        ``{"max_delay": seconds}``: how old the last tick of a periodic task may be for a starting worker to defer it
        (600 by default).
    check_arguments:
        Whether ``defer`` refuses arguments that the function of a task cannot be called with.
    min_retention_hours:
        Hours for which jobs of the built-in task ``remove_old_jobs`` leave every finished job, whatever they ask for. A
        role that may only insert jobs can defer one.

    Raises
    ------
    TypeError, ValueError
        ``periodic_defaults`` or ``worker_defaults`` has something else than its options, or ``import_paths`` is a text.
    """

    def __init__(
        self,
        *,
        connector: Any,
        import_paths: Iterable[str] | None = None,
        worker_defaults: WorkerOptions | WorkerDefaults | None = None,
        periodic_defaults: PeriodicDefaults | None = None,
        check_arguments: bool = True,
        min_retention_hours: int = MIN_RETENTION_HOURS,
    ) -> None:
        super().__init__()
        self.check_arguments = check_arguments
        self.min_retention_hours = read_count("min_retention_hours", min_retention_hours, at_least=0)
        self.connector: BaseConnector = as_connector(connector)
        self.import_paths = _read_import_paths(import_paths)
        self.worker_defaults: WorkerOptions | WorkerDefaults = worker_defaults or WorkerOptions()
        self.periodic_defaults: PeriodicDefaults = periodic_defaults or {}
        read_max_delay(**self.periodic_defaults)
        self._check_worker_defaults()
        self._job_manager = JobManager(self.connector)
        self._register_builtin_tasks()

    def _check_worker_defaults(self) -> None:
        """A worker would fail with them, at night; a wrong value is refused where it is written."""
        command_settings(self.worker_defaults)
        Worker(self, **worker_options(self.worker_defaults))

    @classmethod
    def from_path(cls, dotted_path: str) -> App:
        """The app at ``package.module.name``.

        Raises
        ------
        LoadFromPathError
            There is none.
        """
        return paths.load_from_path(dotted_path, App)

    @property
    def job_manager(self) -> JobManager:
        """Every operation on the queue."""
        return self._job_manager

    @property
    def schema_manager(self) -> SchemaManager:
        """Applies the schema, and prints it."""
        return SchemaManager(self.connector)

    def find_task(self, name: str) -> Task[Any, Any, Any] | None:
        """The task that a job of that name runs; ``None`` where there is none."""
        return self.tasks.get(name)

    def queues_of_tasks(self) -> set[str] | None:
        """The queues that the tasks and their schedules name: where jobs come by themselves. ``None``: any may be."""
        scheduled = (one.configure_kwargs.get("queue") for one in self.periodic_registry.periodic_tasks.values())
        return {task.queue for task in self.tasks.values()} | set(filter(None, scheduled))

    def find_task_of(self, job: Job) -> Task[Any, Any, Any] | None:
        """The task that this job runs; ``None`` where there is none."""
        return self.find_task(job.task_name)

    def will_configure_task(self) -> None:
        """An app's tasks can be deferred."""

    def configure_task(
        self, name: str, *, allow_unknown: bool = True, **options: Unpack[ConfigureTaskOptions]
    ) -> JobDeferrer:
        """The pattern for jobs of a task that is known by its name alone.

        Parameters
        ----------
        allow_unknown:
            Whether the task may be one that this app does not have, but a worker's will.
        options:
            As :meth:`Task.configure <procrastinate.tasks.Task.configure>`.

        Raises
        ------
        TaskNotFound
            The app does not have it, and ``allow_unknown`` is false.
        """
        task = self.tasks.get(name)
        if task is not None:
            return task.configure(**options)
        if not allow_unknown:
            raise exceptions.TaskNotFound(
                f"Task {name!r} is not registered in this app: import the module that declares it, "
                "or allow unknown tasks"
            )
        return configure_task(name=name, job_manager=self.job_manager, **options)

    def with_connector(self, connector: Any) -> App:
        """An app with the same tasks on another connector. To swap it for a while, see :meth:`replace_connector`."""
        app = copy.copy(self)
        app.connector = as_connector(connector)
        app._job_manager = JobManager(app.connector)
        return app

    @contextlib.contextmanager
    def replace_connector(self, connector: Any) -> Iterator[App]:
        """Use another connector inside the ``with`` block: in tests, or in a script that runs a worker."""
        before = self.connector
        self._set_connector(as_connector(connector))
        try:
            yield self
        finally:
            self._set_connector(before)

    def _set_connector(self, connector: BaseConnector) -> None:
        self.connector = connector
        self._job_manager.connector = connector

    def _register_builtin_tasks(self) -> None:
        self.add_tasks_from(builtin_tasks.make_blueprint(), namespace=builtin_tasks.NAMESPACE)
        for name, task in list(self.tasks.items()):
            self.add_task_alias(task, name.removeprefix(f"{builtin_tasks.NAMESPACE}:"))

    def perform_import_paths(self) -> None:
        """Import the modules of ``import_paths``."""
        paths.import_all(self.import_paths, why=self._why_imported)
        logger.debug(
            "The modules with tasks are imported", extra={"action": "imported_tasks", "tasks": list(self.tasks)}
        )

    def _why_imported(self, path: str) -> str:
        """Why this module is imported, for the note of an error."""
        return "It is one of the app's import_paths"

    # Worker

    def make_worker(self, **options: Unpack[WorkerOptions]) -> Worker:
        """A worker that has yet to run, for those who also stop it: ``await worker.run()``, ``worker.stop()``.

        Parameters
        ----------
        options:
            As :class:`~procrastinate.worker.Worker`.
        """
        self.perform_import_paths()
        merged: WorkerOptions = {**worker_options(self.worker_defaults), **options}
        return Worker(self, **merged)

    async def run_worker_async(self, **options: Unpack[WorkerOptions]) -> None:
        """Run a worker until it is stopped, in a running event loop. Cancelling it stops it gracefully.

        Parameters
        ----------
        options:
            As :class:`~procrastinate.worker.Worker`.
        """
        await self.make_worker(**options).run()

    def run_worker(self, **options: Unpack[WorkerOptions]) -> None:
        """Run a worker until it is stopped. Opens the app, and closes it afterwards."""

        async def run() -> None:
            async with self.open_async():
                await self.run_worker_async(**options)

        exits.run(run())

    def adopt_context(self, context: contextvars.Context) -> None:
        """Set here the context variables that are set there: a sync task has run there, in another thread."""
        here = contextvars.copy_context()
        for variable, value in context.items():
            if variable not in here or here[variable] is not value:
                variable.set(value)

    def caller_thread(self) -> CallerThread:
        """Where the sync code of a test runs that runs jobs itself."""
        return PlainCallerThread()

    # Connection

    def check_connection(self) -> bool:
        """Whether the database can be reached and has the tables."""
        return self.job_manager.check_connection()

    async def check_connection_async(self) -> bool:
        """As :meth:`check_connection`."""
        return await self.job_manager.check_connection_async()

    def open(self, pool_or_engine: Any = None) -> Self:
        """Open the app for synchronous use; also as ``with app.open():``.

        Parameters
        ----------
        pool_or_engine:
            Use this instead of making one's own. It stays yours to close.
        """
        self.connector.get_sync_connector().open(pool_or_engine)
        return self

    def close(self) -> None:
        """Close what :meth:`open` opened."""
        self.connector.get_sync_connector().close()

    def open_async(self, pool: Any = None) -> AwaitableContext:
        """Open the app for asynchronous use: ``await app.open_async()``, or ``async with app.open_async():``."""
        return AwaitableContext(self, pool)

    async def close_async(self) -> None:
        """Close what :meth:`open_async` opened."""
        await self.connector.close_async()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _read_import_paths(import_paths: Iterable[str] | None) -> list[str]:
    """A lone text would be read letter by letter."""
    if isinstance(import_paths, str):
        raise TypeError(f"import_paths takes a list of modules, not the string {import_paths!r}: write it in a list")
    return list(import_paths or [])


class AwaitableContext(Awaitable[App]):
    """What :meth:`App.open_async` returns: awaited, it opens; in ``async with``, it opens and closes."""

    def __init__(self, app: App, pool: Any) -> None:
        self._app = app
        self._pool = pool

    async def _open(self) -> App:
        await self._app.connector.open_async(self._pool)
        return self._app

    def __await__(self) -> Generator[Any, None, App]:
        return self._open().__await__()

    async def __aenter__(self) -> App:
        return await self._open()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._app.close_async()
