"""A blueprint: a set of tasks that an app takes in."""

from __future__ import annotations

import datetime
import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec, Protocol, TypeVar, Unpack, overload

from procrastinate import exceptions
from procrastinate.jobs import DEFAULT_PRIORITY, DEFAULT_QUEUE
from procrastinate.locks import Lock
from procrastinate.logs import get_logger
from procrastinate.middleware import TaskMiddleware
from procrastinate.periodic import PeriodicRegistry
from procrastinate.retry import RetryValue
from procrastinate.tasks import MAX_RESULT_SIZE, ConfigureTaskOptions, Task, add_namespace
from procrastinate.types import OnConflict
from procrastinate.validation import check_name

if TYPE_CHECKING:
    from procrastinate.job_context import JobContext
    from procrastinate.manager import JobManager

P = ParamSpec("P")
Args = ParamSpec("Args")
R = TypeVar("R")

logger = get_logger(__name__)


class _TaskDecorator(Protocol):
    def __call__(self, func: Callable[P, R], /) -> Task[P, R, P]: ...


class _TaskWithContextDecorator(Protocol):
    def __call__(
        self, func: Callable[Concatenate[JobContext, Args], R], /
    ) -> Task[Concatenate[JobContext, Args], R, Args]: ...


class Blueprint:
    """A set of tasks, declared where no app is at hand: ``app.add_tasks_from(blueprint, ...)`` adds them to one."""

    tasks: dict[str, Task[Any, Any, Any]]
    """The tasks, by name and by alias."""
    check_arguments: bool = True
    """Whether ``defer`` refuses arguments that the function of a task cannot be called with."""

    def __init__(self) -> None:
        self.tasks = {}
        self.periodic_registry = PeriodicRegistry()
        self._warn_if_in_main()

    @property
    def job_manager(self) -> JobManager:
        """What defers the jobs. Only an app has one."""
        raise exceptions.UnboundTaskError

    def will_configure_task(self) -> None:
        """Called before one of the tasks is deferred. Raises where that is too early."""
        raise exceptions.UnboundTaskError

    @overload
    def task(self, _func: Callable[P, R], /) -> Task[P, R, P]: ...

    @overload
    def task(
        self,
        _func: None = None,
        *,
        name: str | None = None,
        aliases: list[str] | None = None,
        retry: RetryValue = False,
        pass_context: Literal[False] = False,
        queue: str = DEFAULT_QUEUE,
        priority: int = DEFAULT_PRIORITY,
        lock: Lock | None = None,
        queueing_lock: Lock | None = None,
        on_conflict: OnConflict = "raise",
        task_middleware: list[TaskMiddleware] | None = None,
        timeout: float | None = None,
        log_arguments: bool = True,
        store_result: bool = False,
        max_result_size: int = MAX_RESULT_SIZE,
    ) -> _TaskDecorator: ...

    @overload
    def task(
        self,
        _func: None = None,
        *,
        name: str | None = None,
        aliases: list[str] | None = None,
        retry: RetryValue = False,
        pass_context: Literal[True],
        queue: str = DEFAULT_QUEUE,
        priority: int = DEFAULT_PRIORITY,
        lock: Lock | None = None,
        queueing_lock: Lock | None = None,
        on_conflict: OnConflict = "raise",
        task_middleware: list[TaskMiddleware] | None = None,
        timeout: float | None = None,
        log_arguments: bool = True,
        store_result: bool = False,
        max_result_size: int = MAX_RESULT_SIZE,
    ) -> _TaskWithContextDecorator: ...

    def task(
        self,
        _func: Callable[..., Any] | None = None,
        *,
        name: str | None = None,
        aliases: list[str] | None = None,
        retry: RetryValue = False,
        pass_context: bool = False,
        queue: str = DEFAULT_QUEUE,
        priority: int = DEFAULT_PRIORITY,
        lock: Lock | None = None,
        queueing_lock: Lock | None = None,
        on_conflict: OnConflict = "raise",
        task_middleware: list[TaskMiddleware] | None = None,
        timeout: float | None = None,
        log_arguments: bool = True,
        store_result: bool = False,
        max_result_size: int = MAX_RESULT_SIZE,
    ) -> Any:
        """Declare a task: ``@app.task`` or ``@app.task(...)``.

        Parameters
        ----------
        name:
            How the job names it in the database; the path of the function by default. Keep it when the function
            moves, or give the old one in ``aliases``: waiting jobs look for it.
        retry:
            ``True``: try again for ever; a number: so many times; or a retry strategy.
        pass_context:
            Give the function a :class:`~procrastinate.job_context.JobContext` first.
        queue, priority, lock, queueing_lock, on_conflict:
            What its jobs get unless ``configure`` says otherwise.
        task_middleware:
            Callables ``(call_next, context, worker)`` around the task, async for an async one.
        timeout:
            Seconds that a run may take, its task middleware included; ``None``: as long as it takes. After that it
            has raised :class:`~procrastinate.exceptions.TaskTimeout`: an async task is cancelled; the thread of a
            sync one goes on without anyone waiting for it, and keeps its slot until it returns.
        log_arguments:
            Whether the arguments of its jobs may stand in log records, of workers and of who defers.
        store_result:
            Keep what the function returns with the job, as JSON, until the job is deleted:
            ``app.job_manager.get_result(job_id).value``. A job whose return value cannot be kept has failed, with
            :class:`~procrastinate.exceptions.InvalidResult`, and is not tried again.
        max_result_size:
            Bytes of JSON that the return value may have, where it is kept: 1 MiB by default.

        A module that is imported or run again (a reload, a notebook's cell) declares its tasks again: the new ones take
        the place of the old ones, with a warning.

        Raises
        ------
        TaskAlreadyRegistered
            Another task has that name.
        InvalidJob
            No job could have such a name, queue, lock or priority: a ``ValueError``, too.
        TypeError, ValueError
            Another option is not what it can be. The message names it.
        """

        def register(func: Callable[..., Any]) -> Task[Any, Any, Any]:
            task: Task[Any, Any, Any] = Task(
                func,
                blueprint=self,
                name=name,
                aliases=aliases,
                retry=retry,
                pass_context=pass_context,
                queue=queue,
                priority=priority,
                lock=lock,
                queueing_lock=queueing_lock,
                on_conflict=on_conflict,
                task_middleware=task_middleware,
                timeout=timeout,
                log_arguments=log_arguments,
                store_result=store_result,
                max_result_size=max_result_size,
            )
            self._register_task(task)
            return task

        return register if _func is None else register(_func)

    def periodic(
        self,
        *,
        cron: str,
        periodic_id: str = "",
        timezone: str | datetime.tzinfo = datetime.UTC,
        **configure_kwargs: Unpack[ConfigureTaskOptions],
    ) -> Callable[[Task[P, R, Concatenate[int, Args]]], Task[P, R, Args]]:
        """Defer a task on a schedule: ``@app.periodic(cron="*/5 * * * *")`` above ``@app.task``.

        The task gets the keyword argument ``timestamp``: its tick, in seconds since 1970.

        Parameters
        ----------
        cron:
            Five fields; or six, with the seconds last.
        periodic_id:
            Tells schedules of the same task apart.
        timezone:
            By whose clocks: a name like ``"Europe/Paris"`` or a :class:`zoneinfo.ZoneInfo`; UTC by default. A tick at
            a time that the change of clocks leaves out comes once, at that moment; one at a time that occurs twice
            comes the first time only. Schedules of every hour of every day are not affected.
        configure_kwargs:
            What ``task.configure(...)`` takes; ``schedule_at`` and ``schedule_in`` are ignored.

        Raises
        ------
        TypeError
            The function of the task takes no ``timestamp``, or needs an argument that ``task_kwargs`` does not give.
        ValueError
            ``cron`` is not a cron expression, or ``timezone`` is not known.
        """
        return self.periodic_registry.periodic_decorator(
            cron=cron, periodic_id=periodic_id, timezone=timezone, **configure_kwargs
        )

    def add_task_alias(self, task: Task[Any, Any, Any], alias: str) -> None:
        """Let jobs find a task under another name: one that it had before, say."""
        self._make_room({alias: task})
        self.tasks[alias] = task
        task.aliases.append(alias)

    def add_tasks_from(self, blueprint: Blueprint, *, namespace: str) -> None:
        """Take in the tasks of another blueprint, with ``namespace:`` before their names.

        Raises
        ------
        TaskAlreadyRegistered
            One of the names is taken. Nothing has been taken in then.
        InvalidJob
            With the namespace, one of them is longer than a job's may be. Nothing has been taken in then.
        """
        renamed = {add_namespace(name, namespace): task for name, task in blueprint.tasks.items()}
        self._make_room(renamed)
        for task in set(renamed.values()):
            # From the names in the blueprint: the task's own may have come with an app that took it in before.
            task.rename([name for name, named in renamed.items() if named is task])
            task.blueprint = self
        logger.debug(
            "Taking in the tasks of a blueprint under the namespace %r",
            namespace,
            extra={"action": "loading_blueprint", "namespace": namespace, "tasks": list(renamed)},
        )
        self.tasks |= renamed
        self.periodic_registry.add_from(blueprint.periodic_registry)

    def _register_task(self, task: Task[Any, Any, Any]) -> None:
        named = dict.fromkeys((task.name, *task.aliases), task)
        self._make_room(named)
        self.tasks |= named

    def _make_room(self, named: Mapping[str, Task[Any, Any, Any]]) -> None:
        """Check that the names are free. A task gives way to its declaration by another run of its module."""
        outdated = []
        for name, task in named.items():
            check_name("task name", name)
            earlier = self.tasks.get(name)
            if earlier is None:
                continue
            if not task.is_another_run_of(earlier):
                raise exceptions.TaskAlreadyRegistered(
                    f"A task named {name!r} is registered already: give one of the two another name="
                )
            outdated.append(earlier)
        for earlier in dict.fromkeys(outdated):
            self._forget(earlier)

    def _forget(self, outdated: Task[Any, Any, Any]) -> None:
        self.tasks = {name: task for name, task in self.tasks.items() if task is not outdated}
        self.periodic_registry.forget(outdated)
        logger.warning(
            "Task %s is declared again: its module has run again, and the new function takes the place of the old one",
            outdated.name,
            extra={"action": "task_declared_again", "task": outdated.name},
        )

    def _warn_if_in_main(self) -> None:
        """A task of the main module has another name where the worker imports it."""
        for frame_info in inspect.stack(context=0)[1:]:
            if isinstance(frame_info.frame.f_locals.get("self"), Blueprint):
                continue
            if frame_info.frame.f_globals.get("__name__") == "__main__":
                logger.warning(
                    "%s is created in the program's main module (%s): a worker imports that module under another "
                    "name, and may not find its tasks. Put it into a module of its own",
                    type(self).__name__,
                    frame_info.filename,
                    extra={"action": "app_defined_in___main__"},
                )
            return
