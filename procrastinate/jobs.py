"""Jobs as users see them, and deferrers that make jobs from a template."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import functools
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, get_args

from procrastinate._checks.times import require_aware
from procrastinate._functions.signature import ANY_ARGUMENTS, CallArguments
from procrastinate._quoting import LONGEST_VALUE, described, in_brief, quoted
from procrastinate._text.logs import get_logger
from procrastinate.calls import Call
from procrastinate.core.channels import AbortJobRequested, JobInserted, Notification
from procrastinate.core.enums import Status
from procrastinate.core.rows import NewJob
from procrastinate.locks import Lock, make_lock
from procrastinate.types import JSONDict, JSONValue, OnConflict

if TYPE_CHECKING:
    from procrastinate.manager import JobManager

__all__ = [
    "DEFAULT_PRIORITY",
    "DEFAULT_QUEUE",
    "AbortJobRequested",
    "DeleteJobCondition",
    "Job",
    "JobDeferrer",
    "JobInserted",
    "Notification",
    "Status",
]

logger = get_logger(__name__)

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
        The group of the workflow that the job is a member of, and the name of its step.
    meta:
        What the program that deferred the job says of it, from ``configure(meta=...)`` and from hooks.
    trace_context:
        Headers with the context of the trace that the job was deferred in, for an integration. ``None`` without one.
    log_arguments:
        If false, log records show neither ``task_kwargs`` nor the result. The value comes from the task and is not
        stored.
    claimed_at:
        Time of the worker's claim, in microseconds since 1970 by the database's clock. It is not stored, and ``None``
        for any other job.
    limit_name, limit_key:
        The limit of a job that is to be deferred, and its key of that limit. A job that is read from the database does
        not have them.
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
        """Return the job, whose log records show the arguments or not."""
        return self if self.log_arguments == log_arguments else self.evolve(log_arguments=log_arguments)

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
        # Each defer makes three copies. dataclasses.replace() takes 3.7 µs, because __init__ sets every field. This
        # takes 0.9 µs.
        evolved = object.__new__(type(self))
        evolved.__dict__.update(self.__dict__)
        evolved.__dict__.pop("call_string", None)
        evolved.__dict__.update(changes)
        evolved.__post_init__()
        return evolved

    @functools.cached_property
    def call_string(self) -> str:
        """The call as text: ``task[id](argument=value)``, or ``task[id](...)`` if ``log_arguments`` is false.

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
            context["task_kwargs"] = {}
        elif len(self.call_string) > LONGEST_VALUE:
            context["task_kwargs"] = {in_brief(name): in_brief(value) for name, value in self.task_kwargs.items()}
        if self.scheduled_at is not None:
            context["scheduled_at"] = self.scheduled_at.isoformat()
        return context | {"call_string": self.call_string}


_NOT_SHOWN = ("log_arguments", "claimed_at", "trace_context", "limit_name", "limit_key")


