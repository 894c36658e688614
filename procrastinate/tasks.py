"""Tasks: functions that jobs call, and the options for deferring them."""

from __future__ import annotations

import dataclasses
import datetime
import functools
import operator
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, ParamSpec, TypedDict, TypeVar, Unpack, cast, overload

from procrastinate import exceptions
from procrastinate import json as typed_json
from procrastinate import middleware as middleware_module
from procrastinate import retry as retry_module
from procrastinate._checks.amounts import read_count, read_optional_seconds
from procrastinate._checks.times import from_now, require_aware
from procrastinate._deferrer import require_on_conflict
from procrastinate._functions.declarations import read_declaration
from procrastinate._functions.import_path import get_full_path
from procrastinate._functions.kinds import check_function, is_async_callable
from procrastinate._functions.signature import CallArguments, check_maker, read_call_arguments
from procrastinate._functions.stand_in import CallForMocks, stand_in_for
from procrastinate._job_checks import check_lock, check_name, check_priority
from procrastinate._text.running_job import running_job
from procrastinate.calls import Call
from procrastinate.defer_hooks import dump_meta
from procrastinate.jobs import DEFAULT_PRIORITY, DEFAULT_QUEUE, Job, JobDeferrer
from procrastinate.json import ArgumentTypes
from procrastinate.limits import ONE_KEY, Limit, read_weight
from procrastinate.locks import ArgumentLock, Lock
from procrastinate.types import JSONDict, OnConflict, TimeDeltaParams
from procrastinate.unique import Unique
from procrastinate.unique_deferrer import UniqueDeferrer, require_unique

if TYPE_CHECKING:
    from procrastinate.blueprints import Blueprint
    from procrastinate.manager import JobManager

P = ParamSpec("P")
Args = ParamSpec("Args")
R_co = TypeVar("R_co", covariant=True)
T = TypeVar("T")


MAX_RESULT_SIZE = 1_048_576
"""Default limit for a stored return value, in bytes of JSON."""


class ConfigureTaskOptions(TypedDict, total=False):
    """Options of ``task.configure(...)`` and ``app.configure_task(...)``."""

    lock: Lock | None
    queueing_lock: Lock | None
    on_conflict: OnConflict | None
    unique: Unique | None
    task_kwargs: JSONDict | None
    schedule_at: datetime.datetime | None
    schedule_in: TimeDeltaParams | datetime.timedelta | None
    queue: str | None
    priority: int | None
    limit_key: Lock | None
    weight: int | None
    connection: Any | None
    meta: JSONDict | None


_OPTIONS = frozenset(ConfigureTaskOptions.__annotations__)
_read_terms_of_jobs: Callable[[Any], tuple[Any, ...]] = operator.attrgetter(
    "name",
    "queue",
    "priority",
    "lock",
    "queueing_lock",
    "on_conflict",
    "unique",
    "limit",
    "weight",
    "log_arguments",
    "store_result",
    "check_arguments",
    "blueprint",
    "blueprint.check_arguments",
    "blueprint.logs_arguments",
)
"""Attributes of a task that its jobs depend on. A change makes the cached deferrer outdated."""


def configure_task(*, name: str, job_manager: JobManager, **options: Unpack[ConfigureTaskOptions]) -> JobDeferrer:
    """Return a deferrer for jobs of the task with this name.

    Raises
    ------
    ValueError
        Both ``schedule_at`` and ``schedule_in`` are given, ``schedule_at`` is naive, ``schedule_in`` leads past the
        last possible datetime, ``on_conflict`` is invalid, or ``unique`` is given together with ``queueing_lock``.
    InvalidJob
        A name, a lock or the priority cannot be stored. It is a ``ValueError``.
    TypeError
        An option is unknown, or ``task_kwargs`` is not a dict.
    """
    check_name("task name", name)
    check_options(options)
    return make_deferrer(name, job_manager, options)


