"""What a Celery task is declared with, and what its calls take: understood, without effect here, or refused."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Mapping
from typing import Any, NoReturn

from procrastinate._checks.amounts import read_count, read_optional_seconds, read_seconds
from procrastinate._checks.names import check_name
from procrastinate._checks.times import from_now, require_aware
from procrastinate._pages import page
from procrastinate.from_celery import canvas
from procrastinate.from_celery.exceptions import NotSupported

WITHOUT_EFFECT = frozenset(
    {
        "acks_late",
        "acks_on_failure_or_timeout",
        "compression",
        "delivery_mode",
        "reject_on_worker_lost",
        "resultrepr_maxsize",
        "retry",
        "retry_policy",
        "send_events",
        "serializer",
        "store_errors_even_if_ignored",
        "track_started",
        "trail",
    }
)
"""Options of the broker, and such that every job here has already."""
_RETRY_KWARGS = frozenset({"countdown", "max_retries", "queue"})
"""What ``retry_kwargs`` may have."""
_CANVAS = frozenset(
    {"add_to_parent", "chain", "chord", "group_id", "group_index", "link", "link_error", "replaced_task_nesting"}
)
_HANDLERS = frozenset({"after_return", "before_start", "on_failure", "on_retry", "on_success"})
_WAY_OUT = {
    "base": "move what the class does into the function, or into a task middleware",
    **dict.fromkeys(_HANDLERS, "catch the error in the function, or write a task middleware"),
    "rate_limit": "give the queue of the task a limit with a rate, App(limits=[Limit(..., queue=..., rate=...)]), or "
    "in a Django project the setting PROCRASTINATE_LIMITS = [Limit(...)]",
    "headers": "give the task an argument",
    "exchange": "name a queue",
    "routing_key": "name a queue",
    "ignore_result": "declare the task with it",
    "store_result": "write ignore_result=False",
    "task_id": "use the id that the call returns",
    "time_limit": "declare the task with it",
    "soft_time_limit": "declare the task with it",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskOptions:
    """What ``@shared_task(...)`` and ``@app.task(...)`` take. Names and defaults are those of Celery.

    Attributes
    ----------
    queue, priority, expires:
        What its calls get unless they say otherwise. ``expires`` is in seconds.
    max_retries:
        ``None`` for no bound.
    default_retry_delay, retry_backoff_max:
        In seconds.
    retry_backoff:
        ``True``: 1, 2, 4 ... seconds; a number: the first of these waits, in seconds.
    time_limit, soft_time_limit:
        In seconds. The shorter of the two ends the run.
    ignore_result:
        ``False`` keeps what the function returns. ``None``: as the :class:`~.app.CeleryTasks` say.
    typing:
        Whether a call with arguments that the function does not take raises at once.
    """

    name: str | None = None
    bind: bool = False
    queue: str | None = None
    priority: int | None = None
    expires: float | datetime.timedelta | None = None
    autoretry_for: tuple[type[BaseException], ...] = ()
    dont_autoretry_for: tuple[type[BaseException], ...] = ()
    retry_kwargs: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    retry_backoff: bool | float = False
    retry_backoff_max: float = 600
    retry_jitter: bool = True
    max_retries: int | None = 3
    default_retry_delay: float = 180
    time_limit: float | None = None
    soft_time_limit: float | None = None
    ignore_result: bool | None = None
    typing: bool = True

    def __post_init__(self) -> None:
        _check_queue(self.queue)
        for name in self.retry_kwargs.keys() - _RETRY_KWARGS:
            _refuse(name, "retry_kwargs")
        _check_times(self)
        _check_retries("max_retries", self.max_retries)
        _check_retries("max_retries of retry_kwargs", self.retry_kwargs.get("max_retries"))
        _check_exceptions("autoretry_for", self.autoretry_for)
        _check_exceptions("dont_autoretry_for", self.dont_autoretry_for)

    @property
    def timeout(self) -> float | None:
        """Seconds that a run may take."""
        return min(filter(None, (self.time_limit, self.soft_time_limit)), default=None)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CallOptions:
    """What ``apply_async(...)`` takes in addition to the arguments.

    Attributes
    ----------
    countdown:
        Seconds until it may start.
    eta:
        When it may start: an aware datetime. ``countdown`` comes before it, as in Celery.
    expires:
        It does not start later: seconds from now, or an aware datetime.
    connection:
        An open connection of yours. The job is committed with its transaction. (In Celery, one to the broker.)
    """

    countdown: float | None = None
    eta: datetime.datetime | None = None
    expires: float | datetime.timedelta | datetime.datetime | None = None
    queue: str | None = None
    priority: int | None = None
    connection: Any = None

    def __post_init__(self) -> None:
        _check_queue(self.queue)
        require_aware("eta", self.eta)

    def scheduling(self) -> dict[str, Any]:
        """Return when the job may start, as ``task.configure`` takes it."""
        if self.countdown:
            return {"schedule_in": {"seconds": self.countdown}}
        return {} if self.eta is None else {"schedule_at": self.eta}


@dataclasses.dataclass(frozen=True, kw_only=True)
class RetryOptions:
    """What ``self.retry(...)`` changes in the job. ``None`` leaves a value as it is."""

    queue: str | None = None
    priority: int | None = None

    def __post_init__(self) -> None:
        _check_queue(self.queue)


def read_task_options(given: Mapping[str, Any]) -> TaskOptions:
    """Read what a task is declared with.

    Raises
    ------
    NotSupported
        An option has no stand-in. The message names it and the way out.
    TypeError, ValueError
        A value is of the wrong type or too small. The message names the option.
    """
    return TaskOptions(**_read(given, TaskOptions, of="@task"))


def read_call_options(given: Mapping[str, Any]) -> CallOptions:
    """Read what a call takes in addition to its arguments; raises as :func:`read_task_options`."""
    return CallOptions(**_read(given, CallOptions, of="apply_async"))


def read_retry_options(given: Mapping[str, Any]) -> RetryOptions:
    """Read what a retry changes in the job; raises as :func:`read_task_options`."""
    return RetryOptions(**_read(given, RetryOptions, of="self.retry"))


def refuse_assignment(name: str) -> None:
    """Refuse to set an attribute of a task that is an option of Celery, because a set option has no effect here.

    Raises
    ------
    NotSupported
        The attribute is such an option. The message names it and the way out.
    """
    if name in _DECLARED or name in _WAY_OUT:
        way_out = "declare the task with it" if name in _DECLARED else _WAY_OUT[name]
        raise NotSupported(
            f"The attribute {name} of a task has no effect once it is declared: {way_out}. "
            f"See {page('from-celery', 'Options')}"
        )


def read_expires(expires: Any) -> datetime.datetime | None:
    """Return the end of a duration from now, in seconds or as a timedelta; or the aware datetime that was given.

    Raises
    ------
    TypeError, ValueError
        It is none of these, is naive, or ends after the last possible datetime.
    """
    if isinstance(expires, datetime.datetime) or expires is None:
        require_aware("expires", expires)
        return expires
    return from_now("expires", expires if isinstance(expires, datetime.timedelta) else {"seconds": expires})


_DECLARED = frozenset(field.name for field in dataclasses.fields(TaskOptions)) - {"name"}


def _read(given: Mapping[str, Any], kind: type[Any], of: str) -> dict[str, Any]:
    known = {field.name for field in dataclasses.fields(kind)}
    read: dict[str, Any] = {}
    for name, value in given.items():
        if name in known:
            read[name] = _as_tuple(value) if name.endswith("autoretry_for") else value
        elif name not in WITHOUT_EFFECT and value is not None:
            _refuse(name, of)
    return read


def _check_queue(queue: str | None) -> None:
    if queue is not None:
        check_name("queue", queue)


def _check_times(options: TaskOptions) -> None:
    """Refuse times that would fail each call or each retry of the task."""
    times = {
        "default_retry_delay": options.default_retry_delay,
        "countdown of retry_kwargs": options.retry_kwargs.get("countdown"),
        "retry_backoff": None if isinstance(options.retry_backoff, bool) else options.retry_backoff,
        "expires": None if isinstance(options.expires, datetime.timedelta) else options.expires,
    }
    read_seconds("retry_backoff_max", options.retry_backoff_max, may_be_zero=True)
    for name, seconds in times.items():
        read_optional_seconds(name, seconds, may_be_zero=True)


def _check_retries(name: str, retries: Any) -> None:
    if retries is not None:
        read_count(name, retries, at_least=0, of="retries")


def _check_exceptions(name: str, classes: tuple[Any, ...]) -> None:
    for one in classes:
        if not (isinstance(one, type) and issubclass(one, BaseException)):
            raise TypeError(f"{name} takes classes of exceptions, not {one!r}")


def _as_tuple(value: Any) -> tuple[Any, ...]:
    return (value,) if isinstance(value, type | str) else tuple(value)


def _refuse(name: str, of: str) -> NoReturn:
    if name in _CANVAS:
        canvas.refuse(f"{of}({name}=...)")
    way_out = _WAY_OUT.get(name, "leave it out")
    raise NotSupported(f"{of}({name}=...) has no stand-in: {way_out}. See {page('from-celery', 'Options')}")
