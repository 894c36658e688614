"""Whether, when and where a job that raised is tried again: pure decisions."""

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
from procrastinate.amounts import read_count, read_finite, read_optional_seconds
from procrastinate.jobs import Job
from procrastinate.names import check_lock, check_name, check_priority
from procrastinate.timing import UTC_MAX, TooFarAway, from_now, require_aware
from procrastinate.types import TimeDeltaParams
from procrastinate.zones import check_attached

_LONGER_THAN_TIME = 10**12
"""Seconds: more than a datetime can hold."""


class RetryDecision:
    """The job is to be tried again.

    Parameters
    ----------
    retry_at:
        When: an aware datetime. At once, where neither this nor ``retry_in`` is given.
    retry_in:
        In how long: the keyword arguments of :class:`datetime.timedelta`.
    priority, queue, lock:
        New values for the job; ``None`` keeps what it has.

    Raises
    ------
    ValueError
        Both ``retry_at`` and ``retry_in`` were given, or ``retry_at`` is naive.
    InvalidJob
        No job can have such a priority, queue or lock: a ``ValueError``, too.
    """

    def __init__(
        self,
        *,
        retry_at: datetime.datetime | None = None,
        retry_in: TimeDeltaParams | None = None,
        priority: int | None = None,
        queue: str | None = None,
        lock: str | None = None,
    ) -> None:
        if retry_at is not None and retry_in is not None:
            raise ValueError("Give retry_at or retry_in, not both")
        require_aware("retry_at", retry_at)
        if retry_at is not None:
            check_attached("retry_at", retry_at)
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
        self.lock = lock
        self.fixed_retry_at: datetime.datetime | None = retry_at
        self.seconds: float | None = None
        self._set_seconds(retry_in or {})

    def _set_seconds(self, retry_in: TimeDeltaParams) -> None:
        """A wait is handed to the database as a wait: its clock decides when the time has come, not this one's."""
        if self.fixed_retry_at is not None:
            return
        if self.retry_at == UTC_MAX:
            self.fixed_retry_at = UTC_MAX
        else:
            self.seconds = datetime.timedelta(**retry_in).total_seconds()


def _in_the_future(name: str, delta: TimeDeltaParams) -> datetime.datetime:
    """The last moment that there is, where the wait is longer: a job is not lost because its strategy overflows."""
    try:
        return from_now(name, delta)
    except TooFarAway:
        return UTC_MAX


class BaseRetryStrategy:
    """Decides what becomes of a job that raised. Subclasses implement :meth:`get_retry_decision`."""

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision | None:
        """When to try again; ``None`` for not at all.

        Parameters
        ----------
        exception:
            What the task raised.
        job:
            As it was fetched: ``job.attempts`` counts the runs before this one.
        """
        seconds = self._seconds_of_old_style(exception, job)
        return None if seconds is None else RetryDecision(retry_in={"seconds": seconds})

    def get_schedule_in(self, *, exception: BaseException, attempts: int) -> int | None:
        """Deprecated: implement :meth:`get_retry_decision`. Seconds to wait, or ``None`` for no retry."""
        raise NotImplementedError("A retry strategy implements get_retry_decision(*, exception, job)")

    def get_retry_exception(self, exception: BaseException, job: Job) -> exceptions.JobRetry | None:
        """The decision as the exception that ends the run; ``None`` for no retry."""
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
    """Try again after ``wait + linear_wait * attempts + exponential_wait ** (attempts + 1)`` seconds.

    Parameters
    ----------
    max_attempts:
        How many times to try again; ``None`` for as long as it takes.
    wait, linear_wait, exponential_wait:
        In seconds. ``attempts`` is 0 after the first run.
    retry_exceptions:
        Try again only after these; after every exception by default.
    max_wait:
        In seconds: no wait is longer, also where ``exponential_wait`` overflows; ``None`` for no bound.
    jitter:
        A fraction from 0 to 1: the wait is multiplied by a random factor from ``1 - jitter`` to ``1 + jitter``, so
        that jobs which failed together do not come back together. Near ``max_wait`` the upper end is ``max_wait``:
        jobs are spread below it, and do not gather at it.
    uniform:
        Draws the jittered wait between two ends. ``random.Random(seed).uniform`` makes it repeatable.

    Raises
    ------
    TypeError, ValueError
        A number is none, or ``retry_exceptions`` has something else than classes of exceptions. The message names it.
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
        """As :meth:`BaseRetryStrategy.get_retry_decision`."""
        if self.max_attempts is not None and job.attempts >= self.max_attempts:
            return None
        if self.retry_exceptions is not None and not isinstance(exception, tuple(self.retry_exceptions)):
            return None
        return RetryDecision(retry_in={"seconds": self._wait(job.attempts)})

    def _wait(self, attempts: int) -> float:
        """In seconds, bounded, with jitter."""
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
            # 2 ** 1024 is longer than time already. A row may say two billion attempts, whose power takes minutes.
            exponent = min(exponent, 1024)
        try:
            exponential = self.exponential_wait**exponent if self.exponential_wait else 0
        except OverflowError:  # a float, which somebody gave all the same
            return _LONGER_THAN_TIME
        return self.wait + self.linear_wait * attempts + exponential


def _read_exceptions(value: Any) -> tuple[type[Exception], ...]:
    """The classes, kept: what gives them once only (a generator) would give none to the second job."""
    if isinstance(value, type):
        raise TypeError(f"retry_exceptions takes a list of classes, not {value!r}: write [{value.__name__}]")
    classes: list[type[Exception]] = []
    for one in value:
        if isinstance(one, tuple):  # as isinstance() takes them
            classes += _read_exceptions(one)
        elif isinstance(one, type) and issubclass(one, BaseException):
            classes.append(one)  # type: ignore[arg-type]
        else:
            raise TypeError(f"retry_exceptions takes classes of exceptions, not {one!r}")
    return tuple(classes)


RetryValue: TypeAlias = bool | int | BaseRetryStrategy | None


def get_retry_strategy(retry: RetryValue) -> BaseRetryStrategy | None:
    """The strategy for the ``retry=`` of a task: never, for ever, so many times, or as a strategy says."""
    if isinstance(retry, BaseRetryStrategy) or _is_strategy(retry):
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
    """Return what a strategy of the program has decided; ``None`` for no retry.

    Raises
    ------
    TypeError
        The strategy has returned something else.
    """
    if isinstance(decision, RetryDecision) or decision is None:
        return decision
    if inspect.iscoroutine(decision):
        decision.close()  # or Python would warn that it was not awaited
    raise TypeError(
        f"The retry strategy of task {task_name} has returned a {type(decision).__name__}: a strategy returns a "
        "RetryDecision, or None for no retry, and is not async"
    )


def _is_strategy(value: Any) -> TypeGuard[BaseRetryStrategy]:
    """Whether it does what a task asks of its strategy, without the base class."""
    return not isinstance(value, type) and callable(getattr(value, "get_retry_exception", None))


def _whole(value: Any) -> Any:
    """Return a float without a fraction as an int, and all else as it is."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
