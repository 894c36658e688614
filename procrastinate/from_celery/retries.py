"""When a task that has raised runs again: Celery's rules."""

from __future__ import annotations

import datetime
import random
from collections.abc import Callable
from typing import Any

from procrastinate.from_celery.exceptions import MaxRetriesExceededError, Retry
from procrastinate.from_celery.options import TaskOptions
from procrastinate.jobs import Job
from procrastinate.retry import BaseRetryStrategy, RetryDecision


class RetryWhenAsked(BaseRetryStrategy):
    """Retries a job whose task has raised :class:`~.exceptions.Retry`, and no other."""

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision | None:
        """Decide like :meth:`BaseRetryStrategy.get_retry_decision`."""
        if not isinstance(exception, Retry):
            return None
        if exception.eta is not None and not exception.countdown:
            return RetryDecision(retry_at=exception.eta, priority=exception.priority, queue=exception.queue)
        return RetryDecision(
            retry_in={"seconds": exception.countdown or 0}, priority=exception.priority, queue=exception.queue
        )


def next_retry(
    options: TaskOptions,
    retries: int,
    *,
    task_name: str,
    error: BaseException | None = None,
    countdown: float | None = None,
    eta: datetime.datetime | None = None,
    max_retries: int | None = None,
    queue: str | None = None,
    priority: int | None = None,
) -> Retry:
    """Return what a task raises to run again.

    Parameters
    ----------
    retries:
        How many runs there were before this one.
    error:
        What has gone wrong.
    max_retries:
        Instead of those of the task.

    Raises
    ------
    MaxRetriesExceededError
        The task has run often enough, and there is no error. If there is one, it is raised itself.
    """
    limit = options.max_retries if max_retries is None else max_retries
    if limit is not None and retries >= limit:
        raise error or MaxRetriesExceededError(f"Task {task_name} was retried {retries} times, and may not be again")
    if countdown is None and eta is None:
        countdown = options.default_retry_delay
    return Retry(str(error) if error else None, countdown=countdown, eta=eta, queue=queue, priority=priority)


def automatic_retry(options: TaskOptions, retries: int, error: BaseException, *, task_name: str) -> Retry:
    """Return what follows an exception of ``autoretry_for``; raises it if the task has run often enough."""
    asked: dict[str, Any] = dict(options.retry_kwargs)
    if options.retry_backoff:
        asked["countdown"] = _backoff(options, retries)
    return next_retry(options, retries, task_name=task_name, error=error, **asked)


def _backoff(options: TaskOptions, retries: int, choose: Callable[[float, float], float] = random.uniform) -> float:
    """Return the seconds to wait."""
    first = max(1.0, float(options.retry_backoff))
    # 2 ** 1024 does not fit a float, and is longer than any bound.
    longest = min(options.retry_backoff_max, first * 2.0 ** min(retries, 1000))
    return choose(0, longest) if options.retry_jitter else longest