_GIVING_WAY: dict[str, tuple[Literal["queueing_lock", "on_conflict", "unique"], ...]] = {
    "unique": ("queueing_lock", "on_conflict"),
    "queueing_lock": ("unique",),
}
"""Options of ``configure``, and the defaults of the task that they take the place of."""


def make_deferrer(
    name: str, job_manager: JobManager, options: ConfigureTaskOptions, limit: Limit | None = None
) -> JobDeferrer:
    """Return a deferrer for jobs with checked options (:func:`check_options`) and this limit.

    Raises
    ------
    ValueError
        As for :func:`configure_task`, or ``limit_key`` or ``weight`` is given and ``limit`` is not. Or the limit allows
        no job of this weight.
    """
    queue, priority = options.get("queue"), options.get("priority")
    lock, queueing_lock = options.get("lock"), options.get("queueing_lock")
    key = _limit_key(limit, options.get("limit_key"))
    job = Job(
        queue=DEFAULT_QUEUE if queue is None else queue,
        lock=_if_plain(lock),
        queueing_lock=_if_plain(queueing_lock),
        task_name=name,
        task_kwargs=dict(options.get("task_kwargs") or {}),
        scheduled_at=_scheduled_at(options.get("schedule_at"), options.get("schedule_in")),
        priority=DEFAULT_PRIORITY if priority is None else priority,
        meta=dict(options.get("meta") or {}),
        limit_name=None if limit is None else limit.name,
        limit_key=_if_plain(key),
        limit_weight=_weight(limit, options.get("weight")),
    )
    connection, unique = options.get("connection"), options.get("unique")
    if unique is not None:
        require_unique(unique, queueing_lock=queueing_lock, on_conflict=options.get("on_conflict"))
        return UniqueDeferrer(job_manager, job, connection, unique=unique, lock=_if_made(lock), limit_key=_if_made(key))
    return JobDeferrer(
        job_manager=job_manager,
        job=job,
        connection=connection,
        on_conflict=options.get("on_conflict") or "raise",
        lock=_if_made(lock),
        queueing_lock=_if_made(queueing_lock),
        limit_key=_if_made(key),
    )


def _limit_key(limit: Limit | None, key: Lock | None) -> Lock | None:
    """Return the key of the limit, or what makes it from the arguments of a job.

    Raises
    ------
    ValueError
        There is a key and no limit.
    """
    if limit is None:
        if key is not None:
            raise ValueError(f"limit_key={key!r} is the key of no limit: give the task a limit=, or leave it out")
        return None
    if key is not None:
        return key
    return ONE_KEY if limit.by is None else limit.by


def _weight(limit: Limit | None, weight: int | None) -> int | None:
    """Return the weight of a job as it is stored: ``None`` stands for 1.

    Raises
    ------
    ValueError
        There is a weight and no limit, or the limit allows no job of this weight.
    """
    if weight is None or weight == 1:
        return None
    if limit is None:
        raise ValueError(f"weight={weight} counts for no limit: give the task a limit=, or leave it out")
    limit.require_room_for(weight)
    return weight


def _is_made(lock: Lock | None) -> bool:
    return callable(lock) or isinstance(lock, ArgumentLock)


def _if_plain(lock: Lock | None) -> str | None:
    return None if _is_made(lock) else cast("str | None", lock)


def _if_made(lock: Lock | None) -> Lock | None:
    return lock if _is_made(lock) else None


