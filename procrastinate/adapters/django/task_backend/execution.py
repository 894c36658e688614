"""How a worker runs a task of ``django.tasks``: as a task of the project's app, made when its first job comes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

from asgiref.sync import sync_to_async

from procrastinate import exceptions
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
from procrastinate.callables import is_async_callable
from procrastinate.job_context import AbortReason, JobContext
from procrastinate.jobs import Status
from procrastinate.tasks import Task
from procrastinate.worker.outcome import RunResult, decide


def find(name: str, alias: str, blueprint: Blueprint) -> Task[Any, Any, Any] | None:
    """The task at that path, as a task of the app; ``None`` where there is none.

    Parameters
    ----------
    alias:
        The backend that the job was enqueued on, by its key in ``TASKS``. The backend of the declaration counts only
        where ``TASKS`` has no backend of this kind under that alias.
    """
    declared = declared_task(name)
    if declared is None:
        return None
    backend = _backend(alias, declared.backend)
    return None if backend is None else as_app_task(declared, backend, blueprint)


def stand_in(name: str, alias: str, error: BaseException, blueprint: Blueprint) -> Task[Any, Any, Any]:
    """A task that raises what was raised while the real one was looked for.

    So the error is one of the run: it is logged and kept, and the backend's ``retry`` decides on it.
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
    """The task that a worker runs for one of ``django.tasks``."""
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
        result = to_task_result(context.app.job_manager.get_result(_id(context)), alias)
        framework.task_started.send(sender, task_result=result)
        try:
            value = framework.normalize_json(declared.func(*_given(declared, result, args), **kwargs))
        except BaseException as error:
            if _settle(result, context, error):
                framework.task_finished.send(sender, task_result=result)  # here: Django's logger looks for the error
            raise
        succeeded(result, value)
        framework.task_finished.send(sender, task_result=result)
        return value

    return run


def _async_run(declared: Any, sender: type[ProcrastinateBackend], alias: str) -> Callable[..., Any]:
    async def run(context: JobContext, *, args: list[Any], kwargs: dict[str, Any], backend: Any = None) -> Any:
        stored = await context.app.job_manager.get_result_async(_id(context))
        result = to_task_result(stored, alias)
        await framework.task_started.asend(sender, task_result=result)
        try:
            value = framework.normalize_json(await declared.func(*_given(declared, result, args), **kwargs))
        except BaseException as error:
            if _settle(result, context, error):
                await asyncio.shield(_send_finished(sender, result, error))
            raise
        succeeded(result, value)
        await framework.task_finished.asend(sender, task_result=result)
        return value

    return run


async def _send_finished(sender: Any, result: Any, error: BaseException) -> None:
    """While the error is being handled: Django's logger looks for it, in the thread of the asynchronous ORM."""
    traceback = error.__traceback__
    try:
        raise error
    except BaseException:
        await sync_to_async(framework.task_finished.send)(sender, task_result=result)
    finally:
        error.__traceback__ = traceback


def _id(context: JobContext) -> int:
    return cast("int", context.job.id)


def _given(declared: Any, result: Any, args: list[Any]) -> list[Any]:
    return [framework.TaskContext(task_result=result), *args] if declared.takes_context else args


def _settle(result: Any, context: JobContext, error: BaseException) -> bool:
    """Write down what becomes of a job that raised, and say whether it has ended."""
    reason = context.abort_reason()
    if reason is AbortReason.TIMEOUT:
        error = exceptions.TaskTimeout()
    outcome = decide(context.job, context.task, RunResult(exception=error, abort_reason=reason))
    if outcome.status is Status.TODO:
        waiting(result, error)
        return False
    failed(result, error)
    return True
