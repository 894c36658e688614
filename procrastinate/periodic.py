"""Tasks on a schedule: which there are, and which ticks are due."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeAlias, TypedDict, TypeVar, Unpack, cast

from procrastinate import cron as cron_module
from procrastinate import exceptions
from procrastinate._checks.amounts import read_seconds
from procrastinate._checks.zones import as_timezone
from procrastinate._job_checks import check_name
from procrastinate._text.logs import get_logger
from procrastinate.core.errors import is_lock_timeout
from procrastinate.core.ticks import KEEP_TICKS_FOR
from procrastinate.tasks import ConfigureTaskOptions, Task, check_options

if TYPE_CHECKING:
    from procrastinate.manager import JobManager

P = ParamSpec("P")
Args = ParamSpec("Args")
R = TypeVar("R")

logger = get_logger(__name__)

MARGIN = 0.5
"""Seconds to sleep past a tick, so as not to wake a moment before it."""
DEFAULT_MAX_DELAY = 600.0
MAX_DELAY = DEFAULT_MAX_DELAY
"""The name that 3.x had for it."""
_LONGEST_SLEEP = 60.0
"""Seconds. A sleep is longer than it was meant to be where the machine slept meanwhile: its clock stands still."""
_HELD_UP_PAUSE = 2.0
"""Seconds until a tick is tried again whose queueing lock somebody's open transaction has taken."""
_IGNORED = ("schedule_at", "schedule_in")


class PeriodicDefaults(TypedDict, total=False):
    """What ``periodic_defaults`` of an app takes."""

    max_delay: float


def read_max_delay(*, max_delay: float = DEFAULT_MAX_DELAY) -> float:
    """The seconds in ``periodic_defaults``, or those that count without.

    Raises
    ------
    TypeError, ValueError
        They are none.
    """
    return read_seconds("max_delay", max_delay, may_be_zero=True)


@dataclasses.dataclass(frozen=True)
class PeriodicTask(Generic[P, R, Args]):
    """A task, when it is to be deferred, and how."""

    task: Task[P, R, Args]
    cron: str
    periodic_id: str
    configure_kwargs: ConfigureTaskOptions
    timezone: datetime.tzinfo = datetime.UTC

    def __post_init__(self) -> None:
        cron_module.check_cron(self.cron)

    def next_tick(self, after: float) -> float:
        """The first tick after a time; both in seconds since 1970."""
        return cron_module.next_tick(self.cron, after, self.timezone)

    def previous_tick(self, before: float) -> float:
        """The last tick at or before a time; both in seconds since 1970."""
        return cron_module.previous_tick(self.cron, before, self.timezone)


TaskAtTime: TypeAlias = tuple[PeriodicTask[Any, Any, Any], int]
"""A periodic task and one of its ticks, in seconds since 1970."""


def _check_periodic_id(value: Any) -> None:
    if value != "":
        check_name("periodic_id", value)


