"""Retry strategies: decide whether and when a job that raised runs again. They do not touch the database."""

from __future__ import annotations

import dataclasses
import datetime
import inspect
import numbers
import random
import warnings
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias, TypeGuard

from procrastinate import exceptions
from procrastinate._checks.amounts import read_count, read_finite, read_optional_seconds
from procrastinate._checks.names import check_lock, check_name, check_priority, lock_text
from procrastinate._checks.times import UTC_MAX, TooFarAway, as_timedelta, from_now, require_aware
from procrastinate._functions.kinds import is_async_callable
from procrastinate._functions.signature import check_takes
from procrastinate._job import Job
from procrastinate.types import TimeDeltaParams

_LONGER_THAN_TIME = 10**12
"""A wait in seconds that leads past the last possible datetime."""


class RetryDecision:
    """A decision to retry a job.

    Parameters
    ----------
    retry_at:
        The time of the retry, as an aware datetime. Without ``retry_at`` and ``retry_in`` the job is retried at once.
    retry_in:
        The wait before the retry: a :class:`datetime.timedelta` or its keyword arguments.
    priority, queue, lock:
        New values for the job. ``None`` keeps the current value.

    Raises
    ------
    ValueError
        Both ``retry_at`` and ``retry_in`` are given, or ``retry_at`` is naive.
    InvalidJob
        The priority, queue or lock cannot be stored. It is a ``ValueError``.
    """

    def __init__(
        self,
        *,
        retry_at: datetime.datetime | None = None,
        retry_in: TimeDeltaParams | datetime.timedelta | None = None,
        priority: int | None = None,
        queue: str | None = None,
        lock: str | None = None,
    ) -> None:
        if retry_at is not None and retry_in is not None:
            raise ValueError("Give retry_at or retry_in, not both")
        require_aware("retry_at", retry_at)
        if priority is not None:
            check_priority(priority)
        if queue is not None:
            check_name("queue", queue)
        check_lock("lock", lock)
        self.retry_at: datetime.datetime | None = retry_at
        if retry_in is not None:
            self.retry_at = _in_the_future("retry_in", retry_in)
        self.priority = priority
        self.queue = queue
        self.lock: str | None = lock_text(lock)
        self.fixed_retry_at: datetime.datetime | None = retry_at
        self.seconds: float | None = None
        self._set_seconds(retry_in or datetime.timedelta())

    def _set_seconds(self, retry_in: TimeDeltaParams | datetime.timedelta) -> None:
        """Store a wait as a number of seconds, so that the database's clock times the retry and not this machine's."""
        if self.fixed_retry_at is not None:
            return
        if self.retry_at == UTC_MAX:
            self.fixed_retry_at = UTC_MAX
        else:
            self.seconds = as_timedelta(retry_in).total_seconds()


def _in_the_future(name: str, delta: TimeDeltaParams | datetime.timedelta) -> datetime.datetime:
    """Return now plus ``delta``, at most the last possible datetime. An overflowing strategy must not lose the job."""
    try:
        return from_now(name, delta)
    except TooFarAway:
        return UTC_MAX


class BaseRetryStrategy:
    """Decides whether a job that raised runs again. Subclasses implement :meth:`get_retry_decision`."""

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision | None:
        """Return when to retry the job, or ``None`` for no retry.

        Parameters
        ----------
        exception:
            The exception that the task raised.
        job:
            The job as fetched. ``job.attempts`` counts the runs before this one.
        """
        seconds = self._seconds_of_old_style(exception, job)
        return None if seconds is None else RetryDecision(retry_in={"seconds": seconds})

    def get_schedule_in(self, *, exception: BaseException, attempts: int) -> int | None:
        """Return the seconds to wait, or ``None`` for no retry. Deprecated: implement :meth:`get_retry_decision`."""
        raise NotImplementedError("A retry strategy implements get_retry_decision(*, exception, job)")

    def get_retry_exception(self, exception: BaseException, job: Job) -> exceptions.JobRetry | None:
        """Return the decision as the exception that ends the run, or ``None`` for no retry."""
        decision = self.get_retry_decision(exception=exception, job=job)
        return exceptions.JobRetry(decision) if decision else None

    def _seconds_of_old_style(self, exception: BaseException, job: Job) -> int | None:
        seconds = self.get_schedule_in(exception=exception, attempts=job.attempts)
        warnings.warn(
            "get_schedule_in is deprecated: implement get_retry_decision instead", DeprecationWarning, stacklevel=3
        )
        return seconds


