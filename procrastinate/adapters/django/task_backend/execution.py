"""How a worker runs a ``django.tasks`` task: as a task of the project's app, made when its first job arrives."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Callable
from typing import Any, cast

from asgiref.sync import sync_to_async
from django import db

from procrastinate import exceptions
from procrastinate._functions.kinds import is_async_callable
from procrastinate.adapters.django.task_backend import aliases, framework
from procrastinate.adapters.django.task_backend.backend import ProcrastinateBackend
from procrastinate.adapters.django.task_backend.options import read_retry
from procrastinate.adapters.django.task_backend.task_results import (
    declared_task,
    failed,
    succeeded,
    to_task_result,
    waiting,
)
from procrastinate.blueprints import Blueprint
from procrastinate.job_context import AbortReason, JobContext
from procrastinate.jobs import Status
from procrastinate.results import Result
from procrastinate.tasks import Task
from procrastinate.worker.run.outcome import RunResult, decide, with_details

_NEWEST_ERRORS = 20
"""Errors of earlier attempts that a run gets. A job that is retried without an end may have thousands."""


def find(name: str, alias: str, blueprint: Blueprint) -> Task[Any, Any, Any] | None:
    """Return the task at a path as a task of the app, or None.

    Parameters
    ----------
    alias:
        The key in ``TASKS`` of the backend that enqueued the job. If ``TASKS`` has no backend of this kind under that
        alias, the backend of the task's declaration is used.
    """
    declared = declared_task(name)
    if declared is None:
        return None
    backend = _backend(alias, declared.backend)
    return None if backend is None else as_app_task(declared, backend, blueprint)


def stand_in(name: str, alias: str, error: BaseException, blueprint: Blueprint) -> Task[Any, Any, Any]:
    """Return a task that raises the error of the failed lookup.

    The error is then an error of the run. It is logged and stored, and the backend's ``retry`` applies.
    """

    async def run(*args: Any, **kwargs: Any) -> Any:
        raise error

    backend = _backend(alias)
    retry = read_retry(backend.own_options.retry) if backend is not None else False
    return Task(run, blueprint=blueprint, name=name, retry=retry, store_result=True)


def _backend(*candidates: str) -> ProcrastinateBackend | None:
    backend: ProcrastinateBackend | None = aliases.first_of_kind(ProcrastinateBackend, candidates)
    return backend


def as_app_task(declared: Any, backend: ProcrastinateBackend, blueprint: Blueprint) -> Task[Any, Any, Any]:
    """Return the app task that runs a ``django.tasks`` task."""
    options = backend.own_options
    retry = getattr(declared, "retry", None)
    timeout = getattr(declared, "timeout", None)
    make_run = _async_run if is_async_callable(declared.func) else _sync_run
    return Task(
        make_run(declared, type(backend), backend.alias),
        blueprint=blueprint,
        name=declared.module_path,
        pass_context=True,
        retry=read_retry(options.retry if retry is None else retry),
        timeout=options.timeout if timeout is None else timeout,
        store_result=True,
    )


def _sync_run(declared: Any, sender: type[ProcrastinateBackend], alias: str) -> Callable[..., Any]:
    def run(context: JobContext, *, args: list[Any], kwargs: dict[str, Any], backend: Any = None) -> Any:
        result = to_task_result(_read_start(context), alias)
        framework.task_started.send(sender, task_result=result)
        try:
            value = framework.normalize_json(declared.func(*_given(declared, result, args), **kwargs))
        except BaseException as error:
            if _settle(result, context, RunResult(exception=error)):
                # Inside the except block, because Django's logger reads the error.
                framework.task_finished.send_robust(sender, task_result=result)
            raise
        if _settle(result, context, RunResult(value=value)):
            framework.task_finished.send_robust(sender, task_result=result)
        return value

    return run


def _async_run(declared: Any, sender: type[ProcrastinateBackend], alias: str) -> Callable[..., Any]:
    async def run(context: JobContext, *, args: list[Any], kwargs: dict[str, Any], backend: Any = None) -> Any:
        result = to_task_result(await _read_start_async(context), alias)
        await framework.task_started.asend(sender, task_result=result)
        try:
            value = framework.normalize_json(await declared.func(*_given(declared, result, args), **kwargs))
        except BaseException as error:
            if _settle(result, context, RunResult(exception=error)):
                await asyncio.shield(_send_finished(sender, result, error))
            raise
        if _settle(result, context, RunResult(value=value)):
            await framework.task_finished.asend_robust(sender, task_result=result)
        return value

    return run


async def _send_finished(sender: Any, result: Any, error: BaseException) -> None:
    """Send ``task_finished`` while the error is handled. Django's logger reads it in the async ORM's thread."""
    traceback = error.__traceback__
    try:
        raise error
    except BaseException:
        await sync_to_async(framework.task_finished.send_robust)(sender, task_result=result)
    finally:
        error.__traceback__ = traceback


def _read_start(context: JobContext) -> Result:
    """Return what the database has of the job, or what the worker knows if it cannot be read: the job runs anyhow."""
    try:
        return context.app.job_manager.get_result(_id(context), newest_errors=_errors_to_read(context))
    except (exceptions.ConnectorException, exceptions.NoResult):
        db.close_old_connections()
        return _known_start(context)


async def _read_start_async(context: JobContext) -> Result:
    try:
        return await context.app.job_manager.get_result_async(_id(context), newest_errors=_errors_to_read(context))
    except (exceptions.ConnectorException, exceptions.NoResult):
        await sync_to_async(db.close_old_connections)()
        return _known_start(context)


def _errors_to_read(context: JobContext) -> int:
    """Return 0 for the first attempt, so that nothing that locks the table of errors delays it."""
    return _NEWEST_ERRORS if context.job.attempts else 0


def _known_start(context: JobContext) -> Result:
    job = context.job
    now = datetime.datetime.fromtimestamp(context.start_timestamp, datetime.UTC)
    return Result(
        job=job,
        status=Status.DOING,
        attempts=job.attempts,
        enqueued_at=None,
        started_at=now if job.attempts == 0 else None,
        last_attempted_at=now,
        finished_at=None,
        worker_ids=() if job.worker_id is None else (job.worker_id,),
        errors=(),
        has_value=False,
    )


def _id(context: JobContext) -> int:
    return cast("int", context.job.id)


def _given(declared: Any, result: Any, args: list[Any]) -> list[Any]:
    return [framework.TaskContext(task_result=result), *args] if declared.takes_context else args


def _settle(result: Any, context: JobContext, run: RunResult) -> bool:
    """Update the result as the worker will record the run. Return True if the job has ended."""
    reason = context.abort_reason()
    if reason is AbortReason.TIMEOUT:
        run = RunResult(exception=exceptions.TaskTimeout())
    run = run._replace(abort_reason=reason)
    task, dumps = context.task, context.app.connector.json_dumps
    outcome = with_details(decide(context.job, task, run), task, run, json_dumps=dumps, store_errors=False)
    if outcome.exception is None:
        succeeded(result, run.value)
    elif outcome.status is Status.TODO:
        waiting(result, outcome.exception)
    else:
        failed(result, outcome.exception)
    return outcome.status is not Status.TODO
