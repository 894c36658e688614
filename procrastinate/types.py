"""Types that appear in public signatures."""

from __future__ import annotations

import datetime
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias, TypedDict

JSONValue: TypeAlias = Any
"""A value that ``json.dumps`` accepts."""
JSONDict: TypeAlias = dict[str, JSONValue]


OnConflict: TypeAlias = Literal["raise", "skip", "replace"]
"""Behaviour of a defer if a waiting job has the same queueing lock."""


class TimeDeltaParams(TypedDict, total=False):
    """The keyword arguments of :class:`datetime.timedelta`."""

    weeks: float
    days: float
    hours: float
    minutes: float
    seconds: float
    milliseconds: float
    microseconds: float


class JobToDefer(NamedTuple):
    """The columns of a job that is about to be stored."""

    queue_name: str
    task_name: str
    priority: int
    lock: str | None
    queueing_lock: str | None
    args: JSONDict
    scheduled_at: Any | None


class RetryTerms(Protocol):
    """When and how a job is retried: the attributes of a :class:`~procrastinate.RetryDecision`.

    Exceptions carry a decision and cannot import its class, because its checks raise them.
    """

    retry_at: datetime.datetime | None
    priority: int | None
    queue: str | None
    lock: str | None
