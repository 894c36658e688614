"""What ``self.request`` tells a task about its job."""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import datetime
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from procrastinate.from_celery.stored_call import StoredCall
from procrastinate.job_context import JobContext


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
    """A run of a task, or a plain call of its function.

    Attributes
    ----------
    id:
        Celery's id of the message that has become the job, or else the id of the job.
    retries:
        How many runs there were before this one.
    called_directly:
        The function was called, and no worker runs it.
    context:
        What a worker gives to tasks of its own; ``None`` for a plain call.
    """

    id: str | None = None
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    retries: int = 0
    expires: datetime.datetime | None = None
    eta: datetime.datetime | None = None
    delivery_info: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    called_directly: bool = True
    context: JobContext | None = None

    @property
    def is_eager(self) -> bool:
        """``False``: a call of the function is a call."""
        return False

    @property
    def hostname(self) -> str | None:
        """The name of the worker."""
        return None if self.context is None else self.context.worker_name


_DIRECT = Request()
_NONE: Mapping[Any, Request] = {}
_requests: contextvars.ContextVar[Mapping[Any, Request]] = contextvars.ContextVar(
    "procrastinate_celery_requests", default=_NONE
)
"""The requests of the tasks that run here. As in Celery, each task has its own: one that calls the function of another
does not lend it its request."""


def request_for(task: Any) -> Request:
    """Return the request with which a task runs, or that of a plain call."""
    return _requests.get().get(task, _DIRECT)


@contextlib.contextmanager
def requested(task: Any, request: Request) -> Iterator[None]:
    """Give a task its request inside the block."""
    token = _requests.set({**_requests.get(), task: request})
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # the garbage collector ends a coroutine in another context
            _requests.reset(token)


def request_of(context: JobContext, call: StoredCall) -> Request:
    """Return the request of a job that a worker runs."""
    job = context.job
    return Request(
        id=str(job.id) if call.id is None else call.id,
        args=call.args,
        kwargs=call.kwargs,
        retries=call.retries + job.attempts,
        expires=call.expires,
        eta=job.scheduled_at,
        delivery_info={"routing_key": job.queue, "priority": job.priority},
        called_directly=False,
        context=context,
    )
