"""The backend that the project calls. The project's workers run its jobs (:mod:`.execution`)."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from asgiref.sync import sync_to_async
from django.apps import apps
from django.conf import settings as django_settings
from django.core import checks
from django.db import connections
from django.utils import timezone

from procrastinate import exceptions
from procrastinate._checks.amounts import read_optional_seconds
from procrastinate._checks.names import check_name
from procrastinate._deferrer import require_on_conflict
from procrastinate._functions.kinds import check_function
from procrastinate._job_checks import NAME_LENGTH
from procrastinate.adapters.django.apps import ProcrastinateConfig
from procrastinate.adapters.django.connector import DjangoConnector
from procrastinate.adapters.django.project_app import app
from procrastinate.adapters.django.task_backend import aliases, framework, rows_of_tasks_db
from procrastinate.adapters.django.task_backend.options import BackendOptions, read_options, read_retry, require_limit
from procrastinate.adapters.django.task_backend.task_results import new_result, to_task_result
from procrastinate.calls import Call
from procrastinate.core.defaults import LARGEST_ID
from procrastinate.jobs import Job, JobDeferrer
from procrastinate.limits import Limit, add_limit
from procrastinate.locks import ArgumentLock, Lock, by_arguments
from procrastinate.manager import JobManager
from procrastinate.results import Result
from procrastinate.retry import RetryValue
from procrastinate.tasks import ConfigureTaskOptions, check_options, make_deferrer
from procrastinate.types import OnConflict
from procrastinate.unique import Unique
from procrastinate.unique_deferrer import require_unique


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ProcrastinateTask(framework.Task):  # type: ignore[misc]
    """A ``django.tasks`` task with this queue's options: ``@task(retry=3, timeout=60)``, ``task.using(lock=...)``.

    ``None`` means the value in the backend's ``OPTIONS``. The decorator accepts these options from Django 6.1 on.
    """

    retry: RetryValue | None = dataclasses.field(default=None, hash=False)
    timeout: float | None = None
    lock: Lock | None = None
    queueing_lock: Lock | None = None
    on_conflict: OnConflict | None = None
    unique: Unique | None = None
    limit: Limit | None = None
    limit_key: Lock | None = None
    weight: int | None = None

    def using(
        self,
        *,
        lock: Lock | None = None,
        queueing_lock: Lock | None = None,
        on_conflict: OnConflict | None = None,
        unique: Unique | None = None,
        limit_key: Lock | None = None,
        weight: int | None = None,
        **changes: Any,
    ) -> Any:
        """Return the task with other defaults.

        Workers read ``retry``, ``timeout`` and ``limit`` from the declared task only. ``limit_key`` is the key of the
        task's limit, in place of that which the limit makes by its ``by``. ``weight`` is the number of slots of the
        limit that the job takes.
        """
        for name in ("retry", "timeout", "limit"):
            if name in changes:
                raise TypeError(f"{name} belongs to the declaration of the task, @task({name}=...), not to using()")
        given: dict[str, Any] = {"lock": lock, "queueing_lock": queueing_lock, "on_conflict": on_conflict}
        given |= {"unique": unique, "limit_key": limit_key, "weight": weight}
        ours = {name: value for name, value in given.items() if value is not None}
        return dataclasses.replace(framework.Task.using(self, **changes), **ours)

    def as_step(self, /, *args: Any, **kwargs: Any) -> Call[Any]:
        """Return the call of the task, to become a step of a workflow. ``Workflow.add`` does it for keyword arguments.

        Values of other steps may be among the arguments. Nothing is stored, so ``task_enqueued`` is not sent.

        Raises
        ------
        InvalidWorkflow
            The backend of the task is none of this queue, or stores its jobs in another database than the app.
        """
        backend = self.get_backend()
        if not isinstance(backend, ProcrastinateBackend):
            raise exceptions.InvalidWorkflow(
                f"Task {self.module_path} is no step: its backend {self.backend!r} does not store jobs in this queue"
            )
        return backend.call_of(self, args, kwargs)


class ProcrastinateBackend(framework.BaseTaskBackend):  # type: ignore[misc]
    """Stores ``django.tasks`` jobs in the project's queue, on Django's own connection.

    ``enqueue`` inside ``transaction.atomic()`` is part of the transaction.
    """

    task_class = ProcrastinateTask
    supports_defer = True
    supports_async_task = True
    supports_get_result = True
    supports_priority = True
    declared_limits: ClassVar[dict[str, Limit]] = {}
    """The limits of the tasks that are declared by now, by name. Workers store them."""

    def __init__(self, alias: str, params: dict[str, Any]) -> None:
        super().__init__(alias, params)
        self._read: BackendOptions | None = None

    @property
    def own_options(self) -> BackendOptions:
        """The parsed ``OPTIONS``. Raises if they are invalid, which the system check reports."""
        if self._read is None:
            self._read = read_options(self.options)
        return self._read

    @property
    def job_manager(self) -> JobManager:
        """The job manager for this backend's database."""
        database = self.own_options.database
        return app.job_manager if database is None else _job_manager(database)

    def validate_task(self, task: Any) -> None:
        """Refuse a task that cannot run at its declaration, so that the project's start fails and not its worker."""
        super().validate_task(task)
        if len(task.module_path) > NAME_LENGTH:
            raise framework.InvalidTask(
                f"The path of task {task.module_path!r} is longer than {NAME_LENGTH} characters"
            )
        try:
            check_function(task.module_path, task.func)
            if not isinstance(task, ProcrastinateTask):
                return
            read_optional_seconds("timeout", task.timeout)
            read_retry(task.retry or False)
            require_on_conflict(task.on_conflict or "raise")
            require_unique(task.unique, queueing_lock=task.queueing_lock, on_conflict=task.on_conflict)
            self._declare_limit(task)
        except (TypeError, ValueError, ImportError) as error:
            raise framework.InvalidTask(str(error)) from error

    def _declare_limit(self, task: ProcrastinateTask) -> None:
        """Note the limit of a task, so that workers store it."""
        require_limit(task.limit)
        check_options({"limit_key": task.limit_key, "weight": task.weight})
        if task.limit is not None:
            task.limit.require_room_for(task.weight or 1)
            add_limit(self.declared_limits, task.limit)

    def enqueue(self, task: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """Store a job for the task and return its pending result.

        Raises
        ------
        AlreadyEnqueued
            Another job waits under the same queueing lock, or holds the same unique key.
        """
        task = self._own(task)
        arguments = aliases.as_stored(args, kwargs, self.alias)
        job_id = self._deferrer(task).defer(**arguments)
        result = new_result(task, job_id, self.alias, arguments)
        framework.task_enqueued.send(type(self), task_result=result)
        return result

    async def aenqueue(self, task: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """Store a job like :meth:`enqueue`, from asynchronous code."""
        task = self._own(task)
        arguments = aliases.as_stored(args, kwargs, self.alias)
        job_id = await self._deferrer(task).defer_async(**arguments)
        result = new_result(task, job_id, self.alias, arguments)
        await framework.task_enqueued.asend(type(self), task_result=result)
        return result

    def call_of(self, task: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Call[Any]:
        """Return the call of a task. Values of other steps among the arguments are filled in before the run.

        Raises
        ------
        InvalidWorkflow
            This backend stores its jobs in another database than that of the project's app.
        """
        database = self.own_options.database
        if database is not None and database != getattr(app.job_manager.connector, "alias", None):
            raise exceptions.InvalidWorkflow(
                f"Task {task.module_path} is no step: its backend {self.alias!r} stores jobs in {database!r}, and a "
                "workflow is in the database of the app"
            )
        return Call(self._deferrer(task), aliases.stored_call(args, kwargs, self.alias), stores_result=True)

    def _own(self, task: Any) -> Any:
        """Return the task bound to this backend, whose options then apply to its run and its result."""
        if task.backend != self.alias:
            return task.using(backend=self.alias)
        self.validate_task(task)
        return task

    def _deferrer(self, task: Any) -> JobDeferrer:
        options = self.own_options
        chosen: ConfigureTaskOptions = {
            "queue": task.queue_name,
            "priority": task.priority,
            "schedule_at": _aware(task.run_after),
            "lock": _lock_of(getattr(task, "lock", None), options.lock),
        }
        chosen.update(_conflict_options(task, options))
        chosen["limit_key"] = _of_call(getattr(task, "limit_key", None))
        limit = self._limit_of(task, task.queue_name)
        chosen["weight"] = self._weight_of(task, limit)
        check_options(chosen)
        return make_deferrer(task.module_path, self.job_manager, chosen, limit)

    def _weight_of(self, task: Any, limit: Limit | None) -> int | None:
        weight: int | None = getattr(task, "weight", None)
        if weight is None and limit is not None:
            return self.own_options.weight
        return weight

    def _limit_of(self, task: Any, queue: str) -> Limit | None:
        limit: Limit | None = getattr(task, "limit", None) or self.own_options.limit or app.find_limit_of_queue(queue)
        by = None if limit is None else _of_call(limit.by)
        return limit if limit is None or by is limit.by else dataclasses.replace(limit, by=by)

    def job_of_row(
        self, path: str, declared: Any, arguments: dict[str, Any], *, queue: str, priority: int, run_after: Any
    ) -> Job:
        """Make the job of a task that another backend has stored.

        It has the task's lock and limit. It has no queueing lock, so that every stored task becomes a job.

        Parameters
        ----------
        path, declared:
            The dotted path of the task, and what is declared there; ``None`` if nothing is.
        run_after:
            Not before this time; naive without ``USE_TZ``.
        """
        limit = self._limit_of(declared, queue)
        chosen: ConfigureTaskOptions = {
            "queue": queue,
            "priority": priority,
            "schedule_at": _aware(run_after),
            "lock": _lock_of(getattr(declared, "lock", None), self.own_options.lock),
            "weight": self._weight_of(declared, limit),
        }
        check_name("task name", path)
        check_options(chosen)
        deferrer = make_deferrer(path, self.job_manager, chosen, limit)
        return deferrer.make_new_job(**arguments)

    def get_result(self, result_id: str) -> Any:
        """Return the result with this id, from any process.

        An id of django-tasks-db leads to the job that its row has become, or else to the row.

        Raises
        ------
        TaskResultDoesNotExist
            The job does not exist (any more), or is not a ``django.tasks`` job.
        """
        found = rows_of_tasks_db.follow(result_id)
        if found.result is not None:
            return found.result
        try:
            stored = self.job_manager.get_result(_job_id(found.result_id))
        except exceptions.NoResult as error:
            raise framework.TaskResultDoesNotExist(result_id) from error
        return to_task_result(stored, self._backend_of(stored).alias)

    async def aget_result(self, result_id: str) -> Any:
        """Return a result like :meth:`get_result`, from asynchronous code."""
        found = await sync_to_async(rows_of_tasks_db.follow)(result_id)
        if found.result is not None:
            return found.result
        try:
            stored = await self.job_manager.get_result_async(_job_id(found.result_id))
        except exceptions.NoResult as error:
            raise framework.TaskResultDoesNotExist(result_id) from error
        return to_task_result(stored, self._backend_of(stored).alias)

    def _backend_of(self, stored: Result) -> ProcrastinateBackend:
        """Return the backend that enqueued the job, or this one if ``TASKS`` no longer has that alias."""
        candidates = aliases.enqueued_on(stored.job.task_kwargs), self.alias
        backend: ProcrastinateBackend | None = aliases.first_of_kind(ProcrastinateBackend, candidates)
        return backend or self

    def check(self, **kwargs: Any) -> list[checks.CheckMessage]:
        """Return the problems of this entry of ``TASKS``."""
        return [*super().check(**kwargs), *self._problems()]

    def _problems(self) -> Iterator[checks.CheckMessage]:
        name = f"TASKS[{self.alias!r}]"
        if not any(isinstance(config, ProcrastinateConfig) for config in apps.get_app_configs()):
            hint = 'Add "procrastinate.contrib.django" to INSTALLED_APPS.'
            yield checks.Error(f"{name} needs Procrastinate's app.", hint=hint, id="procrastinate.E020")
        try:
            options = self.own_options
        except (TypeError, ValueError, ImportError) as error:
            yield checks.Error(f"{name}['OPTIONS']: {error}.", id="procrastinate.E021")
            return
        if options.database is not None:
            yield from _database_problems(f"{name}['OPTIONS']['database']", options.database)


@functools.cache
def _job_manager(database: str) -> JobManager:
    """Return one manager per database. Django builds backends per thread, and each connector has an engine with its
    cache of compiled statements. It writes arguments as the app does, which may encrypt them.
    """
    own = app.connector
    return JobManager(DjangoConnector(database, own.json_dumps, own.json_loads), app.job_manager.hooks)


def _database_problems(name: str, alias: str) -> Iterator[checks.CheckMessage]:
    if alias not in connections:
        hint = f"The databases are: {', '.join(connections)}."
        yield checks.Error(f"{name} is {alias!r}, which is not in DATABASES.", hint=hint, id="procrastinate.E022")
    elif connections[alias].vendor != "postgresql":
        yield checks.Error(f"{name}: the database {alias!r} is not PostgreSQL.", id="procrastinate.E023")


def _conflict_options(task: Any, options: BackendOptions) -> ConfigureTaskOptions:
    """Return what the task says of conflicting jobs. If it says nothing, the backend's ``OPTIONS`` apply."""
    queueing_lock, on_conflict = getattr(task, "queueing_lock", None), getattr(task, "on_conflict", None)
    unique = getattr(task, "unique", None)
    if unique is None and queueing_lock is None and on_conflict is None:
        unique = options.unique
    if unique is not None:
        by = _of_call(unique.by)
        return {"unique": unique if by is unique.by else dataclasses.replace(unique, by=by)}
    return {
        "queueing_lock": _lock_of(queueing_lock, options.queueing_lock),
        "on_conflict": on_conflict or options.on_conflict,
    }


def _lock_of(own: Lock | None, default: Lock | None) -> Lock | None:
    """Return the task's own lock, or the default. An empty text is a lock."""
    return _of_call(default if own is None else own)


def _of_call(lock: Lock | None) -> Lock | None:
    """Limit a lock on all arguments to the call's own arguments, so that the backend does not matter."""
    return by_arguments("args", "kwargs") if isinstance(lock, ArgumentLock) and not lock.names else lock


def _aware(moment: Any) -> Any:
    """Make a naive datetime aware. Without ``USE_TZ``, Django's datetimes are naive, in the project's time zone.

    A time zone that is activated for the current user does not matter: it is for the display of aware datetimes.
    """
    if moment is not None and not django_settings.USE_TZ and timezone.is_naive(moment):
        return timezone.make_aware(moment, timezone.get_default_timezone())
    return moment


def _job_id(result_id: Any) -> int:
    try:
        job_id = int(result_id)
    except (TypeError, ValueError):
        job_id = 0
    if not 0 < job_id <= LARGEST_ID:
        raise framework.TaskResultDoesNotExist(result_id)
    return job_id
