"""Periodic tasks: the registry of schedules, and the deferrer of due ticks."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import datetime
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeAlias, TypedDict, TypeVar, Unpack, cast

from procrastinate import cron as cron_module
from procrastinate import exceptions
from procrastinate._checks.amounts import read_seconds
from procrastinate._checks.zones import as_timezone
from procrastinate._functions.declarations import Declaration, read_declaration
from procrastinate._job_checks import check_name
from procrastinate._text.logs import Seldom, get_logger
from procrastinate.core.defaults import KEEP_TICKS_FOR
from procrastinate.core.errors import is_lock_timeout
from procrastinate.defer_hooks import Tick
from procrastinate.locks import ArgumentLock, Lock
from procrastinate.tasks import ConfigureTaskOptions, Task, check_options
from procrastinate.unique_deferrer import UniqueDeferrer

if TYPE_CHECKING:
    from procrastinate.jobs import JobDeferrer
    from procrastinate.manager import JobManager

P = ParamSpec("P")
Args = ParamSpec("Args")
R = TypeVar("R")

logger = get_logger(__name__)

MARGIN = 0.5
"""Extra seconds of sleep, so that the deferrer never wakes just before a tick."""
DEFAULT_MAX_DELAY = 600.0
MAX_DELAY = DEFAULT_MAX_DELAY
"""Name of :data:`DEFAULT_MAX_DELAY` in 3.x."""
_LONGEST_SLEEP = 60.0
"""Maximum sleep in seconds. A suspended machine stops the clock of a sleep, so a long sleep would overrun."""
_HELD_UP_PAUSE = 2.0
"""Seconds before the retry of a tick that the database refuses, or whose queueing lock an open transaction has."""
_LOOK_AGAIN = 2.0
"""Seconds between two looks for a first periodic task."""
_IGNORED = ("schedule_at", "schedule_in")
_REFUSED = (
    "The database refused ticks of periodic tasks %d times. They are tried again, and the other schedules go on. "
    "The last error: %s"
)


class PeriodicDefaults(TypedDict, total=False):
    """Options in ``periodic_defaults`` of an app."""

    max_delay: float


def read_max_delay(*, max_delay: float = DEFAULT_MAX_DELAY) -> float:
    """Return ``max_delay`` of ``periodic_defaults`` in seconds, or the default.

    Raises
    ------
    TypeError, ValueError
        The value is not a number of seconds.
    """
    return read_seconds("max_delay", max_delay, may_be_zero=True)


@dataclasses.dataclass(frozen=True)
class PeriodicTask(Generic[P, R, Args]):
    """A task with its schedule and the options for its jobs."""

    task: Task[P, R, Args]
    cron: str
    periodic_id: str
    configure_kwargs: ConfigureTaskOptions
    timezone: datetime.tzinfo = datetime.UTC
    declaration: Declaration = dataclasses.field(default_factory=read_declaration, repr=False, compare=False)

    def __post_init__(self) -> None:
        cron_module.check_cron(self.cron)

    def next_tick(self, after: float) -> float:
        """Return the first tick after a time. Both are in seconds since 1970."""
        return cron_module.next_tick(self.cron, after, self.timezone)

    def describe_tick(self, timestamp: int) -> Tick:
        """Return a tick with its schedule, for the hooks of the app."""
        zone = "UTC" if self.timezone is datetime.UTC else getattr(self.timezone, "key", None)
        return Tick(cron=self.cron, periodic_id=self.periodic_id, timestamp=timestamp, timezone=zone)

    def make_deferrer(self) -> JobDeferrer:
        """Return the deferrer of the jobs of ticks. It may call functions of the program, for locks and keys."""
        options = {name: value for name, value in self.configure_kwargs.items() if name not in _IGNORED}
        return self.task.configure(**cast("ConfigureTaskOptions", options))

    def previous_tick(self, before: float) -> float:
        """Return the last tick at or before a time. Both are in seconds since 1970."""
        return cron_module.previous_tick(self.cron, before, self.timezone)


TaskAtTime: TypeAlias = tuple[PeriodicTask[Any, Any, Any], int]
"""A periodic task and one of its ticks, in seconds since 1970."""


def _check_periodic_id(value: Any) -> None:
    if value != "":
        check_name("periodic_id", value)


def _check_call(task: Task[Any, Any, Any], configure_kwargs: ConfigureTaskOptions) -> None:
    """Refuse a schedule whose jobs cannot run: they have the configured ``task_kwargs`` and ``timestamp``."""
    if not task.checks_arguments:
        return
    if not task.arguments.allows("timestamp"):
        raise TypeError(f"Task {task.name} is periodic: its function must take the argument 'timestamp'")
    task.arguments.check(task.name, {**(configure_kwargs.get("task_kwargs") or {}), "timestamp": 0})


def _check_jobs(schedule: PeriodicTask[Any, Any, Any]) -> None:
    """Refuse options with which no job of the schedule can be made. No function of the program is called.

    Raises
    ------
    TypeError, ValueError
        A lock or a key needs an argument that the jobs do not have. Or the limit of the task is missing, or allows no
        job of this weight.
    """
    options = schedule.configure_kwargs
    given = {*(options.get("task_kwargs") or {}), "timestamp"}
    for option, lock in _locks_of(schedule.task, options):
        missing = [name for name in lock.names if name not in given] if isinstance(lock, ArgumentLock) else []
        if missing:
            raise TypeError(
                f"Task {schedule.task.name} is periodic: its {option} needs the argument {missing[0]!r}, which the "
                "jobs of the schedule do not have. Give it in task_kwargs="
            )
    with contextlib.suppress(exceptions.UnboundTaskError):  # an app knows the limits of its queues
        schedule.make_deferrer()


def _locks_of(task: Task[Any, Any, Any], options: ConfigureTaskOptions) -> Iterator[tuple[str, Lock | None]]:
    """Yield the locks and keys of the jobs that a task has with these options."""
    queueing_lock, unique = options.get("queueing_lock"), options.get("unique")
    if unique is None and queueing_lock is None:
        queueing_lock, unique = task.queueing_lock, task.unique
    yield "lock", task.lock if options.get("lock") is None else options["lock"]
    yield "queueing_lock", queueing_lock
    yield "unique key", None if unique is None else unique.by
    by = None if task.limit is None else task.limit.by
    yield "limit_key", by if options.get("limit_key") is None else options["limit_key"]


class PeriodicRegistry:
    """The periodic tasks of a blueprint."""

    def __init__(self) -> None:
        self.periodic_tasks: dict[tuple[str, str], PeriodicTask[Any, Any, Any]] = {}

    def periodic_decorator(
        self,
        cron: str,
        periodic_id: str,
        timezone: str | datetime.tzinfo = datetime.UTC,
        **configure_kwargs: Unpack[ConfigureTaskOptions],
    ) -> Callable[[Task[P, R, Concatenate[int, Args]]], Task[P, R, Args]]:
        """Implement :meth:`Blueprint.periodic <procrastinate.blueprints.Blueprint.periodic>`."""
        cron_module.check_cron(cron)
        check_options(configure_kwargs)
        _check_periodic_id(periodic_id)
        zone = as_timezone(timezone)

        def register(task: Task[P, R, Concatenate[int, Args]]) -> Task[P, R, Args]:
            self.register_task(
                task=task, cron=cron, periodic_id=periodic_id, configure_kwargs=configure_kwargs, timezone=zone
            )
            return cast("Task[P, R, Args]", task)

        return register

    def register_task(
        self,
        task: Task[P, R, Concatenate[int, Args]],
        cron: str,
        periodic_id: str,
        configure_kwargs: ConfigureTaskOptions,
        timezone: str | datetime.tzinfo = datetime.UTC,
    ) -> PeriodicTask[P, R, Concatenate[int, Args]]:
        """Add a schedule to a task, and return it.

        Raises
        ------
        TaskAlreadyRegistered
            The task already has another schedule with this ``periodic_id``.
        TypeError, ValueError
            No job of the schedule could be made or run. The message says why.
        """
        _check_call(task, configure_kwargs)
        key = (task.name, periodic_id)
        periodic_task = PeriodicTask(
            task=task,
            cron=cron,
            periodic_id=periodic_id,
            configure_kwargs=configure_kwargs,
            timezone=as_timezone(timezone),
        )
        _check_jobs(periodic_task)
        earlier = self.periodic_tasks.get(key)
        if earlier == periodic_task:  # the same declaration ran again
            return earlier
        if earlier is not None and not periodic_task.declaration.is_another_run_of(earlier.declaration):
            raise exceptions.TaskAlreadyRegistered(
                f"Task {task.name!r} is already periodic: give the second schedule another periodic_id=. The "
                f"first one is declared {periodic_task.declaration.describe_clash(earlier.declaration)}"
            )
        logger.debug(
            "Registering periodic task %s with cron %s",
            task.name,
            cron,
            extra={
                "action": "registering_periodic_task",
                "task": task.name,
                "cron": cron,
                "periodic_id": periodic_id,
                "kwargs": configure_kwargs,
            },
        )
        self.periodic_tasks[key] = periodic_task
        return periodic_task

    def forget(self, task: Task[Any, Any, Any]) -> None:
        """Remove the schedules of a task."""
        self.periodic_tasks = {key: one for key, one in self.periodic_tasks.items() if one.task is not task}

    def replace(self, task: Task[Any, Any, Any], by: Task[Any, Any, Any]) -> None:
        """Let the schedules of a task defer jobs of another one with the same name."""
        for key, one in self.periodic_tasks.items():
            if one.task is task:
                self.periodic_tasks[key] = dataclasses.replace(one, task=by)

    def add_from(self, other: PeriodicRegistry) -> None:
        """Add the schedules of another registry, under the current names of its tasks."""
        for periodic_task in other.periodic_tasks.values():
            self.periodic_tasks[(periodic_task.task.name, periodic_task.periodic_id)] = periodic_task


class PeriodicDeferrer:
    """Defers due ticks, and sleeps until the next one.

    Parameters
    ----------
    max_delay:
        Maximum age of a tick in seconds. A starting deferrer defers the last tick only if it is at most this old.
        After a pause, a deferrer catches up on missed ticks of at most this age, and always on the last one.
    job_manager:
        The manager that defers the jobs. The default is the manager of the task's app.
    """

    def __init__(
        self,
        registry: PeriodicRegistry,
        max_delay: float = DEFAULT_MAX_DELAY,
        job_manager: JobManager | None = None,
    ) -> None:
        self.registry = registry
        self.max_delay = max_delay
        self.job_manager = job_manager
        self.last_defers: dict[tuple[str, str], int] = {}
        self.has_looked = asyncio.Event()
        """Set once the ticks that were due at the start are deferred, or could not be."""
        self._held_up: set[tuple[str, str]] = set()

    async def run(self) -> None:
        """Defer ticks until cancelled. Without a periodic task, look again later, because a job may import one."""
        await self.worker()
        while True:
            await asyncio.sleep(_LOOK_AGAIN)
            if self.registry.periodic_tasks:
                await self.worker()

    async def worker(self) -> None:
        """Defer ticks until cancelled. Return at once if there are no periodic tasks."""
        if not self.registry.periodic_tasks:
            self.has_looked.set()
            logger.info("No periodic task found", extra={"action": "periodic_deferrer_no_task"})
            return
        refused = Seldom(logger, _REFUSED, "periodic_task_refused")
        while True:
            pause = await self._look(refused)
            await self.wait(pause)

    async def _look(self, refused: Seldom) -> float:
        """Defer the ticks that are due. A look that loses its connection does not count, and is repeated soon."""
        try:
            pause = await self._defer_due(refused)
        except exceptions.DatabaseUnavailable:
            raise
        except BaseException:
            self.has_looked.set()
            raise
        self.has_looked.set()
        return pause

    async def _defer_due(self, refused: Seldom) -> float:
        """Defer the ticks that are due, and return the seconds until the next look."""
        now = await self._manager().read_clock()
        try:
            await self.defer_jobs(self.get_previous_tasks(now))
        except exceptions.DatabaseUnavailable:
            raise
        except exceptions.ConnectorException as error:
            refused.note(error)  # a restart with growing pauses would make the other schedules late
        return min(self.get_next_tick(now), _HELD_UP_PAUSE if self._held_up else _LONGEST_SLEEP)

    def _manager(self) -> JobManager:
        """Return the manager whose database clock times the ticks. Clocks of machines differ and jump."""
        some = next(iter(self.registry.periodic_tasks.values())).task
        return self.job_manager or some.configure().job_manager

    def get_next_tick(self, at: float) -> float:
        """Return the seconds from ``at`` until the next tick of any task."""
        return min(one.next_tick(at) for one in list(self.registry.periodic_tasks.values())) - at

    def get_previous_tasks(self, at: float) -> Iterable[TaskAtTime]:
        """Yield the ticks up to ``at`` that this deferrer has not handled yet, oldest first within a task."""
        for key, periodic_task in list(self.registry.periodic_tasks.items()):  # a job may import another schedule
            for timestamp in self.get_timestamps(periodic_task, since=self.last_defers.get(key), until=at):
                yield periodic_task, timestamp

    def get_timestamps(
        self, periodic_task: PeriodicTask[Any, Any, Any], since: int | None, until: float
    ) -> Iterable[int]:
        """Return the ticks of a task after ``since`` and up to ``until``, in seconds since 1970.

        Without ``since``, return only the last tick, and only if it is at most ``max_delay`` old. With ``since``,
        leave out ticks older than ``max_delay``, except the last one. If the clock was set back to before ``since``,
        do the same as without it. The database knows which ticks are deferred.
        """
        last = periodic_task.previous_tick(until)
        if since is None or until < since:
            return self._first(periodic_task, int(last), delay=until - last)
        if last <= since:
            return []
        # The small margin keeps a tick that is exactly max_delay old.
        tick = periodic_task.next_tick(max(since, until - self.max_delay - 1e-3))
        ticks = []
        while tick < last:
            ticks.append(int(tick))
            tick = periodic_task.next_tick(tick)
        return [*ticks, int(last)]

    def _first(self, periodic_task: PeriodicTask[Any, Any, Any], tick: int, delay: float) -> list[int]:
        if delay <= self.max_delay:
            return [tick]
        logger.debug(
            "Ignoring the last tick of %s, %.0f s ago",
            periodic_task.task.name,
            delay,
            extra={
                "action": "ignore_periodic_task",
                "task": periodic_task.task.name,
                "periodic_id": periodic_task.periodic_id,
                "max_delay": self.max_delay,
                "last_timestamp": tick,
                "delay": delay,
            },
        )
        self.last_defers[(periodic_task.task.name, periodic_task.periodic_id)] = tick
        return []

    async def defer_jobs(self, jobs_to_defer: Iterable[TaskAtTime]) -> None:
        """Defer these ticks, except those that another worker has deferred.

        If the database refuses a tick, this tick and the later ticks of its schedule are left for the next call. The
        other schedules are not affected.

        Raises
        ------
        ConnectorException
            The database is unavailable, or refuses a tick. Call again to defer the remaining ticks. No exception is
            raised if the only reason is another open transaction that has taken the queueing lock.
        """
        self._held_up.clear()
        refusal: exceptions.ConnectorException | None = None
        for periodic_task, timestamp in jobs_to_defer:
            key = periodic_task.task.name, periodic_task.periodic_id
            if key in self._held_up:
                continue
            try:
                await self._defer_tick(periodic_task, timestamp)
            except exceptions.DatabaseUnavailable:
                raise
            except exceptions.ConnectorException as error:
                self._held_up.add(key)
                if is_lock_timeout(error):
                    _log_held_up(periodic_task, timestamp)
                else:
                    refusal = error
                continue
            except (Exception, SystemExit, KeyboardInterrupt) as error:
                # One task with an error must not block the ticks of the others.
                _log_error(periodic_task, timestamp, error)
            self.last_defers[key] = timestamp
        if refusal is not None:
            raise refusal

    async def _defer_tick(self, periodic_task: PeriodicTask[Any, Any, Any], timestamp: int) -> None:
        task = periodic_task.task
        extra = {"task": task.name, "periodic_id": periodic_task.periodic_id, "defer_timestamp": timestamp}
        with _as_plain_error():  # locks and keys are made by functions of the program
            deferrer = periodic_task.make_deferrer()
            job = deferrer.make_new_job(timestamp=timestamp)
            unique_key = deferrer.make_unique_key(job) if isinstance(deferrer, UniqueDeferrer) else None
        manager = self.job_manager or deferrer.job_manager
        tick = periodic_task.periodic_id, timestamp
        terms = deferrer.unique if isinstance(deferrer, UniqueDeferrer) else deferrer
        options: dict[str, Any] = {
            "on_conflict": terms.on_conflict,
            "keep_for": self.max_delay + KEEP_TICKS_FOR,
            "tick": periodic_task.describe_tick(timestamp),
            "former_names": task.aliases,
        }
        try:
            if isinstance(deferrer, UniqueDeferrer):
                job_id = await manager.defer_unique_periodic_job(job, unique_key, *tick, **options)
            else:
                job_id = await manager.defer_periodic_job(job, *tick, **options)
        except exceptions.AlreadyEnqueued as error:
            logger.debug(
                "Skipping periodic task %s: %s",
                task.name,
                error,
                extra=extra | {"action": "skip_periodic_task_queueing_lock"},
            )
            return
        if job_id is None:
            logger.debug(
                "Periodic task %s was already deferred",
                task.name,
                extra=extra | {"action": "periodic_task_already_deferred"},
            )
        else:
            logger.info(
                "Periodic task %s deferred for timestamp %s with id %s",
                task.name,
                timestamp,
                job_id,
                extra=extra | {"action": "periodic_task_deferred", "job_id": job_id},
            )

    async def wait(self, next_tick: float) -> None:
        """Sleep for ``next_tick`` seconds plus :data:`MARGIN`."""
        logger.debug(
            "Waiting %.1f s for the next periodic task",
            next_tick,
            extra={"action": "wait_next_tick", "next_tick": next_tick},
        )
        await asyncio.sleep(next_tick + MARGIN)


@contextlib.contextmanager
def _as_plain_error() -> Iterator[None]:
    """Raise an exit of the program's code as a ``RuntimeError``. It would end the deferrer of all tasks."""
    try:
        yield
    except Exception:
        raise
    except BaseException as error:
        raise RuntimeError(f"The code of the task raised {type(error).__name__}") from error


def _log_held_up(periodic_task: PeriodicTask[Any, Any, Any], timestamp: int) -> None:
    logger.info(
        "Periodic task %s is postponed: an open transaction has taken its queueing lock",
        periodic_task.task.name,
        extra={
            "action": "periodic_task_held_up",
            "task": periodic_task.task.name,
            "periodic_id": periodic_task.periodic_id,
            "defer_timestamp": timestamp,
        },
    )


def _log_error(periodic_task: PeriodicTask[Any, Any, Any], timestamp: int, error: BaseException) -> None:
    logger.error(
        "Periodic task %s cannot be deferred: %s",
        periodic_task.task.name,
        error,
        extra={
            "action": "periodic_task_error",
            "task": periodic_task.task.name,
            "periodic_id": periodic_task.periodic_id,
            "defer_timestamp": timestamp,
        },
        exc_info=error,
    )