def _check_call(task: Task[Any, Any, Any], configure_kwargs: ConfigureTaskOptions) -> None:
    """Refuse a schedule none of whose jobs could run: ticks come with a ``timestamp``, and with what is configured."""
    if not task.blueprint.check_arguments:
        return
    if not task.arguments.allows("timestamp"):
        raise TypeError(f"Task {task.name} is periodic: its function must take the argument 'timestamp'")
    task.arguments.check(task.name, {**(configure_kwargs.get("task_kwargs") or {}), "timestamp": 0})


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
        """As :meth:`Blueprint.periodic <procrastinate.blueprints.Blueprint.periodic>`."""
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
        """Add a schedule to a task.

        Raises
        ------
        TaskAlreadyRegistered
            The task has a schedule with that ``periodic_id`` already.
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
        earlier = self.periodic_tasks.get(key)
        if earlier == periodic_task:  # the code that schedules a task has run again
            return earlier
        if earlier is not None:
            raise exceptions.TaskAlreadyRegistered(
                f"Task {task.name!r} is periodic already: give the second schedule a periodic_id= of its own"
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

    def add_from(self, other: PeriodicRegistry) -> None:
        """Take in the schedules of another registry, under the names that its tasks have now."""
        for periodic_task in other.periodic_tasks.values():
            self.periodic_tasks[(periodic_task.task.name, periodic_task.periodic_id)] = periodic_task


class PeriodicDeferrer:
    """Defers the ticks that have come, and sleeps until the next.

    Parameters
    ----------
    max_delay:
        When it starts, the last tick is deferred if it is not older than so many seconds. When it could not run for a
        while, it makes up for the ticks that are not older, and for the last one in any case.
    job_manager:
        What defers; that of the task's app by default.
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
        self._held_up: set[tuple[str, str]] = set()

    async def worker(self) -> None:
        """Run until cancelled; return at once where there are no periodic tasks."""
        if not self.registry.periodic_tasks:
            logger.info("No periodic task found", extra={"action": "periodic_deferrer_no_task"})
            return
        while True:
            now = await self._manager().read_clock()
            await self.defer_jobs(self.get_previous_tasks(now))
            await self.wait(min(self.get_next_tick(now), _HELD_UP_PAUSE if self._held_up else _LONGEST_SLEEP))

    def _manager(self) -> JobManager:
        """Ticks come by the database's clock: those of machines differ, and are set."""
        some = next(iter(self.registry.periodic_tasks.values())).task
        return self.job_manager or some.configure().job_manager

    def get_next_tick(self, at: float) -> float:
        """Seconds from ``at`` until the next tick of any task."""
        return min(one.next_tick(at) for one in self.registry.periodic_tasks.values()) - at

    def get_previous_tasks(self, at: float) -> Iterable[TaskAtTime]:
        """The ticks up to ``at`` that this deferrer has not seen, oldest first within a task."""
        for key, periodic_task in self.registry.periodic_tasks.items():
            for timestamp in self.get_timestamps(periodic_task, since=self.last_defers.get(key), until=at):
                yield periodic_task, timestamp

    def get_timestamps(
        self, periodic_task: PeriodicTask[Any, Any, Any], since: int | None, until: float
    ) -> Iterable[int]:
        """The ticks of a task after ``since`` and up to ``until``; with no ``since``, the last one if recent enough.

        After a long pause there are no more than ``max_delay`` allows: the last one, and those not older than that.
        """
        last = periodic_task.previous_tick(until)
        if since is None:
            return self._first(periodic_task, int(last), delay=until - last)
        if last <= since:
            return []
        # A tick at the very edge is not too old.
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
        """Defer these ticks, each unless somebody else did.

        One that the database refuses is left for the next time, with those after it: the other schedules do not wait
        for that.

        Raises
        ------
        ConnectorException
            The database is away, or refuses a tick for another reason than that an open transaction has taken its
            queueing lock. What is not deferred yet can be tried again.
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
                # One task that cannot be deferred as it is must not keep the others from their ticks.
                _log_error(periodic_task, timestamp, error)
            self.last_defers[key] = timestamp
        if refusal is not None:
            raise refusal

    async def _defer_tick(self, periodic_task: PeriodicTask[Any, Any, Any], timestamp: int) -> None:
        task = periodic_task.task
        extra = {"task": task.name, "periodic_id": periodic_task.periodic_id, "defer_timestamp": timestamp}
        options = {name: value for name, value in periodic_task.configure_kwargs.items() if name not in _IGNORED}
        deferrer = task.configure(**cast("ConfigureTaskOptions", options))
        manager = self.job_manager or deferrer.job_manager
        try:
            job_id = await manager.defer_periodic_job(
                job=deferrer.make_new_job(timestamp=timestamp),
                periodic_id=periodic_task.periodic_id,
                defer_timestamp=timestamp,
                on_conflict=deferrer.on_conflict,
                keep_for=self.max_delay + KEEP_TICKS_FOR,
            )
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
                "Periodic task %s was deferred already",
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
        """Sleep so many seconds, and a little more."""
        logger.debug(
            "Waiting %.1f s for the next periodic task",
            next_tick,
            extra={"action": "wait_next_tick", "next_tick": next_tick},
        )
        await asyncio.sleep(next_tick + MARGIN)


def _log_held_up(periodic_task: PeriodicTask[Any, Any, Any], timestamp: int) -> None:
    logger.info(
        "Periodic task %s is deferred later: an open transaction has taken its queueing lock",
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