class JobDeferrer:
    """Defers jobs that differ only in their arguments.

    ``task.configure(...)`` returns a deferrer. One deferrer can defer any number of jobs.

    Parameters
    ----------
    job:
        The template for each job. Arguments of a call override its ``task_kwargs``.
    connection:
        An open connection of the user. The jobs become part of its transaction.
    on_conflict:
        What happens if a waiting job has the same queueing lock: ``"raise"``, ``"skip"`` or ``"replace"``.
    lock, queueing_lock, limit_key:
        Functions that make the lock or the key of each job from its arguments. They replace those of ``job``.
    arguments:
        The arguments that the function of the task takes. The default allows any.

    Raises
    ------
    ValueError
        ``on_conflict`` is invalid.
    """

    def __init__(
        self,
        job_manager: JobManager,
        job: Job,
        connection: Any | None = None,
        on_conflict: OnConflict = "raise",
        *,
        lock: Lock | None = None,
        queueing_lock: Lock | None = None,
        limit_key: Lock | None = None,
        arguments: CallArguments = ANY_ARGUMENTS,
    ) -> None:
        require_on_conflict(on_conflict)
        self.job_manager = job_manager
        self.job = job
        self.connection = connection
        self.on_conflict: OnConflict = on_conflict
        self.locks = {"lock": lock, "queueing_lock": queueing_lock, "limit_key": limit_key}
        self.arguments = arguments
        self.stores_result: bool | None = None
        """Whether the task keeps its return value. ``None`` if only its name is known."""
        self._checked: tuple[Job, NewJob] | None = None

    def make_new_job(self, **task_kwargs: JSONValue) -> Job:
        """Return the job that :meth:`defer` would store for these arguments, without storing it.

        Raises
        ------
        InvalidJob
            A lock cannot be made from these arguments.
        TypeError
            The arguments do not fit the signature of the task's function.
        """
        all_kwargs = {**self.job.task_kwargs, **task_kwargs}
        self.arguments.check(self.job.task_name, all_kwargs)
        job = self.job.evolve(task_kwargs=all_kwargs)
        made = {option: self._make_lock(option, lock, job) for option, lock in self.locks.items() if lock is not None}
        return job.evolve(**made) if made else job

    def _make_lock(self, option: str, lock: Lock, job: Job) -> str | None:
        json_dumps = self.job_manager.connector.json_dumps
        return make_lock(option, lock, task_name=job.task_name, task_kwargs=job.task_kwargs, json_dumps=json_dumps)

    def call(self, **task_kwargs: JSONValue) -> Call[Any]:
        """Return a call with these arguments, to become a step of a workflow. Nothing is stored.

        Raises
        ------
        TypeError
            The arguments do not fit the signature of the task's function.
        """
        all_kwargs = {**self.job.task_kwargs, **task_kwargs}
        self.arguments.check(self.job.task_name, all_kwargs)
        return Call(self, all_kwargs, self.stores_result)

    def defer(self, **task_kwargs: JSONValue) -> int:
        """Defer one job, and return its id.

        With ``on_conflict`` ``"skip"`` or ``"replace"``, return the id of the waiting job that has the same queueing
        lock, if there is one.

        Raises
        ------
        AlreadyEnqueued
            A waiting job has the same queueing lock, and ``on_conflict`` is ``"raise"``. An open transaction stays
            usable.
        InvalidJob
            An argument cannot be stored as JSON, or a name is too long.
        TypeError
            The arguments do not fit the signature of the task's function.
        """
        pattern, call = self._check_call(task_kwargs)
        if logger.isEnabledFor(logging.DEBUG):
            log_about_to_defer(lambda: [self._job_of(pattern, call)])
        job_id = self.job_manager.defer_call(pattern, call, self.connection, self.on_conflict)
        if logger.isEnabledFor(logging.INFO):
            log_deferred(lambda: with_ids([self._job_of(pattern, call)], [job_id]))
        return job_id

    async def defer_async(self, **task_kwargs: JSONValue) -> int:
        """Asynchronous version of :meth:`defer`."""
        pattern, call = self._check_call(task_kwargs)
        if logger.isEnabledFor(logging.DEBUG):
            log_about_to_defer(lambda: [self._job_of(pattern, call)])
        job_id = await self.job_manager.defer_call_async(pattern, call, self.connection, self.on_conflict)
        if logger.isEnabledFor(logging.INFO):
            log_deferred(lambda: with_ids([self._job_of(pattern, call)], [job_id]))
        return job_id

    def _check_call(self, task_kwargs: JSONDict) -> tuple[NewJob, JSONDict]:
        """Return the row of the job without its arguments, and the arguments. The row is checked once and kept."""
        if any(self.locks.values()):
            job = self.make_new_job(**task_kwargs)
            return self.job_manager.check_pattern(job), job.task_kwargs
        pattern = self.job
        call = {**pattern.task_kwargs, **task_kwargs}
        self.arguments.check(pattern.task_name, call)
        if self._checked is None or self._checked[0] is not pattern:
            self._checked = pattern, self.job_manager.check_pattern(pattern)
        return self._checked[1], call

    def _job_of(self, pattern: NewJob, call: JSONDict) -> Job:
        return self.job.evolve(task_kwargs=call, lock=pattern.lock, queueing_lock=pattern.queueing_lock)

    def batch_defer(self, *task_kwargs: JSONDict) -> list[int]:
        """Defer one job for each dict of arguments in one statement, all or none.

        Return the ids in the order of the arguments. The exceptions are those of :meth:`defer`.
        """
        if not self._makes_jobs_alike:
            return self._defer([self.make_new_job(**kwargs) for kwargs in task_kwargs])
        calls = self._calls(task_kwargs)
        log_about_to_defer(lambda: self._jobs(calls))
        ids = self.job_manager.batch_defer_alike(self.job, calls, self.connection)
        log_deferred(lambda: with_ids(self._jobs(calls), ids))
        return ids

    async def batch_defer_async(self, *task_kwargs: JSONDict) -> list[int]:
        """Asynchronous version of :meth:`batch_defer`."""
        if not self._makes_jobs_alike:
            return await self._defer_async([self.make_new_job(**kwargs) for kwargs in task_kwargs])
        calls = self._calls(task_kwargs)
        log_about_to_defer(lambda: self._jobs(calls))
        ids = await self.job_manager.batch_defer_alike_async(self.job, calls, self.connection)
        log_deferred(lambda: with_ids(self._jobs(calls), ids))
        return ids

    @property
    def _makes_jobs_alike(self) -> bool:
        """True if the jobs differ only in their arguments and have no queueing lock, so they cannot conflict."""
        return self.job.queueing_lock is None and not any(self.locks.values())

    def _calls(self, all_kwargs: Iterable[JSONDict]) -> list[JSONDict]:
        common, task_name = self.job.task_kwargs, self.job.task_name
        calls = [dict(common, **kwargs) for kwargs in all_kwargs]
        for call in calls:
            self.arguments.check(task_name, call)
        return calls

    def _jobs(self, calls: Iterable[JSONDict]) -> list[Job]:
        return [self.job.evolve(task_kwargs=call) for call in calls]

    def _defer(self, jobs: list[Job]) -> list[int]:
        log_about_to_defer(lambda: jobs)
        deferred = self.job_manager.batch_defer_jobs(jobs, connection=self.connection, on_conflict=self.on_conflict)
        log_deferred(lambda: deferred)
        return _ids(deferred)

    async def _defer_async(self, jobs: list[Job]) -> list[int]:
        log_about_to_defer(lambda: jobs)
        deferred = await self.job_manager.batch_defer_jobs_async(
            jobs, connection=self.connection, on_conflict=self.on_conflict
        )
        log_deferred(lambda: deferred)
        return _ids(deferred)