def check_options(options: ConfigureTaskOptions) -> None:
    """Raise for the first unknown or invalid option. The message names the option.

    ``schedule_at`` and ``schedule_in`` are checked later, when the deferrer is made.
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
    if options.get("meta") is not None:
        dump_meta(options.get("meta"))
    check_lock("lock", _if_plain(options.get("lock")))
    check_lock("queueing_lock", _if_plain(options.get("queueing_lock")))
    require_unique(
        options.get("unique"), queueing_lock=options.get("queueing_lock"), on_conflict=options.get("on_conflict")
    )
    check_lock("limit_key", _if_plain(options.get("limit_key")))
    if options.get("weight") is not None:
        read_weight(options["weight"])


def _scheduled_at(
    schedule_at: datetime.datetime | None, schedule_in: TimeDeltaParams | datetime.timedelta | None
) -> datetime.datetime | None:
    if schedule_at is not None and schedule_in is not None:
        raise ValueError("Give schedule_at or schedule_in, not both")
    require_aware("schedule_at", schedule_at)
    return schedule_at if schedule_in is None else from_now("schedule_in", schedule_in)


class Task(Generic[P, R_co, Args]):
    """A function that jobs call, declared with ``@app.task`` or ``@blueprint.task``.

    Calling the task calls the function, here and now.

    Attributes
    ----------
    name, aliases:
        The names by which jobs refer to the task.
    queue, priority, lock, queueing_lock, on_conflict, unique, limit, weight:
        Defaults for its jobs. ``configure`` overrides them.
    retry_strategy:
        Decides whether and when a job that raised runs again. With ``None``, such a job fails.
    pass_context:
        If true, the first argument of the function is a :class:`~procrastinate.job_context.JobContext`.
    timeout:
        Seconds that a run may take. ``None`` means no limit.
    log_arguments:
        If false, log records show neither the arguments nor the results of its jobs.
    store_result, max_result_size:
        If ``store_result`` is true, the job keeps the return value, up to ``max_result_size`` bytes of JSON.
    check_arguments:
        If false, jobs may have arguments that do not fit the signature of the function.
    keep_logs:
        If true, its jobs keep what they log.

    Raises
    ------
    InvalidJob
        The name, queue, lock or priority cannot be stored. It is a ``ValueError``.
    TypeError, ValueError
        Another option is invalid. The message names it.
    """

    def __init__(
        self,
        func: Callable[P, R_co],
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
        unique: Unique | None = None,
        limit: Limit | None = None,
        weight: int = 1,
        task_middleware: list[middleware_module.TaskMiddleware] | None = None,
        timeout: float | None = None,
        log_arguments: bool = True,
        store_result: bool = False,
        max_result_size: int = MAX_RESULT_SIZE,
        check_arguments: bool = True,
        keep_logs: bool = False,
    ) -> None:
        check_options(
            {
                "queue": queue,
                "priority": priority,
                "lock": lock,
                "queueing_lock": queueing_lock,
                "on_conflict": on_conflict,
                "unique": unique,
            }
        )
        self.queue = queue
        self.priority = priority
        self.blueprint = blueprint
        self._kept_deferrer: tuple[tuple[Any, ...], JobDeferrer] | None = None
        self._is_shared = False
        self._shared: Task[P, R_co, Args] | None = None
        self.func: Callable[P, R_co] = func
        self.declaration = read_declaration(func)
        self.arguments = read_call_arguments(func, takes_context=pass_context)
        self.aliases = _read_aliases(aliases)
        self.retry_strategy = retry_module.get_retry_strategy(retry)
        self.name: str = self.full_path if name is None else name
        for one in (self.name, *self.aliases):
            check_name("task name", one)
        check_function(self.name, func, gets_positional=pass_context)
        self.pass_context = pass_context
        self.lock = lock
        self.queueing_lock = queueing_lock
        self.unique = unique
        if limit is not None and not isinstance(limit, Limit):
            raise TypeError(f"limit must be a procrastinate.Limit, not {limit!r}")
        self.limit = limit
        self.weight = read_weight(weight)
        if limit is not None:
            limit.require_room_for(self.weight)
        require_on_conflict(on_conflict)
        _check_arguments_of_locks(self)
        self.on_conflict: OnConflict = on_conflict
        self.timeout = read_optional_seconds("timeout", timeout)
        _require_switch("pass_context", pass_context)
        _require_switch("log_arguments", log_arguments)
        _require_switch("store_result", store_result)
        _require_switch("check_arguments", check_arguments)
        _require_switch("keep_logs", keep_logs)
        self.keep_logs = keep_logs
        self.check_arguments = check_arguments
        self.log_arguments = log_arguments
        self.store_result = store_result
        self.max_result_size = read_count("max_result_size", max_result_size, at_least=1, of="bytes")
        self.task_middleware: list[middleware_module.TaskMiddleware] = list(task_middleware or [])
        middleware_module.check_task_middleware(self.task_middleware, task_name=self.name, task_is_async=self.is_async)
        stand_in_for(func, self, is_async=self.is_async)

    __func__ = CallForMocks()

    def __repr__(self) -> str:
        return f"<Task {self.name}>"

    def __reduce__(self) -> str:
        """Pickle the task like its function, by qualified name. A copy is the task itself."""
        return str(getattr(self.func, "__qualname__", self.name))

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Call the function, here and now."""
        return self.func(*args, **kwargs)

    @functools.cached_property
    def full_path(self) -> str:
        """Dotted path of the function, ``module.function``."""
        return get_full_path(self.func)

    @functools.cached_property
    def is_async(self) -> bool:
        """True for a coroutine function. Other functions run in a thread."""
        return is_async_callable(self.func)

    @functools.cached_property
    def argument_types(self) -> ArgumentTypes:
        """The annotated types of its arguments, for a worker that reads arguments by annotation."""
        return ArgumentTypes(self.func)

    def is_another_run_of(self, earlier: Task[Any, Any, Any]) -> bool:
        """Return true if both tasks come from one declaration that ran twice, for example in a reload."""
        return self.declaration.is_another_run_of(earlier.declaration)

    def copy(self) -> Task[P, R_co, Args]:
        """Return another task with the same function and options. A change of one does not change the other."""
        other: Task[P, R_co, Args] = object.__new__(type(self))
        other.__dict__.update(self.__dict__, aliases=list(self.aliases), _kept_deferrer=None, _is_shared=False)
        return other

    def share(self) -> Task[P, R_co, Args]:
        """Return a copy for the app that has the task now. From now on, jobs of that app defer with the copy."""
        self._is_shared = True
        own = self.copy()
        own._shared = self
        return own

    @property
    def shared(self) -> Task[P, R_co, Args]:
        """The task that this one is a copy of, or this task."""
        return self._shared or self

    def _of_running_app(self) -> Task[P, R_co, Args]:
        """Return the task as the app of the running job has it, if several apps share it."""
        job = running_job.get() if self._is_shared else None
        return self if job is None or job.app is None else job.app.own(self)

    def rename(self, names: Iterable[str]) -> None:
        """Set the name to the first of ``names`` and the aliases to the others."""
        self.name, *self.aliases = names

    def defer(self, /, *_: Args.args, **task_kwargs: Args.kwargs) -> int:
        """Defer a job that calls the task with these keyword arguments, and return the job's id.

        Raises
        ------
        AlreadyEnqueued
            A waiting job has the same queueing lock, and ``on_conflict`` is ``"raise"``. Or another job holds the same
            unique key.
        InvalidJob
            An argument cannot be stored as JSON.
        TypeError
            An argument is positional, is unknown to the function, or is missing although it has no default.
        """
        if _:
            self._refuse_positional(_)
        return self._deferrer().defer(**task_kwargs)

    async def defer_async(self, /, *_: Args.args, **task_kwargs: Args.kwargs) -> int:
        """Asynchronous version of :meth:`defer`."""
        if _:
            self._refuse_positional(_)
        return await self._deferrer().defer_async(**task_kwargs)

    @overload
    def call(self: Task[P, Coroutine[Any, Any, T], Args], /, *_: Args.args, **task_kwargs: Args.kwargs) -> Call[T]: ...
    @overload
    def call(self: Task[P, R_co, Args], /, *_: Args.args, **task_kwargs: Args.kwargs) -> Call[R_co]: ...
    def call(self, /, *_: Args.args, **task_kwargs: Args.kwargs) -> Call[Any]:
        """Return a call of the task with these arguments, to become a step of a workflow. Nothing is stored.

        The result of another step may stand among the arguments, as ``step.value``.

        Raises
        ------
        TypeError
            As for :meth:`defer`.
        """
        if _:
            self._refuse_positional(_)
        return self._deferrer().call(**task_kwargs)

    def batch_defer(self, *task_kwargs: JSONDict) -> list[int]:
        """Defer one job for each dict of keyword arguments, all or none, and return their ids in the same order."""
        return self._deferrer().batch_defer(*task_kwargs)

    async def batch_defer_async(self, *task_kwargs: JSONDict) -> list[int]:
        """Asynchronous version of :meth:`batch_defer`."""
        return await self._deferrer().batch_defer_async(*task_kwargs)

    def configure(self, **options: Unpack[ConfigureTaskOptions]) -> JobDeferrer:
        """Return a deferrer for jobs of this task with other options than the task's defaults.

        Parameters
        ----------
        lock, queueing_lock, queue, priority:
            New values. ``None`` keeps the task's default.
            A lock may depend on the arguments of each job. Give a function that takes the arguments as a dict, as in
            ``lock=lambda kwargs: f"customer-{kwargs['customer_id']}"``, or use
            :func:`~procrastinate.locks.by_arguments`.
        on_conflict:
            What happens if a waiting job has the same queueing lock. ``"raise"`` raises ``AlreadyEnqueued``.
            ``"skip"`` defers nothing and returns the id of the waiting job. ``"replace"`` gives the waiting job the
            arguments, schedule, priority, lock, limit and queue of this one, and returns its id.
        unique:
            Which jobs exclude each other: a :class:`~procrastinate.Unique`. It takes the place of the task's
            queueing lock, and a queueing lock takes the place of the task's ``unique``.
        limit_key:
            The key of the task's limit, in place of that which the limit makes by its ``by``. It may depend on the
            arguments, as a lock.
        weight:
            How many slots of the task's limit the job takes, and as how many starts of a rate it counts.
        task_kwargs:
            Arguments that all jobs share.
        schedule_at, schedule_in:
            The earliest start: an aware datetime, or the time from now. Give a :class:`datetime.timedelta` or its
            keyword arguments, as in ``schedule_in={"minutes": 5}``.
        connection:
            An open connection of yours. The job is committed or rolled back with its transaction.
        meta:
            A dict that describes the job, at most 4,096 bytes of JSON. It is shown with the job and is
            ``context.job.meta`` in the task.

        Raises
        ------
        ValueError
            Both ``schedule_at`` and ``schedule_in`` are given, ``schedule_at`` is naive, ``schedule_in`` leads past
            the last possible datetime, ``on_conflict`` is invalid, or ``unique`` is given together with
            ``queueing_lock``. Or the limit of the task allows no job of this weight.
        InvalidJob
            A queue, a lock or the priority cannot be stored. It is a ``ValueError``.
        TypeError
            An option is unknown, or ``task_kwargs`` is not a dict.
        """
        self.blueprint.will_configure_task()
        check_options(options)  # the task's defaults were checked at its declaration
        return self._of_running_app()._configured(options)

    def _configured(self, options: ConfigureTaskOptions) -> JobDeferrer:
        defaults: ConfigureTaskOptions = {
            "lock": self.lock,
            "queueing_lock": self.queueing_lock,
            "on_conflict": self.on_conflict,
            "unique": self.unique,
            "queue": self.queue,
            "priority": self.priority,
        }
        given = {name: value for name, value in options.items() if value is not None}
        for name in _GIVING_WAY.keys() & given.keys():
            for other in _GIVING_WAY[name]:
                del defaults[other]
        merged = cast("ConfigureTaskOptions", {**defaults, **given})
        limit = self.limit or self.blueprint.find_limit_of_queue(merged.get("queue"))
        if limit is not None:
            merged.setdefault("weight", self.weight)
        deferrer = make_deferrer(self.name, self.blueprint.job_manager, merged, limit)
        deferrer.job = self.loggable(deferrer.job)
        deferrer.stores_result = self.store_result
        deferrer.task = self
        if self.checks_arguments:
            deferrer.arguments = self._call_arguments()
        return deferrer

    def _call_arguments(self) -> CallArguments:
        """Return what checks the arguments of a job. If a worker reads them by annotation, it proves that it can.

        A pattern that is made before the app has its connector does without the proof.
        """
        try:
            connector = self.blueprint.job_manager.connector
            is_typed = connector.json_dumps is typed_json.dumps and connector.json_loads is typed_json.loads
        except exceptions.ProcrastinateException:  # an app of Django that is not ready
            return self.arguments
        if not is_typed:
            return self.arguments
        return _TypedArguments(self.arguments.allowed, self.arguments.required, types=self.argument_types)

    def _deferrer(self) -> JobDeferrer:
        """Return the deferrer with the task's defaults. It is cached until an attribute that it depends on changes."""
        if self._is_shared and (own := self._of_running_app()) is not self:
            return own._deferrer()
        made_of = _read_terms_of_jobs(self)
        kept = self._kept_deferrer
        if kept is None or kept[0] != made_of:
            self.blueprint.will_configure_task()
            kept = self._kept_deferrer = (made_of, self._configured({}))
        return kept[1]

    @property
    def checks_arguments(self) -> bool:
        """True if neither the task nor its app turns off the check of arguments."""
        return self.check_arguments and self.blueprint.check_arguments

    def loggable(self, job: Job) -> Job:
        """Return the job as log records may show it: with its arguments, or without."""
        return job.loggable(self.log_arguments and self.blueprint.logs_arguments)

    def get_retry_exception(self, exception: BaseException, job: Job) -> exceptions.JobRetry | None:
        """Ask the retry strategy, and return its decision as the exception that ends the run, or ``None``."""
        return self.retry_strategy.get_retry_exception(exception=exception, job=job) if self.retry_strategy else None

    def _refuse_positional(self, arguments: tuple[Any, ...]) -> None:
        if arguments:
            raise TypeError(
                f"Task {self.name} was deferred with positional arguments: name them, as in defer(argument=value)"
            )


