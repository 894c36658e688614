"""A task: a function that jobs call."""

from __future__ import annotations

import datetime
import functools
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypedDict, TypeVar, Unpack, cast

from procrastinate import exceptions
from procrastinate import middleware as middleware_module
from procrastinate import retry as retry_module
from procrastinate.amounts import read_count, read_optional_seconds
from procrastinate.call_arguments import read_call_arguments
from procrastinate.callables import check_function, is_async_callable
from procrastinate.declarations import read_declaration
from procrastinate.jobs import DEFAULT_PRIORITY, DEFAULT_QUEUE, Job, JobDeferrer, require_on_conflict
from procrastinate.locks import ArgumentLock, Lock
from procrastinate.paths import get_full_path
from procrastinate.stand_in import stand_in_for
from procrastinate.timing import from_now, require_aware
from procrastinate.types import JSONDict, OnConflict, TimeDeltaParams
from procrastinate.validation import check_lock, check_name, check_priority
from procrastinate.zones import check_attached

if TYPE_CHECKING:
    from procrastinate.blueprints import Blueprint
    from procrastinate.manager import JobManager

P = ParamSpec("P")
Args = ParamSpec("Args")
R = TypeVar("R")


MAX_RESULT_SIZE = 1_048_576
"""Bytes of JSON that a stored return value may have where the task says nothing else."""


class ConfigureTaskOptions(TypedDict, total=False):
    """What ``task.configure(...)`` and ``app.configure_task(...)`` take."""

    lock: Lock | None
    queueing_lock: Lock | None
    on_conflict: OnConflict | None
    task_kwargs: JSONDict | None
    schedule_at: datetime.datetime | None
    schedule_in: TimeDeltaParams | None
    queue: str | None
    priority: int | None
    connection: Any | None


_OPTIONS = frozenset(ConfigureTaskOptions.__annotations__)
_SHAPING_JOBS = ("name", "queue", "priority", "lock", "queueing_lock", "on_conflict", "log_arguments")
"""Attributes of a task that its jobs depend on."""


def configure_task(*, name: str, job_manager: JobManager, **options: Unpack[ConfigureTaskOptions]) -> JobDeferrer:
    """The pattern for jobs of a task of that name.

    Raises
    ------
    ValueError
        Both ``schedule_at`` and ``schedule_in`` were given, ``schedule_at`` is naive, ``schedule_in`` is longer than
        time, or ``on_conflict`` is none of its values.
    InvalidJob
        A name, a lock or the priority cannot be stored: a ``ValueError``, too.
    TypeError
        There is no such option, or ``task_kwargs`` is no dict.
    """
    check_name("task name", name)
    check_options(options)
    return _make_deferrer(name, job_manager, options)


def _make_deferrer(name: str, job_manager: JobManager, options: ConfigureTaskOptions) -> JobDeferrer:
    queue, priority = options.get("queue"), options.get("priority")
    lock, queueing_lock = options.get("lock"), options.get("queueing_lock")
    job = Job(
        queue=DEFAULT_QUEUE if queue is None else queue,
        lock=_if_plain(lock),
        queueing_lock=_if_plain(queueing_lock),
        task_name=name,
        task_kwargs=dict(options.get("task_kwargs") or {}),
        scheduled_at=_scheduled_at(options.get("schedule_at"), options.get("schedule_in")),
        priority=DEFAULT_PRIORITY if priority is None else priority,
    )
    return JobDeferrer(
        job_manager=job_manager,
        job=job,
        connection=options.get("connection"),
        on_conflict=options.get("on_conflict") or "raise",
        lock=_if_made(lock),
        queueing_lock=_if_made(queueing_lock),
    )


def _is_made(lock: Lock | None) -> bool:
    return callable(lock) or isinstance(lock, ArgumentLock)


def _if_plain(lock: Lock | None) -> str | None:
    return None if _is_made(lock) else cast("str | None", lock)


def _if_made(lock: Lock | None) -> Lock | None:
    return lock if _is_made(lock) else None


def check_options(options: ConfigureTaskOptions) -> None:
    """Refuse an option that does not exist, or has a value that no job can have, by its name.

    The schedule is looked at where a job is made.
    """
    unknown = options.keys() - _OPTIONS
    if unknown:
        raise TypeError(f"Unknown option {sorted(unknown)[0]!r}: configure takes {', '.join(sorted(_OPTIONS))}")
    queue, priority, task_kwargs = options.get("queue"), options.get("priority"), options.get("task_kwargs")
    if queue is not None:
        check_name("queue", queue)
    if priority is not None:
        check_priority(priority)
    if not isinstance(task_kwargs, Mapping | None):
        raise TypeError(f"task_kwargs must be a dict of arguments, not {task_kwargs!r}")
    check_lock("lock", _if_plain(options.get("lock")))
    check_lock("queueing_lock", _if_plain(options.get("queueing_lock")))