def require_on_conflict(value: Any) -> None:
    """Raise ``ValueError`` for an invalid ``on_conflict``."""
    if value not in get_args(OnConflict):
        raise ValueError(f"on_conflict={value!r}: write 'raise', 'skip' or 'replace'")


def log_about_to_defer(jobs: Callable[[], list[Job]]) -> None:
    """Log jobs that are about to be stored. They are made only if the level of the log is on."""
    _log(logging.DEBUG, "about_to_defer_jobs", "About to defer %s", jobs)


def log_deferred(jobs: Callable[[], list[Job]]) -> None:
    """Log stored jobs. They are made only if the level of the log is on."""
    _log(logging.INFO, "jobs_deferred", "Deferred %s", jobs)


def _log(level: int, action: str, message: str, make_jobs: Callable[[], list[Job]]) -> None:
    if logger.isEnabledFor(level):
        jobs = make_jobs()
        extra = {"action": action, "jobs": [job.log_context() for job in jobs]}
        logger.log(level, message, ", ".join(job.call_string for job in jobs), extra=extra)


def with_ids(jobs: Iterable[Job], ids: Iterable[int]) -> list[Job]:
    """Return copies of the jobs with these ids and the status ``todo``, in the same order."""
    return [job.evolve(id=id_, status=Status.TODO.value) for job, id_ in zip(jobs, ids, strict=True)]


def _ids(jobs: Iterable[Job]) -> list[int]:
    return [job.id for job in jobs if job.id is not None]