@dataclasses.dataclass(kw_only=True)
class RetryStrategy(BaseRetryStrategy):
    """Retry after ``wait + linear_wait * attempts + exponential_wait ** (attempts + 1)`` seconds.

    Parameters
    ----------
    max_attempts:
        Maximum number of retries. ``None`` means no limit.
    wait, linear_wait, exponential_wait:
        Parts of the wait, in seconds. ``attempts`` is 0 after the first run.
    retry_exceptions:
        Exception classes that cause a retry. By default every exception does.
    max_wait:
        Upper bound for the wait in seconds, which also holds if ``exponential_wait`` overflows. ``None`` means no
        bound.
    jitter:
        A fraction from 0 to 1. The wait is multiplied by a random factor between ``1 - jitter`` and ``1 + jitter``, so
        that jobs which failed together do not retry together. The result never exceeds ``max_wait``. Near that bound
        the waits are spread below it and do not pile up at it.
    uniform:
        Function that draws the jittered wait between two bounds. ``random.Random(seed).uniform`` makes it repeatable.

    Raises
    ------
    TypeError, ValueError
        A value is not a valid number, or ``retry_exceptions`` has an item that is not an exception class. The message
        names the option.
    """

    max_attempts: int | None = None
    wait: int = 0
    linear_wait: int = 0
    exponential_wait: int = 0
    retry_exceptions: Iterable[type[Exception]] | None = None
    max_wait: float | None = None
    jitter: float = 0.0
    uniform: Callable[[float, float], float] = dataclasses.field(default=random.uniform, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.max_attempts is not None:
            self.max_attempts = read_count("max_attempts", _whole(self.max_attempts), at_least=0, of="retries")
        for name in ("wait", "linear_wait", "exponential_wait", "jitter"):
            setattr(self, name, read_finite(name, getattr(self, name)))
        self.max_wait = read_optional_seconds("max_wait", self.max_wait, may_be_zero=True)
        if not 0 <= self.jitter <= 1:
            raise ValueError(f"jitter must be a fraction from 0 to 1, not {self.jitter!r}")
        if self.retry_exceptions is not None:
            self.retry_exceptions = _read_exceptions(self.retry_exceptions)

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision | None:
        """Return the wait from the formula, or ``None`` after ``max_attempts`` or for another kind of exception."""
        if self.max_attempts is not None and job.attempts >= self.max_attempts:
            return None
        if self.retry_exceptions is not None and not isinstance(exception, tuple(self.retry_exceptions)):
            return None
        return RetryDecision(retry_in={"seconds": self._wait(job.attempts)})

    def _wait(self, attempts: int) -> float:
        """Return the wait in seconds, bounded and with jitter."""
        seconds: float = max(self._seconds(attempts), 0)
        if self.max_wait is not None:
            seconds = min(seconds, self.max_wait)
        if not self.jitter:
            return seconds
        seconds = min(seconds, _LONGER_THAN_TIME)
        highest = seconds * (1 + self.jitter)
        if self.max_wait is not None:
            highest = min(highest, self.max_wait)
        return self.uniform(seconds * (1 - self.jitter), highest)

    def _seconds(self, attempts: int) -> int:
        exponent = attempts + 1
        if isinstance(self.exponential_wait, int):
            # A wait of 2 ** 1024 seconds never ends anyway. A row may claim two billion attempts, and computing that
            # power takes minutes.
            exponent = min(exponent, 1024)
        try:
            exponential = self.exponential_wait**exponent if self.exponential_wait else 0
        except OverflowError:  # exponential_wait is a float despite its annotation
            return _LONGER_THAN_TIME
        return self.wait + self.linear_wait * attempts + exponential


def _read_exceptions(value: Any) -> tuple[type[Exception], ...]:
    """Return the classes as a tuple. A generator would be empty for the second job."""
    if isinstance(value, type):
        raise TypeError(f"retry_exceptions takes a list of classes, not {value!r}: write [{value.__name__}]")
    classes: list[type[Exception]] = []
    for one in value:
        if isinstance(one, tuple):  # isinstance() accepts nested tuples, too
            classes += _read_exceptions(one)
        elif isinstance(one, type) and issubclass(one, BaseException):
            classes.append(one)  # type: ignore[arg-type]
        else:
            raise TypeError(f"retry_exceptions takes exception classes, not {one!r}")
    return tuple(classes)


RetryValue: TypeAlias = bool | int | BaseRetryStrategy | None


def get_retry_strategy(retry: RetryValue) -> BaseRetryStrategy | None:
    """Return the strategy for the ``retry=`` of a task, or ``None`` for no retry.

    ``True`` retries without a limit, and a number retries that many times.

    Raises
    ------
    TypeError
        ``retry`` has another type, or is a strategy with an async method or with a method that takes other arguments.
    """
    if isinstance(retry, BaseRetryStrategy) or _is_strategy(retry):
        _check_strategy(retry)
        return retry
    if isinstance(retry, bool):
        return RetryStrategy() if retry else None
    number = _whole(retry)
    if number is None:
        return None
    if isinstance(number, numbers.Integral):
        retries = read_count("retry", number, at_least=0, of="retries")
        return RetryStrategy(max_attempts=retries) if retries else None
    raise TypeError(f"retry= takes a bool, a number of retries or a retry strategy, not {type(retry).__name__}")


def read_decision(task_name: str, decision: Any) -> RetryDecision | None:
    """Return the decision of a user's strategy, or ``None`` for no retry.

    Raises
    ------
    TypeError
        The strategy returned neither a ``RetryDecision`` nor ``None``.
    """
    if isinstance(decision, RetryDecision) or decision is None:
        return decision
    if inspect.iscoroutine(decision):
        decision.close()  # avoids Python's warning about a coroutine that was never awaited
    raise TypeError(
        f"The retry strategy of task {task_name} returned a {type(decision).__name__}: a strategy must return a "
        "RetryDecision, or None for no retry, and must not be async"
    )


def _check_strategy(strategy: Any) -> None:
    """Refuse a strategy of the program that cannot be asked. The job would fail, and not be retried."""
    if type(strategy) is RetryStrategy:
        return
    for name in ("get_retry_decision", "get_retry_exception"):
        method = getattr(strategy, name, None)
        if method is None:
            continue
        what = f"{name} of {type(strategy).__name__}"
        if is_async_callable(method):
            raise TypeError(f"{what} must not be async: a strategy decides without waiting")
        check_takes(what, method, "exception", "job", by_name=True)


def _is_strategy(value: Any) -> TypeGuard[BaseRetryStrategy]:
    """Return true for an object with the method of a strategy, even if it does not inherit from the base class."""
    return not isinstance(value, type) and callable(getattr(value, "get_retry_exception", None))


def _whole(value: Any) -> Any:
    """Return a float without a fraction as an int. Return other values unchanged."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
