"""A job, as the whole package passes it on. Programs import it from :mod:`procrastinate.jobs`."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import functools
from collections.abc import Iterable, Mapping
from typing import Any

from procrastinate._checks.times import require_aware
from procrastinate._quoting import LONGEST_VALUE, described, in_brief, quoted
from procrastinate.core.enums import Status
from procrastinate.types import JSONDict

DEFAULT_QUEUE = "default"
DEFAULT_PRIORITY = 0


class DeleteJobCondition(enum.Enum):
    """Which jobs a worker deletes when they finish."""

    NEVER = "never"
    SUCCESSFUL = "successful"
    ALWAYS = "always"

    def covers(self, status: Status) -> bool:
        """Return true if a job that finished with this status must be deleted."""
        return self is DeleteJobCondition.ALWAYS or (
            self is DeleteJobCondition.SUCCESSFUL and status is Status.SUCCEEDED
        )


class UnreadableArguments(dict[str, Any]):
    """Empty arguments of a job whose row holds invalid ones. ``reason`` says why; the job itself can still be shown."""

    def __init__(self, reason: str) -> None:
        super().__init__()
        self.reason = reason


class UnreadArguments(dict[str, Any]):
    """Empty arguments of a job that was fetched without its large ones. The worker reads them when the job starts."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """A call of a task, in the queue or not deferred yet.

    Parameters
    ----------
    id, status:
        The stored values, or ``None`` before the job is deferred. The status is the value of a :class:`Status`, such
        as ``"todo"``.
    queue:
        Name of the queue.
    priority:
        Jobs with a higher number run first.
    lock:
        Jobs with the same lock run one at a time, by priority and then by id.
    queueing_lock:
        At most one waiting job can have a given queueing lock.
    task_name, task_kwargs:
        The name of the task, and its keyword arguments as JSON values.
    scheduled_at:
        The earliest start, as an aware datetime. ``None`` means at once.
    attempts:
        Number of past runs.
    abort_requested:
        True if an abort was requested while the job ran.
    worker_id:
        Id of the worker that runs the job or ran it last.
    workflow_id, step:
        The id of the job's group in its workflow, and the name of its step. A workflow is a group, too.
    meta:
        What the program that deferred the job says of it, from ``configure(meta=...)`` and from hooks.
    trace_context:
        Headers with the context of the trace that the job was deferred in, for an integration. ``None`` without one.
    log_arguments:
        If false, log records show neither ``task_kwargs`` nor the result. The value comes from the task and is not
        stored.
    claimed_at:
        Time of the worker's claim, in microseconds since 1970 by the database's clock. It is not stored, and ``None``
        for a job not claimed.
    limit_name, limit_key, limit_weight:
        The limit of a job that is not deferred yet, its key of that limit, and how many of its slots it takes. A job
        that a worker has claimed has the name alone, and any other job from the database has none of them.
    """

    id: int | None = None
    status: str | None = None
    queue: str
    priority: int = DEFAULT_PRIORITY
    lock: str | None
    queueing_lock: str | None
    task_name: str
    task_kwargs: JSONDict = dataclasses.field(default_factory=dict)
    scheduled_at: datetime.datetime | None = None
    attempts: int = 0
    abort_requested: bool = False
    worker_id: int | None = None
    workflow_id: int | None = None
    step: str | None = None
    meta: JSONDict = dataclasses.field(default_factory=dict)
    trace_context: dict[str, str] | None = dataclasses.field(default=None, repr=False, compare=False)
    log_arguments: bool = dataclasses.field(default=True, repr=False, compare=False)
    claimed_at: int | None = dataclasses.field(default=None, repr=False, compare=False)
    limit_name: str | None = dataclasses.field(default=None, repr=False, compare=False)
    limit_key: str | None = dataclasses.field(default=None, repr=False, compare=False)
    limit_weight: int | None = dataclasses.field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        require_aware("scheduled_at", self.scheduled_at)

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Job:
        """Return the job in a row of ``procrastinate_jobs``, given as a mapping from column names to values."""
        return cls(
            id=row["id"],
            status=row["status"],
            queue=row["queue_name"],
            priority=row["priority"],
            lock=row["lock"],
            queueing_lock=row["queueing_lock"],
            task_name=row["task_name"],
            task_kwargs=row["args"],
            scheduled_at=row["scheduled_at"],
            attempts=row["attempts"],
            abort_requested=row.get("abort_requested", False),
            worker_id=row.get("worker_id"),
            workflow_id=row.get("workflow_id"),
            step=row.get("step"),
            meta=row.get("meta") or {},
        )

    def asdict(self) -> dict[str, Any]:
        """Return the stored fields by name: all except those that are not read from the database."""
        names = (field.name for field in dataclasses.fields(self))
        return {name: getattr(self, name) for name in names if name not in _NOT_SHOWN}

    def loggable(self, log_arguments: bool) -> Job:
        """Return the job with this value of ``log_arguments``."""
        return self if self.log_arguments == log_arguments else self._copy({"log_arguments": log_arguments})

    def evolve(self, **changes: Any) -> Job:
        """Return a copy with these fields changed.

        Raises
        ------
        TypeError
            A job has no field of this name.
        """
        unknown = changes.keys() - self.__dataclass_fields__.keys()
        if unknown:
            raise TypeError(f"A job has no field {sorted(unknown)[0]!r}")
        evolved = self._copy(changes)
        evolved.__post_init__()
        return evolved

    def _copy(self, changes: Mapping[str, Any]) -> Job:
        """Return a copy with these fields changed, without a check.

        Each defer makes three copies, and each fetch one. :func:`dataclasses.replace` takes 3.7 µs, because
        ``__init__`` sets every field. This takes 0.9 µs.
        """
        copy = object.__new__(type(self))
        fields = copy.__dict__
        fields.update(self.__dict__)
        fields.pop("call_string", None)
        fields.update(changes)
        return copy

    @functools.cached_property
    def call_string(self) -> str:
        """The call as text, ``task[id](argument=value)``, or ``task[id](...)`` if ``log_arguments`` is false.

        The text is one printable line, even though any client can write any names into the table. Each name and each
        value is cut after :data:`~procrastinate._quoting.LONGEST_VALUE` characters.
        """
        arguments = "..."
        if self.log_arguments:
            arguments = ", ".join(
                f"{quoted(name, LONGEST_VALUE)}={described(value)}" for name, value in self.task_kwargs.items()
            )
        return quoted(f"{quoted(self.task_name, LONGEST_VALUE)}[{self.id}]({arguments})")

    def __repr__(self) -> str:
        fields = (field.name for field in dataclasses.fields(self) if field.repr)
        return f"{type(self).__qualname__}({', '.join(f'{name}={described(getattr(self, name))}' for name in fields)})"

    def log_context(self) -> JSONDict:
        """Return the fields for the ``extra`` of a log record, as JSON values. Large arguments are cut."""
        context = self.asdict()
        if not self.log_arguments:
            context |= {"task_kwargs": {}, "meta": {}}
        elif len(self.call_string) > LONGEST_VALUE:
            context["task_kwargs"] = {in_brief(name): in_brief(value) for name, value in self.task_kwargs.items()}
        if self.scheduled_at is not None:
            context["scheduled_at"] = self.scheduled_at.isoformat()
        return context | {"call_string": self.call_string}


_NOT_SHOWN = ("log_arguments", "claimed_at", "trace_context", "limit_name", "limit_key", "limit_weight")


def stored_job_of(fields: Mapping[str, Any]) -> Job:
    """Return a job with these values of a row, which need no check. Fields that are not stored have their defaults.

    A fetch makes one for each job. ``Job(...)`` takes 5 µs, because the class is frozen. This takes 1 µs.
    """
    job = object.__new__(Job)
    job.__dict__.update(fields)
    return job


def with_ids(jobs: Iterable[Job], ids: Iterable[int]) -> list[Job]:
    """Return copies of the jobs with these ids and the status ``todo``, in the same order."""
    return [job.evolve(id=id_, status=Status.TODO.value) for job, id_ in zip(jobs, ids, strict=True)]
