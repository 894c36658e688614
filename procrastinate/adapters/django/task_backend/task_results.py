"""``TaskResult`` objects of ``django.tasks``, built from a stored job."""

from __future__ import annotations

import contextlib
import datetime
import importlib
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import Any

from django.conf import settings as django_settings
from django.db import connections
from django.utils import timezone

from procrastinate._running_loop import running_loop
from procrastinate._text.tracebacks import describe
from procrastinate.adapters.django.task_backend import framework
from procrastinate.adapters.django.task_backend.reach import is_within_reach
from procrastinate.jobs import Job, Status
from procrastinate.results import Result

_STATUS = {
    Status.TODO: framework.TaskResultStatus.READY,
    Status.DOING: framework.TaskResultStatus.RUNNING,
    Status.ABORTING: framework.TaskResultStatus.RUNNING,
    Status.SUCCEEDED: framework.TaskResultStatus.SUCCESSFUL,
}
"""Any other status is FAILED: ``django.tasks`` has no status for cancelled and aborted jobs."""

_MOST_ATTEMPTS = 1_000_000
"""Any client can write the number of attempts, and a list is made of it."""

_STOPPED = {Status.CANCELLED: "The job was cancelled.\n", Status.ABORTED: "The job was aborted.\n"}


def declared_task(name: str) -> Any:
    """Return the ``django.tasks`` task declared at a path, or None.

    An exception during the module's import propagates, for example that a dependency of the module is missing.
    """
    module_path, _, attribute = name.rpartition(".")
    if not module_path or not is_within_reach(module_path):
        return None
    try:
        module = _import_as_sync_code(module_path)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_path}.".startswith(f"{error.name}."):
            raise
        return None
    declared = getattr(module, attribute, None)
    return declared if isinstance(declared, framework.Task) else None


def _import_as_sync_code(module_path: str) -> ModuleType:
    """Import a module, outside of the event loop of this thread if one runs.

    A web process imports the module in sync code. A worker finds it in its event loop, in which Django's ORM and
    ``asyncio.run`` refuse to run. So another thread imports it, and this one waits.
    """
    if module_path in sys.modules or running_loop() is None:
        return importlib.import_module(module_path)
    with ThreadPoolExecutor(max_workers=1) as thread:
        try:
            imported = thread.submit(_import_and_close_connections, module_path)
        except RuntimeError:  # the system refuses a thread
            return importlib.import_module(module_path)
        return imported.result()


def _import_and_close_connections(module_path: str) -> ModuleType:
    try:
        return importlib.import_module(module_path)
    finally:
        connections.close_all()


def new_result(task: Any, job_id: int, alias: str, arguments: dict[str, Any]) -> Any:
    """Return the result of a job that has just been stored."""
    return framework.TaskResult(
        task=task,
        id=str(job_id),
        status=framework.TaskResultStatus.READY,
        enqueued_at=timezone.now(),
        started_at=None,
        finished_at=None,
        last_attempted_at=None,
        backend=alias,
        errors=[],
        worker_ids=[],
        args=arguments["args"],
        kwargs=arguments["kwargs"],
    )


def to_task_result(stored: Result, alias: str) -> Any:
    """Return the result of a stored job, on the backend with this alias.

    Raises
    ------
    TaskResultDoesNotExist
        The job is not a ``django.tasks`` job, or its task no longer exists.
    """
    declared = declared_task(stored.job.task_name)
    if declared is None or not {"args", "kwargs"} <= stored.job.task_kwargs.keys():
        raise framework.TaskResultDoesNotExist(str(stored.job_id))
    result = framework.TaskResult(
        task=_as_enqueued(declared, stored.job, alias),
        id=str(stored.job_id),
        status=_STATUS.get(stored.status, framework.TaskResultStatus.FAILED),
        enqueued_at=_as_django_has(stored.enqueued_at),
        started_at=_as_django_has(stored.started_at),
        finished_at=_as_django_has(stored.finished_at),
        last_attempted_at=_as_django_has(stored.last_attempted_at),
        args=stored.job.task_kwargs["args"],
        kwargs=stored.job.task_kwargs["kwargs"],
        backend=alias,
        errors=[*_errors(stored)],
        worker_ids=_worker_ids(stored),
    )
    if stored.has_value:
        _set(result, _return_value=stored.value)
    return result


def _as_django_has(moment: datetime.datetime | None) -> datetime.datetime | None:
    """Convert a datetime like :func:`django.utils.timezone.now`: naive, in the project's zone, without ``USE_TZ``."""
    if moment is None or django_settings.USE_TZ:
        return moment
    try:
        return timezone.make_naive(moment, timezone.get_default_timezone())
    except OverflowError:  # the zone is past the year 9999, or before the year 1
        return moment.replace(tzinfo=None)


def _worker_ids(stored: Result) -> list[str]:
    """Return an id for each attempt, because Django counts the attempts by them. A worker that is unknown has none."""
    known = [str(worker_id) for worker_id in stored.worker_ids]
    is_running = _STATUS.get(stored.status) is framework.TaskResultStatus.RUNNING
    attempts = min(stored.attempts + is_running, _MOST_ATTEMPTS)
    return [""] * (attempts - len(known)) + known


def _as_enqueued(declared: Any, job: Job, alias: str) -> Any:
    options = {"priority": job.priority, "queue_name": job.queue, "run_after": _as_django_has(job.scheduled_at)}
    for changes in (options, {}):  # the settings may have changed, but the job still belongs to that task
        with contextlib.suppress(framework.InvalidTask):
            return declared.using(backend=alias, **changes)
    return declared


def _errors(stored: Result) -> Iterator[Any]:
    for error in stored.errors:
        yield framework.TaskError(exception_class_path=error.exception_class, traceback=error.traceback)
    if stored.status in _STOPPED and not stored.errors:
        yield framework.TaskError(
            exception_class_path="procrastinate.exceptions.JobAborted", traceback=_STOPPED[stored.status]
        )


def succeeded(result: Any, value: Any) -> None:
    """Record that the task returned."""
    _set(result, status=framework.TaskResultStatus.SUCCESSFUL, finished_at=timezone.now(), _return_value=value)


def waiting(result: Any, error: BaseException) -> None:
    """Record that the task raised and will be retried."""
    result.errors.append(_task_error(error))
    _set(result, status=framework.TaskResultStatus.READY)


def failed(result: Any, error: BaseException) -> None:
    """Record that the task raised and will not be retried."""
    result.errors.append(_task_error(error))
    _set(result, status=framework.TaskResultStatus.FAILED, finished_at=timezone.now())


def _task_error(error: BaseException) -> Any:
    """Return the error in the form in which it is stored with the job."""
    kept = describe(error)
    return framework.TaskError(exception_class_path=kept.exception_class, traceback=kept.traceback)


def _set(result: Any, **values: Any) -> None:
    """Set fields of a result. Results are frozen for users, but a backend updates them."""
    for name, value in values.items():
        object.__setattr__(result, name, value)
