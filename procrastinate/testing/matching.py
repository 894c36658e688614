"""Compares deferred jobs with the expected ones and explains the differences."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import functools
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol, TypeAlias, TypedDict, TypeGuard

from procrastinate.jobs import Job
from procrastinate.tasks import Task

SHOWN = 10
"""The number of jobs in a message."""
_NEAR = datetime.timedelta(seconds=10)
"""The tolerance of ``scheduled_in``, because time passes in a test."""
_MISSING = "<missing>"


class FrameworkTask(Protocol):
    """A ``django.tasks`` task of any version."""

    @property
    def module_path(self) -> str:
        """The task name of its jobs."""

    @property
    def func(self) -> Callable[..., Any]:
        """The task's function."""

    @property
    def takes_context(self) -> bool:
        """True if the context precedes the arguments."""


AnyTask: TypeAlias = Task[Any, Any, Any] | FrameworkTask | str


class JobFields(TypedDict, total=False):
    """Expected values of a job other than its task and arguments."""

    queue: str
    lock: str | None
    queueing_lock: str | None
    priority: int
    scheduled_at: datetime.datetime | None
    scheduled_in: datetime.timedelta
    """``scheduled_at`` relative to now by the test's clock, within ten seconds."""
    status: str
    attempts: int


FIELDS = tuple(JobFields.__annotations__)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Difference:
    """A value of a job that is not the expected one."""

    name: str
    actual: Any
    expected: Any

    def __str__(self) -> str:
        actual = self.actual if self.actual == _MISSING else repr(self.actual)
        return f"{self.name}: {actual}, expected {self.expected!r}"


class Pattern:
    """An expected job. Values that are not mentioned match anything.

    Parameters
    ----------
    task:
        A task (also a ``django.tasks`` task) or its name. ``None`` matches any task.
    arguments:
        Some of the job's arguments. Arguments of a ``django.tasks`` task are matched by name, even if passed by
        position.
    as_stored:
        Converts a value to its form after a round trip through JSON.
    now:
        The current time by the test's clock.

    Raises
    ------
    TypeError
        A field is unknown, or ``task`` is not a task.
    """

    def __init__(
        self,
        task: AnyTask | None,
        fields: Mapping[str, Any],
        arguments: Mapping[str, Any],
        *,
        as_stored: Callable[[Any], Any],
        now: datetime.datetime,
    ) -> None:
        self._names = task_names(task)
        self._named = functools.partial(_named, task) if _is_of_framework(task) else _as_they_are
        self._fields = dict(fields)
        self._now = now
        self._arguments = {name: as_stored(value) for name, value in arguments.items()}
        unknown = [name for name in self._fields if name not in FIELDS]
        if unknown:
            raise TypeError(
                f"A job has no field {unknown[0]!r}: there are {', '.join(FIELDS)}. Pass task arguments as keyword "
                f"arguments: assert_deferred(task, {unknown[0]}=...)"
            )

    def __str__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self._arguments.items())
        call = f"{self._names[0] if self._names else 'any task'}({arguments})"
        fields = [f"{name}={value!r}" for name, value in self._fields.items()]
        return ", ".join([call, *fields])

    def is_of_task(self, job: Job) -> bool:
        """Return true if the job belongs to this task."""
        return self._names is None or job.task_name in self._names

    def matches(self, job: Job) -> bool:
        """Return true if the job is as expected."""
        return self.is_of_task(job) and not self.differences(job)

    def differences(self, job: Job) -> list[Difference]:
        """Return the differences in arguments and fields. The task is not compared."""
        return [*self._different_arguments(job), *self._different_fields(job)]

    def _different_arguments(self, job: Job) -> Iterator[Difference]:
        named = self._named(job.task_kwargs)
        for name, expected in self._arguments.items():
            actual = named.get(name, _MISSING)
            if expected != actual:
                yield Difference(name=name, actual=actual, expected=expected)

    def _different_fields(self, job: Job) -> Iterator[Difference]:
        for name, expected in self._fields.items():
            if name == "scheduled_in":
                if not self._is_in(job.scheduled_at, expected):
                    actual = None if job.scheduled_at is None else job.scheduled_at - self._now
                    yield Difference(name=name, actual=actual, expected=expected)
            elif expected != getattr(job, name):
                yield Difference(name=name, actual=getattr(job, name), expected=expected)

    def _is_in(self, scheduled_at: datetime.datetime | None, delta: datetime.timedelta) -> bool:
        return scheduled_at is not None and abs(scheduled_at - self._now - delta) <= _NEAR


def task_names(task: AnyTask | None) -> list[str] | None:
    """Return the names under which jobs find a task, or None for any task."""
    if task is None:
        return None
    if isinstance(task, Task):
        return [task.name, *task.aliases]
    if isinstance(task, str):
        return [task]
    if _is_of_framework(task):
        return [task.module_path]
    raise TypeError(f"task must be a task or its name, not {task!r}")


def _is_of_framework(task: object) -> TypeGuard[FrameworkTask]:
    return hasattr(task, "module_path") and hasattr(task, "func")


def _as_they_are(arguments: dict[str, Any]) -> dict[str, Any]:
    return arguments


def _named(task: FrameworkTask, arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a ``django.tasks`` job by name. They are stored as they were passed."""
    parameters = [*inspect.signature(task.func).parameters][1 if task.takes_context else 0 :]
    return {**dict(zip(parameters, arguments["args"], strict=False)), **arguments["kwargs"]}


def missing_message(pattern: Pattern, jobs: Iterable[Job]) -> str:
    """Return a message that no job matches, with the jobs of the task, nearest first."""
    all_jobs = list(jobs)
    of_task = [job for job in all_jobs if pattern.is_of_task(job)]
    lines = ["No such job was deferred.", "", f"Expected: {pattern}"]
    if of_task:
        nearest = sorted(of_task, key=lambda job: len(pattern.differences(job)))
        lines += ["", "Deferred, and different:"]
        for job in nearest[:SHOWN]:
            lines += [f"  {job.call_string}", *(f"    {difference}" for difference in pattern.differences(job))]
        if len(of_task) > SHOWN:
            lines.append(f"  ... and {len(of_task) - SHOWN} more")
    others = collections.Counter(job.task_name for job in all_jobs if not pattern.is_of_task(job))
    if others:
        lines += ["", "Jobs of other tasks: " + ", ".join(f"{name} ({n})" for name, n in sorted(others.items()))]
    elif not of_task:
        lines += ["", "No job was deferred at all."]
    return "\n".join(lines)


def unexpected_message(pattern: Pattern, jobs: Iterable[Job]) -> str:
    """Return a message that unexpected jobs were deferred, and list them."""
    found = list(jobs)
    lines = [f"{len(found)} such job{'s were' if len(found) > 1 else ' was'} deferred.", "", f"Not expected: {pattern}"]
    lines += ["", "Deferred:", *(f"  {job.call_string} ({job.status})" for job in found[:SHOWN])]
    if len(found) > SHOWN:
        lines.append(f"  ... and {len(found) - SHOWN} more")
    return "\n".join(lines)