@dataclasses.dataclass(frozen=True)
class _TypedArguments(CallArguments):
    types: ArgumentTypes = dataclasses.field(kw_only=True)
    checks_values: ClassVar[bool] = True

    def check(self, task_name: str, given: Mapping[str, Any]) -> None:
        super().check(task_name, given)
        self.types.prove(task_name, given)


def _read_aliases(aliases: Iterable[str] | None) -> list[str]:
    """Return the aliases as a list. Refuse a string, which would count as a list of letters."""
    if isinstance(aliases, str):
        raise TypeError(f"aliases takes a list of names, not the string {aliases!r}: write aliases=[{aliases!r}]")
    return list(aliases or [])


def _check_arguments_of_locks(task: Task[Any, Any, Any]) -> None:
    """Refuse a lock on an argument that the function does not take, and one of a function that makes no lock."""
    locks = (
        ("lock", task.lock),
        ("queueing_lock", task.queueing_lock),
        ("unique key", None if task.unique is None else task.unique.by),
        ("limit", None if task.limit is None else task.limit.by),
    )
    for option, lock in locks:
        check_maker(f"The {option} of task {task.name}", lock)
        names = lock.names if isinstance(lock, ArgumentLock) else ()
        for name in names:
            if not task.arguments.allows(name):
                raise TypeError(f"The {option} of task {task.name} needs the argument {name!r}, which it does not take")


def _require_switch(name: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, not {value!r}")


def add_namespace(name: str, namespace: str) -> str:
    """Return ``namespace:name``, or the name alone for an empty namespace."""
    return f"{namespace}:{name}" if namespace else name
