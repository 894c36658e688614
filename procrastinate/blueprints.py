"""Blueprints: sets of tasks that an app adds to its own."""

from __future__ import annotations

import datetime
import inspect
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec, Protocol, TypeVar, Unpack, overload

from procrastinate import exceptions
from procrastinate._functions.declarations import Declaration, read_declaration
from procrastinate._job_checks import check_name
from procrastinate._text.logs import get_logger
from procrastinate.jobs import DEFAULT_PRIORITY, DEFAULT_QUEUE
from procrastinate.limits import Limit, add_limit
from procrastinate.locks import Lock
from procrastinate.middleware import TaskMiddleware
from procrastinate.periodic import PeriodicRegistry
from procrastinate.retry import RetryValue
from procrastinate.tasks import MAX_RESULT_SIZE, ConfigureTaskOptions, Task, add_namespace
from procrastinate.types import OnConflict
from procrastinate.unique import Unique

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
    """A set of tasks declared without an app. ``app.add_tasks_from(blueprint, namespace=...)`` adds them to an app."""

    tasks: dict[str, Task[Any, Any, Any]]
    """The tasks by name and by alias."""
    check_arguments: bool = True
    """If true, ``defer`` raises ``TypeError`` for arguments that do not fit the signature of the task's function."""
    log_arguments: bool | None = True
    """If true, log records show the arguments and the results of jobs. ``None`` shows them with debug messages only."""

    def __init__(self) -> None:
        self.tasks = {}
        self.periodic_registry = PeriodicRegistry()
        self._name_declarations: dict[str, Declaration] = {}
        self._own_copies: dict[Task[Any, Any, Any], Task[Any, Any, Any]] = {}
        self._warn_if_in_main()

    @property
    def logs_arguments(self) -> bool:
        """True if log records show the arguments of jobs at present."""
        return logger.isEnabledFor(logging.DEBUG) if self.log_arguments is None else self.log_arguments

    @property
    def job_manager(self) -> JobManager:
        """The :class:`~procrastinate.manager.JobManager` that defers the jobs. Only an app has one.

        Raises
        ------
        UnboundTaskError
            The blueprint is not an app.
        """
        raise exceptions.UnboundTaskError

    def will_configure_task(self) -> None:
        """Raise ``UnboundTaskError`` while tasks cannot be deferred. A task calls it before it makes a deferrer."""
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
        unique: Unique | None = None,
        limit: Limit | None = None,
        weight: int = 1,
        task_middleware: list[TaskMiddleware] | None = None,
        timeout: float | None = None,
        log_arguments: bool = True,
        store_result: bool = False,
        max_result_size: int = MAX_RESULT_SIZE,
        check_arguments: bool = True,
        keep_logs: bool = False,
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
        unique: Unique | None = None,
        limit: Limit | None = None,
        weight: int = 1,
        task_middleware: list[TaskMiddleware] | None = None,
        timeout: float | None = None,
        log_arguments: bool = True,
        store_result: bool = False,
        max_result_size: int = MAX_RESULT_SIZE,
        check_arguments: bool = True,
        keep_logs: bool = False,
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
        unique: Unique | None = None,
        limit: Limit | None = None,
        weight: int = 1,
        task_middleware: list[TaskMiddleware] | None = None,
        timeout: float | None = None,
        log_arguments: bool = True,
        store_result: bool = False,
        max_result_size: int = MAX_RESULT_SIZE,
        check_arguments: bool = True,
        keep_logs: bool = False,
    ) -> Any:
        """Declare a task: ``@app.task`` or ``@app.task(...)``.

        Parameters
        ----------
        name:
            The name that jobs store in the database. The default is the dotted path of the function. When the
            function moves, keep the old name here or in ``aliases``, because waiting jobs still refer to it.
        aliases:
            Other names under which jobs find the task.
        retry:
            ``True`` retries without a limit, and a number retries that many times. A retry strategy decides for each
            exception.
        pass_context:
            If true, the first argument of the function is a :class:`~procrastinate.job_context.JobContext`.
        queue, priority, lock, queueing_lock, on_conflict, unique:
            Defaults for its jobs. ``configure`` overrides them.
        limit:
            A :class:`~procrastinate.Limit` on how many of its jobs run at once, over all workers.
        weight:
            How many slots of its limit a job takes, and as how many starts of a rate it counts, from 1.
        task_middleware:
            Callables ``(call_next, context, worker)`` that wrap the task. They are async for an async task and sync
            for a sync task.
        timeout:
            Seconds that a run may take, including its task middleware. ``None`` means no limit. After the timeout the
            run ends with :class:`~procrastinate.exceptions.TaskTimeout`. An async task is cancelled. The thread of a
            sync task cannot be stopped and occupies its slot until the function returns.
        log_arguments:
            If false, log records show neither the arguments nor the results of its jobs. If true, the app decides.
        store_result:
            If true, the job keeps the return value as JSON until the job is deleted. Read it with
            ``app.job_manager.get_result(job_id).value``. A job whose return value cannot be stored fails with
            :class:`~procrastinate.exceptions.InvalidResult` and is not retried.
        max_result_size:
            Limit for a stored return value, in bytes of JSON. The default is 1 MiB.
        check_arguments:
            If false, its jobs may have arguments that do not fit the signature of the function. Turn the check off if a
            program passes arguments that only the workers' version of the function takes.
            ``App(check_arguments=False)`` turns it off for all tasks.
        keep_logs:
            If true, its jobs keep what they log: the newest 1,000 lines of each run, up to 64 KiB. Read them on the
            page of the job, with ``procrastinate logs`` or with ``app.job_manager.get_logs(job_id)``.

        If a module is imported or executed again (a reload, a notebook cell), its tasks replace the earlier ones, and
        a warning is logged.

        Raises
        ------
        TaskAlreadyRegistered
            Another task has this name.
        InvalidJob
            The name, queue, lock or priority cannot be stored. It is a ``ValueError``.
        TypeError, ValueError
            Another option is invalid. The message names it. A limit of the same name with other numbers is a
            ``ValueError``.
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
                unique=unique,
                limit=limit,
                weight=weight,
                task_middleware=task_middleware,
                timeout=timeout,
                log_arguments=log_arguments,
                store_result=store_result,
                max_result_size=max_result_size,
                check_arguments=check_arguments,
                keep_logs=keep_logs,
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
        """Defer a task on a schedule. Write ``@app.periodic(cron="*/5 * * * *")`` above ``@app.task``.

        Each job gets the keyword argument ``timestamp``, the scheduled time in seconds since 1970.

        Parameters
        ----------
        cron:
            A cron expression with five fields, or with six where the last one is the seconds.
        periodic_id:
            Distinguishes several schedules of one task.
        timezone:
            The time zone of the cron expression: a name like ``"Europe/Paris"`` or a :class:`zoneinfo.ZoneInfo`. The
            default is UTC. When clocks go forward, a tick in the skipped hour fires once, at the change. When clocks go
            back, a tick in the repeated hour fires the first time only. Schedules that fire every hour of every day
            are not affected.
        configure_kwargs:
            Options of ``task.configure(...)``. ``schedule_at`` and ``schedule_in`` are ignored.

        Raises
        ------
        TypeError
            The function of the task takes no ``timestamp``, or ``task_kwargs`` lacks an argument that it needs.
        ValueError
            ``cron`` is not a cron expression, or ``timezone`` is unknown.
        """
        return self.periodic_registry.periodic_decorator(
            cron=cron, periodic_id=periodic_id, timezone=timezone, **configure_kwargs
        )

    def add_task_alias(self, task: Task[Any, Any, Any], alias: str) -> None:
        """Add another name under which jobs find the task, for example its former name.

        Raises
        ------
        TaskAlreadyRegistered
            Another task has this name.
        """
        self._make_room({alias: task})
        if self.tasks.get(alias) is not task:
            self.tasks[alias] = task
            task.aliases.append(alias)
        self._name_declarations[alias] = read_declaration()

    def add_tasks_from(self, blueprint: Blueprint, *, namespace: str) -> None:
        """Add the tasks of another blueprint, with ``namespace:`` before their names. Add all of them or none.

        A blueprint may be added again under its namespace, as a factory of web applications does with one app.

        Raises
        ------
        TaskAlreadyRegistered
            Another task has one of the names.
        InvalidJob
            A name is too long with the namespace.
        ValueError
            A limit of a task has the name of another limit and other numbers.
        """
        renamed = {add_namespace(name, namespace): task for name, task in blueprint.tasks.items()}
        self._make_room(renamed, may_repeat=True)
        self._check_limits(set(renamed.values()))
        for task in set(renamed.values()):
            # Start from the names in the blueprint. An app that added the task earlier may have renamed it.
            names = [name for name, named in renamed.items() if named is task]
            if task.blueprint is not self:
                task.blueprint.keep_own(task)
                self._own_copies.pop(task, None)
            else:  # it is added again, and may have aliases of this app
                names += [name for name, named in self.tasks.items() if named is task and name not in renamed]
            task.rename(names)
            task.blueprint = self
        logger.debug(
            "Adding the tasks of a blueprint under the namespace %r",
            namespace,
            extra={"action": "loading_blueprint", "namespace": namespace, "tasks": list(renamed)},
        )
        self.tasks |= renamed
        self._name_declarations |= dict.fromkeys(renamed, read_declaration())
        self.periodic_registry.add_from(blueprint.periodic_registry)

    def keep_own(self, task: Task[Any, Any, Any]) -> None:
        """Keep what this blueprint needs of a task that is about to be added elsewhere. Only an app needs any."""

    def own(self, task: Task[Any, Any, Any]) -> Task[Any, Any, Any]:
        """Return the task as this blueprint has it. After it was added to another app, that is a copy."""
        own = self._own_copies.get(task.shared)
        if own is None:
            return task.shared if task.shared.blueprint is self else task
        return own

    def _register_task(self, task: Task[Any, Any, Any]) -> None:
        named = dict.fromkeys((task.name, *task.aliases), task)
        self._make_room(named)
        self._check_limits([task])
        self.tasks |= named

    def find_limit_of_queue(self, queue: str | None) -> Limit | None:
        """Return the limit for jobs of this queue that have none of their own. Only an app has such limits."""
        return None

    def list_limits(self) -> list[Limit]:
        """Return the limits of the tasks, one for each name."""
        return list({task.limit.name: task.limit for task in list(self.tasks.values()) if task.limit}.values())

    def _check_limits(self, tasks: Iterable[Task[Any, Any, Any]]) -> None:
        """Refuse a task whose limit has the name of another limit and other numbers.

        If the module of the limit ran again with other numbers, these hold for the earlier tasks, too.
        """
        new = [task.limit for task in tasks if task.limit is not None]
        if not new:
            return
        known = {limit.name: limit for limit in self.list_limits()}
        for limit in new:
            add_limit(known, limit)
        for task in set(self.tasks.values()):
            if task.limit is not None and task.limit.definition != known[task.limit.name].definition:
                task.limit = known[task.limit.name]

    def _make_room(self, named: Mapping[str, Task[Any, Any, Any]], *, may_repeat: bool = False) -> None:
        """Check that the names are free. Forget an earlier task if its own module has declared it again.

        With ``may_repeat``, a task may have its name already.
        """
        outdated = []
        for name, task in named.items():
            check_name("task name", name)
            earlier = self.tasks.get(name)
            is_same = earlier is task or earlier is self._own_copies.get(task)
            if earlier is None or (is_same and (may_repeat or self._names_again(name))):
                continue
            if is_same or not task.is_another_run_of(earlier):
                raise exceptions.TaskAlreadyRegistered(
                    f"A task named {name!r} is already registered: give one of the two another name=. The first one is "
                    f"declared {task.declaration.describe_clash(earlier.declaration)}"
                )
            outdated.append(earlier)
        for earlier in dict.fromkeys(outdated):
            self._forget(earlier)

    def _names_again(self, name: str) -> bool:
        """Return true if code that gave a task this name, and not the task's own, has run again."""
        earlier = self._name_declarations.get(name)
        return earlier is not None and read_declaration().is_another_run_of(earlier)

    def _forget(self, outdated: Task[Any, Any, Any]) -> None:
        self.tasks = {name: task for name, task in self.tasks.items() if task is not outdated}
        self.periodic_registry.forget(outdated)
        logger.warning(
            "Task %s is declared again because its module ran again: the new function replaces the old one",
            outdated.name,
            extra={"action": "task_declared_again", "task": outdated.name},
        )

    def _warn_if_in_main(self) -> None:
        """Log a warning in the main module: its tasks have other names when a worker imports the module."""
        frame = inspect.currentframe()
        while frame is not None and isinstance(frame.f_locals.get("self"), Blueprint):
            frame = frame.f_back
        if frame is not None and frame.f_globals.get("__name__") == "__main__":
            logger.warning(
                "%s is created in the program's main module (%s). A worker imports that module under another "
                "name and may not find its tasks: move it to a separate module",
                type(self).__name__,
                frame.f_code.co_filename,
                extra={"action": "app_defined_in___main__"},
            )
