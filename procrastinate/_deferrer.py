"""Deferrers make jobs from a template and store them."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Self, get_args

from procrastinate import core
from procrastinate._functions.signature import ANY_ARGUMENTS, CallArguments
from procrastinate._job import Job, with_ids
from procrastinate._job_checks import to_pattern, to_row_of_call
from procrastinate._text.logs import get_logger
from procrastinate.calls import Call
from procrastinate.core.enums import Status
from procrastinate.core.rows import NewJob
from procrastinate.defer_hooks import EVERYWHERE
from procrastinate.locks import Lock, make_lock
from procrastinate.types import JSONDict, JSONValue, OnConflict

if TYPE_CHECKING:
    from procrastinate.manager import JobManager

__all__ = ["JobDeferrer"]

logger = get_logger("procrastinate.jobs")  # the name that programs of 3.x filter by


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
        self.task: Any = None
        """The task, in the version of one of its apps. ``None`` if only its name is known."""
        self._checked: tuple[Job, NewJob] | None = None
        self._known_names: frozenset[str] | None = None

    def make_new_job(self, /, **task_kwargs: JSONValue) -> Job:
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

    def for_task(self, task: Any) -> Self:
        """Return a deferrer with the same options for another app's version of the task."""
        other = copy.copy(self)
        other.task, other.job_manager = task, task.blueprint.job_manager
        other.job, other._checked = self.job.evolve(task_name=task.name), None
        return other

    def call(self, /, **task_kwargs: JSONValue) -> Call[Any]:
        """Return a call with these arguments, to become a step of a workflow. Nothing is stored.

        Raises
        ------
        TypeError
            The arguments do not fit the signature of the task's function.
        """
        all_kwargs = {**self.job.task_kwargs, **task_kwargs}
        self.arguments.check(self.job.task_name, all_kwargs)
        return Call(self, all_kwargs, self.stores_result)

    def defer(self, /, **task_kwargs: JSONValue) -> int:
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
        new_job = to_row_of_call(pattern, call, self.job_manager.connector.json_dumps)
        if self._needs_manager(pattern):
            ids = self.job_manager.defer_rows([new_job], self.connection, self.on_conflict)
            job_id: int | None = ids[0]
        elif self.connection is None:
            job_id = self.job_manager.connector.run(core.defer_job, new_job)
        else:
            job_id = self.job_manager.connector.run_on(self.connection, core.defer_job, new_job)
        if job_id is None:
            raise core.lock_is_taken(pattern.queueing_lock)
        if logger.isEnabledFor(logging.INFO):
            log_deferred(lambda: [self._job_of(pattern, call, id=job_id, status=Status.TODO.value)])
        return job_id

    async def defer_async(self, /, **task_kwargs: JSONValue) -> int:
        """Asynchronous version of :meth:`defer`."""
        pattern, call = self._check_call(task_kwargs)
        if logger.isEnabledFor(logging.DEBUG):
            log_about_to_defer(lambda: [self._job_of(pattern, call)])
        new_job = to_row_of_call(pattern, call, self.job_manager.connector.json_dumps)
        if self._needs_manager(pattern):
            ids = await self.job_manager.defer_rows_async([new_job], self.connection, self.on_conflict)
            job_id: int | None = ids[0]
        elif self.connection is None:
            job_id = await self.job_manager.connector.run_async(core.defer_job, new_job)
        else:
            job_id = await self.job_manager.connector.run_on_async(self.connection, core.defer_job, new_job)
        if job_id is None:
            raise core.lock_is_taken(pattern.queueing_lock)
        if logger.isEnabledFor(logging.INFO):
            log_deferred(lambda: [self._job_of(pattern, call, id=job_id, status=Status.TODO.value)])
        return job_id

    def _check_call(self, task_kwargs: JSONDict) -> tuple[NewJob, JSONDict]:
        """Return the row of the job without its arguments, and the arguments.

        The row is checked once and kept. The names of the arguments are checked if they are not those of the last job.
        """
        if any(self.locks.values()):
            job = self.make_new_job(**task_kwargs)
            return to_pattern(job), job.task_kwargs
        template, checked = self.job, self._checked
        call = {**template.task_kwargs, **task_kwargs}
        if call.keys() != self._known_names:
            self.arguments.check(template.task_name, call)
            self._known_names = None if self.arguments.checks_values else frozenset(call)
        if checked is None or checked[0] is not template:
            checked = self._checked = template, to_pattern(template)
        return checked[1], call

    def _needs_manager(self, pattern: NewJob) -> bool:
        """Return true if more than one statement may be needed: a hook sees the defer, or a conflict is decided."""
        manager = self.job_manager
        may_decide = self.on_conflict != "raise" and pattern.queueing_lock is not None
        return bool(may_decide or manager.hooks.own or EVERYWHERE or manager.defer_hook is not None)

    def _job_of(self, pattern: NewJob, call: JSONDict, **stored: Any) -> Job:
        return self.job.evolve(task_kwargs=call, lock=pattern.lock, queueing_lock=pattern.queueing_lock, **stored)

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


def _ids(jobs: Iterable[Job]) -> list[int]:
    return [job.id for job in jobs if job.id is not None]
