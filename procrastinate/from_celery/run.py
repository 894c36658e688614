"""How a worker runs a task of Celery: the function of the task that it knows."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from procrastinate._checks.times import utcnow
from procrastinate._functions.kinds import is_async_callable
from procrastinate.core.fetch import from_microseconds
from procrastinate.exceptions import JobAborted
from procrastinate.from_celery.exceptions import Ignore, Retry
from procrastinate.from_celery.request import request_of, requested
from procrastinate.from_celery.retries import automatic_retry
from procrastinate.from_celery.stored_call import StoredCall, encode
from procrastinate.job_context import JobContext
from procrastinate.jobs import Job

if TYPE_CHECKING:
    from procrastinate.from_celery.task import CeleryTask


def make_run(task: CeleryTask) -> Callable[..., Any]:
    """Return the function that a worker calls with the stored arguments.

    It has the name of the task's function, by which a reloaded module is told from a second declaration.
    """
    make = _async_run if is_async_callable(task.function) else _sync_run
    return functools.wraps(task.function)(make(task))


def _sync_run(task: CeleryTask) -> Callable[..., Any]:
    def run(context: JobContext, /, **arguments: Any) -> Any:
        call = _read(context.job, arguments)
        with _running(task, context, call):
            return encode(task.call_function(*call.args, **call.kwargs))

    return run


def _async_run(task: CeleryTask) -> Callable[..., Any]:
    async def run(context: JobContext, /, **arguments: Any) -> Any:
        call = _read(context.job, arguments)
        with _running(task, context, call):
            return encode(await task.call_function(*call.args, **call.kwargs))

    return run


def _read(job: Job, arguments: dict[str, Any]) -> StoredCall:
    """Return the call of a job, which must not have expired when a worker claimed it, by the clock of the database."""
    call = StoredCall.from_arguments(**arguments)
    claimed_at = from_microseconds(job.claimed_at) or utcnow()
    if call.expires is not None and call.expires <= claimed_at:
        raise JobAborted(f"The job has expired at {call.expires.isoformat()}")
    return call


@contextlib.contextmanager
def _running(task: CeleryTask, context: JobContext, call: StoredCall) -> Iterator[None]:
    """Let the task know its request, and turn what it raises into a retry if it is declared so."""
    request = request_of(context, call)
    try:
        with requested(task, request):
            yield
    except Retry:
        raise
    except Ignore:
        return  # The block ends here: its value is None.
    except task.options.dont_autoretry_for:
        raise
    except task.options.autoretry_for as error:
        raise automatic_retry(task.options, request.retries, error, task_name=task.name) from error