def _scheduled_at(
    schedule_at: datetime.datetime | None, schedule_in: TimeDeltaParams | None
) -> datetime.datetime | None:
    if schedule_at is not None and schedule_in is not None:
        raise ValueError("Give schedule_at or schedule_in, not both")
    require_aware("schedule_at", schedule_at)
    if schedule_at is not None:
        check_attached("schedule_at", schedule_at)
    return schedule_at if schedule_in is None else from_now("schedule_in", schedule_in)


class Task(Generic[P, R, Args]):
    """A function that jobs call. Made by ``@app.task`` or ``@blueprint.task``; called, it is the function.

    Attributes
    ----------
    name, aliases:
        Names under which jobs find it.
    queue, priority, lock, queueing_lock, on_conflict:
        What its jobs get unless ``configure`` says otherwise.
    retry_strategy:
        What becomes of a job that raised; ``None``: it has failed.
    pass_context:
        The function takes a :class:`~procrastinate.job_context.JobContext` first.
    timeout:
        Seconds that a run may take; ``None``: as long as it takes.
    log_arguments:
        Whether the arguments of its jobs may stand in log records.
    store_result, max_result_size:
        Whether what it returns is kept with its job; bytes of JSON that this may have.

    Raises
    ------
    InvalidJob
        No job could have such a name, queue, lock or priority: a ``ValueError``, too.
    TypeError, ValueError
        Another option is not what it can be. The message names it.
    """

    def __init__(
        self,
        func: Callable[P, R],
        *,
        blueprint: Blueprint,
        name: str | None = None,
        aliases: list[str] | None = None,
        retry: retry_module.RetryValue = False,
        pass_context: bool = False,
        queue: str = DEFAULT_QUEUE,
        priority: int = DEFAULT_PRIORITY,
        lock: Lock | None = None,
        queueing_lock: Lock | None = None,
        on_conflict: OnConflict = "raise",
        task_middleware: list[middleware_module.TaskMiddleware] | None = None,
        timeout: float | None = None,
        log_arguments: bool = True,
        store_result: bool = False,
        max_result_size: int = MAX_RESULT_SIZE,
    ) -> None:
        check_options({"queue": queue, "priority": priority, "lock": lock, "queueing_lock": queueing_lock})
        self.queue = queue
        self.priority = priority
        self.blueprint = blueprint
        self._kept_deferrer: tuple[tuple[Any, ...], JobDeferrer] | None = None
        self.func: Callable[P, R] = func
        self._declaration = read_declaration(func)
        self.arguments = read_call_arguments(func, takes_context=pass_context)
        self.aliases = _read_aliases(aliases)
        self.retry_strategy = retry_module.get_retry_strategy(retry)
        self.name: str = self.full_path if name is None else name
        for one in (self.name, *self.aliases):
            check_name("task name", one)
        check_function(self.name, func)
        self.pass_context = pass_context
        self.lock = lock
        self.queueing_lock = queueing_lock
        _check_arguments_of_locks(self)
        require_on_conflict(on_conflict)
        self.on_conflict: OnConflict = on_conflict
        self.timeout = read_optional_seconds("timeout", timeout)
        _require_switch("pass_context", pass_context)
        _require_switch("log_arguments", log_arguments)
        _require_switch("store_result", store_result)
        self.log_arguments = log_arguments
        self.store_result = store_result
        self.max_result_size = read_count("max_result_size", max_result_size, at_least=1, of="bytes")
        self.task_middleware: list[middleware_module.TaskMiddleware] = list(task_middleware or [])
        middleware_module.check_task_middleware(self.task_middleware, task_name=self.name, task_is_async=self.is_async)
        stand_in_for(func, self, is_async=self.is_async)

    def __repr__(self) -> str:
        return f"<Task {self.name}>"

    def __reduce__(self) -> str:
        """A task is pickled as its function would be, by its name in the module; and copied as itself."""
        return str(getattr(self.func, "__qualname__", self.name))

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function, here and now."""
        return self.func(*args, **kwargs)

    @functools.cached_property
    def full_path(self) -> str:
        """``module.function`` of the function."""
        return get_full_path(self.func)

    @functools.cached_property
    def is_async(self) -> bool:
        """Whether the function is a coroutine function. One that is not runs in a thread."""
        return is_async_callable(self.func)

    def is_another_run_of(self, earlier: Task[Any, Any, Any]) -> bool:
        """Whether this is the task that ``earlier`` was, declared again: its module was reloaded, say."""
        if self._declaration is None or earlier._declaration is None:
            return False
        return self._declaration.is_another_run_of(earlier._declaration)

    def rename(self, names: Iterable[str]) -> None:
        """Change the name, and, after it, the aliases."""
        self.name, *self.aliases = names

    def defer(self, *_: Args.args, **task_kwargs: Args.kwargs) -> int:
        """Defer a job that calls the task with these keyword arguments, and return its id.

        Raises
        ------
        AlreadyEnqueued
            A job is waiting under the same queueing lock.
        InvalidJob
            An argument cannot be stored as JSON.
        TypeError
            Positional arguments were given, or the function cannot be called with these: one is not known to it, or one
            without a default is left out.
        """
        self._refuse_positional(_)
        return self._deferrer().defer(**task_kwargs)

    async def defer_async(self, *_: Args.args, **task_kwargs: Args.kwargs) -> int:
        """As :meth:`defer`."""
        self._refuse_positional(_)
        return await self._deferrer().defer_async(**task_kwargs)

    def batch_defer(self, *task_kwargs: JSONDict) -> list[int]:
        """Defer a job for each dict of keyword arguments, all or none, and return their ids."""
        return self._deferrer().batch_defer(*task_kwargs)

    async def batch_defer_async(self, *task_kwargs: JSONDict) -> list[int]:
        """As :meth:`batch_defer`."""
        return await self._deferrer().batch_defer_async(*task_kwargs)

    def configure(self, **options: Unpack[ConfigureTaskOptions]) -> JobDeferrer:
        """The pattern for jobs of this task, other than by default.

        Parameters
        ----------
        lock, queueing_lock, queue, priority:
            Instead of the task's own; ``None`` keeps the task's own.
            The two locks may be made from the arguments of each job: by a function that takes them as a dict, as in
            ``lock=lambda kwargs: f"customer-{kwargs['customer_id']}"``, or by
            :func:`~procrastinate.locks.by_arguments`.
        on_conflict:
            What to do where the queueing lock is taken: ``"raise"`` AlreadyEnqueued; ``"skip"`` this job, and return
            the id of the one that waits; or ``"replace"``, so that the waiting job gets the arguments, schedule,
            priority, lock and queue of this one, and return its id.
        task_kwargs:
            Arguments that the jobs have in common.
        schedule_at, schedule_in:
            Not before: an aware datetime, or the keyword arguments of :class:`datetime.timedelta` from now.
        connection:
            An open connection of yours: the job is committed or rolled back with its transaction.
        """
        self.blueprint.will_configure_task()
        check_options(options)  # the task's own were checked when it was declared
        return self._configured(options)

    def _configured(self, options: ConfigureTaskOptions) -> JobDeferrer:
        defaults: ConfigureTaskOptions = {
            "lock": self.lock,
            "queueing_lock": self.queueing_lock,
            "on_conflict": self.on_conflict,
            "queue": self.queue,
            "priority": self.priority,
        }
        given = {name: value for name, value in options.items() if value is not None}
        merged = cast("ConfigureTaskOptions", {**defaults, **given})
        deferrer = _make_deferrer(self.name, self.blueprint.job_manager, merged)
        deferrer.job = self.loggable(deferrer.job)
        if self.blueprint.check_arguments:
            deferrer.arguments = self.arguments
        return deferrer

    def _deferrer(self) -> JobDeferrer:
        """The pattern for jobs of this task by default: made once, for as long as the task is what it was."""
        self.blueprint.will_configure_task()
        made_of = (
            self.blueprint.job_manager,
            self.blueprint.check_arguments,
            *(getattr(self, name) for name in _SHAPING_JOBS),
        )
        kept = self._kept_deferrer
        if kept is None or kept[0] != made_of:
            kept = self._kept_deferrer = (made_of, self._configured({}))
        return kept[1]

    def loggable(self, job: Job) -> Job:
        """The job, as it may stand in log records."""
        return job if self.log_arguments == job.log_arguments else job.evolve(log_arguments=self.log_arguments)

    def get_retry_exception(self, exception: BaseException, job: Job) -> exceptions.JobRetry | None:
        """What the task's retry strategy decides, as the exception that ends the run."""
        return self.retry_strategy.get_retry_exception(exception=exception, job=job) if self.retry_strategy else None

    def _refuse_positional(self, arguments: tuple[Any, ...]) -> None:
        if arguments:
            raise TypeError(
                f"Task {self.name} was deferred with positional arguments: name them, as in defer(argument=value)"
            )


def _read_aliases(aliases: Iterable[str] | None) -> list[str]:
    """A lone string would be read letter by letter."""
    if isinstance(aliases, str):
        raise TypeError(f"aliases takes a list of names, not the string {aliases!r}: write aliases=[{aliases!r}]")
    return list(aliases or [])


def _check_arguments_of_locks(task: Task[Any, Any, Any]) -> None:
    """Refuse a lock that is made of an argument which no job can have."""
    for option, lock in (("lock", task.lock), ("queueing_lock", task.queueing_lock)):
        names = lock.names if isinstance(lock, ArgumentLock) else ()
        for name in names:
            if not task.arguments.allows(name):
                raise TypeError(f"The {option} of task {task.name} is made of {name!r}, which it does not take")


def _require_switch(name: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, not {value!r}")


def add_namespace(name: str, namespace: str) -> str:
    """``namespace:name``; the name alone for an empty namespace."""
    return f"{namespace}:{name}" if namespace else name
