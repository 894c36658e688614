"""The stand-in for the app of Celery: it declares tasks, and stores their jobs through an app of this queue."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from procrastinate._checks.names import check_name
from procrastinate._pages import page
from procrastinate.app import App
from procrastinate.from_celery.exceptions import OPEN_THE_APP, NotSupported, needs_open_app
from procrastinate.from_celery.options import (
    CallOptions,
    TaskOptions,
    read_call_options,
    read_expires,
    read_task_options,
)
from procrastinate.from_celery.results import AsyncResult
from procrastinate.from_celery.retries import RetryWhenAsked
from procrastinate.from_celery.run import make_run
from procrastinate.from_celery.stored_call import StoredCall
from procrastinate.from_celery.task import CeleryTask

DEFAULT_QUEUE = "celery"
"""The queue of Celery's tasks that name none."""
_ATTRIBUTES = frozenset({"app", "default_queue", "lowest_priority_first", "store_results", "tasks"})
_OPENING = frozenset({"open", "open_async", "init_app"})


class CeleryTasks:
    """Tasks of a Celery project, on an app of this queue.

    It takes in all tasks that were declared with :func:`shared_task`, and those that will be.

    Parameters
    ----------
    app:
        Where the jobs are stored, and which the workers run.
    default_queue:
        The queue of tasks that name none.
    lowest_priority_first:
        Whether 0 is the highest priority, as with Celery over Redis. Over RabbitMQ a higher number comes first.
    store_results:
        Whether tasks keep what they return. ``ignore_result`` of a task decides before this.
    """

    def __init__(
        self,
        app: App,
        *,
        default_queue: str = DEFAULT_QUEUE,
        lowest_priority_first: bool = False,
        store_results: bool = False,
    ) -> None:
        if not isinstance(app, App):
            raise TypeError(f"CeleryTasks takes a procrastinate.App, not {type(app).__name__}")
        check_name("default_queue", default_queue)
        self.app = app
        self.default_queue = default_queue
        self.lowest_priority_first = lowest_priority_first
        self.store_results = store_results
        self.tasks: dict[str, CeleryTask] = {}
        _shared.belong_to(self)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        way_out = f": {OPEN_THE_APP}" if name in _OPENING else ""
        raise NotSupported(f"CeleryTasks has no {name!r}{way_out}. See {page('from-celery', 'The app')}")

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in _ATTRIBUTES and not hasattr(type(self), name):
            raise NotSupported(
                f"CeleryTasks has no {name!r} that could be set: nothing would read it. "
                f"See {page('from-celery', 'The app')}"
            )
        super().__setattr__(name, value)

    def task(self, *functions: Callable[..., Any], **options: Any) -> Any:
        """Declare a task: ``@app.task`` or ``@app.task(...)``, with the options of Celery.

        Raises
        ------
        NotSupported
            An option has no stand-in. The message names it and the way out.
        TaskAlreadyRegistered
            Another task has that name.
        """
        return _declare(self.add, functions, options)

    def add(self, task: CeleryTask) -> None:
        """Take in a task."""
        options = task.options
        keeps = self.store_results if options.ignore_result is None else not options.ignore_result
        self.app.task(
            name=task.name,
            pass_context=True,
            queue=self.default_queue if options.queue is None else options.queue,
            priority=self.as_own_priority(options.priority) or 0,
            retry=RetryWhenAsked(),
            timeout=options.timeout,
            store_result=keeps,
        )(make_run(task))
        self.tasks[task.name] = task
        task.belong_to(self)

    def send_task(
        self, name: str, args: Iterable[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> AsyncResult:
        """Defer a job of a task that is known by its name alone; as :meth:`CeleryTask.apply_async`."""
        if name in self.tasks:
            return self.tasks[name].apply_async(args, kwargs, **options)
        call_options = read_call_options(options)
        expires = read_expires(call_options.expires)
        return self.store(
            name, StoredCall(args=tuple(args or ()), kwargs=dict(kwargs or {}), expires=expires), call_options
        )

    def store(self, name: str, call: StoredCall, options: CallOptions) -> AsyncResult:
        """Store the job of a call.

        Raises
        ------
        AppNotOpen
            The app is not open. The message says how to open it.
        """
        self.app.will_configure_task()
        deferrer = self.app.configure_task(
            name,
            queue=self.default_queue if options.queue is None else options.queue,
            priority=self.as_own_priority(options.priority),
            connection=options.connection,
            **options.scheduling(),
        )
        with needs_open_app():
            job_id = deferrer.defer(**call.as_arguments())
        return self.AsyncResult(str(job_id))

    def AsyncResult(self, id: str) -> AsyncResult:
        """Return the job of that id. The id of a message that was in Celery's broker leads to no job."""
        return AsyncResult(id, self.app.job_manager)

    def as_own_priority(self, priority: int | None) -> int | None:
        """Return a priority of the project as one of this queue: the higher, the sooner."""
        return -priority if priority and self.lowest_priority_first else priority

    def autodiscover_tasks(
        self,
        packages: Iterable[str] | Callable[[], Iterable[str]] | None = (),
        related_name: str | None = "tasks",
        force: bool = False,
    ) -> None:
        """Let workers import the modules ``package.tasks``. In a Django project this is done already.

        Parameters
        ----------
        packages:
            Names of packages, or a function that returns them. Those without such a module are left out, and so is what
            is no package, such as an app of Django that is one module. ``None`` names none.
        related_name:
            The name of the module. ``None`` imports the packages themselves.
        force:
            Without effect, because workers import the modules when they start.

        Raises
        ------
        TypeError
            ``packages`` is a text.
        """
        named = packages() if callable(packages) else packages or ()
        if isinstance(named, str):
            raise TypeError(f"autodiscover_tasks takes a list of packages, not {named!r}: write [{named!r}]")
        found = [package if related_name is None else f"{package}.{related_name}" for package in named]
        self.app.import_paths = [*self.app.import_paths, *filter(_is_module, found)]


def _is_module(path: str) -> bool:
    """Return true if there is a module at a path."""
    try:
        return importlib.util.find_spec(path) is not None
    except ModuleNotFoundError as error:
        missing = error.name or ""
        parent = sys.modules.get(missing.rpartition(".")[0])
        if parent is None or hasattr(parent, "__path__") or not f"{path}.".startswith(f"{missing}."):
            raise  # there is no such package, or it cannot be imported
        return False  # the name before it is that of a module, and not of a package


class _SharedTasks:
    """Tasks of all apps. The app that was made last stores their jobs."""

    def __init__(self) -> None:
        self._tasks: dict[str, CeleryTask] = {}
        self._app: CeleryTasks | None = None

    def add(self, task: CeleryTask) -> None:
        """Declare a task."""
        if self._app is not None:
            self._app.add(task)
        self._tasks[task.name] = task

    def belong_to(self, app: CeleryTasks) -> None:
        """Give all tasks to an app."""
        for task in self._tasks.values():
            app.add(task)
        self._app = app


_shared = _SharedTasks()


def shared_task(*functions: Callable[..., Any], **options: Any) -> Any:
    """Declare a task where no app is at hand: ``@shared_task`` or ``@shared_task(...)``.

    It takes and raises what :meth:`CeleryTasks.task` does.
    """
    return _declare(_shared.add, functions, options)


def _declare(add: Callable[[CeleryTask], None], functions: tuple[Callable[..., Any], ...], options: Any) -> Any:
    read: TaskOptions = read_task_options(options)

    def declare(function: Callable[..., Any]) -> CeleryTask:
        task = CeleryTask(function, read)
        add(task)
        return task

    return declare(*functions) if functions else declare
