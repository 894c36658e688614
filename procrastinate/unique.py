"""Unique jobs: at most one job with a key, until it starts, until it ends, or within a period."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

from procrastinate._checks.names import check_lock, lock_text
from procrastinate._checks.times import as_timedelta
from procrastinate._functions.signature import check_maker
from procrastinate.core.unique_keys import UniqueKey
from procrastinate.locks import ArgumentLock, Lock, by_arguments, make_lock
from procrastinate.types import JSONDict, OnConflict, TimeDeltaParams

__all__ = ["Unique", "make_unique_key"]

_LONGEST = datetime.timedelta(days=36_525)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Unique:
    """Allow one job with a key at a time, for ``unique=`` of a task or of ``configure``.

    Parameters
    ----------
    by:
        The key: a text, a function that takes the arguments of the job as a dict, or
        :func:`~procrastinate.by_arguments`. Jobs of any task with the same text have the same key. The default is the
        task with all its arguments. A job for which the function returns ``None`` is not unique.
    until:
        How long a job holds its key. ``"start"`` is until a worker takes the job, ``"end"`` until the job has ended.
        A :class:`datetime.timedelta`, or its keyword arguments as in ``{"hours": 1}``, counts from the defer, whatever
        becomes of the job.
    on_conflict:
        What happens if another job holds the key. ``"raise"`` raises
        :class:`~procrastinate.exceptions.AlreadyEnqueued`. ``"skip"`` defers nothing and returns the id of that job.
        ``"replace"`` gives that job the arguments, schedule, priority, lock, queue and task of this one and returns its
        id. It raises ``AlreadyEnqueued`` if that job has started.
    max_wait:
        Only with ``"replace"``. The time from the first defer after which no replacement delays the job any longer: a
        :class:`datetime.timedelta` or its keyword arguments. Without it, a job that is replaced often enough never
        runs.

    Raises
    ------
    TypeError, ValueError
        A parameter is invalid. The message names it.
    """

    by: Lock | None = None
    until: Literal["start", "end"] | TimeDeltaParams | datetime.timedelta = "start"
    on_conflict: OnConflict = "raise"
    max_wait: TimeDeltaParams | datetime.timedelta | None = None

    def __post_init__(self) -> None:
        """Check the parameters, and keep times as timedeltas."""
        self._set(by=_read_by(self.by), until=_read_until(self.until))
        if self.on_conflict not in get_args(OnConflict):
            raise ValueError(f"on_conflict={self.on_conflict!r} of Unique: write 'raise', 'skip' or 'replace'")
        if self.max_wait is None:
            return
        if self.on_conflict != "replace":
            raise ValueError(
                f"max_wait of Unique limits how long a job is replaced, and on_conflict is {self.on_conflict!r}: "
                "give on_conflict='replace', or leave out max_wait"
            )
        self._set(max_wait=_read_time("max_wait", self.max_wait))

    def _set(self, **values: Any) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)


def _read_by(by: Any) -> Lock:
    if by is None:
        return by_arguments()
    if isinstance(by, str):
        check_lock("by of Unique", by)
    elif not (callable(by) or isinstance(by, ArgumentLock)):
        raise TypeError(f"by={by!r} of Unique: give a text, a function of the arguments, or by_arguments('name')")
    check_maker("by of Unique", by)
    lock: Lock = by
    return lock


def _read_until(until: Any) -> Literal["start", "end"] | datetime.timedelta:
    if until in ("start", "end"):
        return "start" if until == "start" else "end"
    return _read_time("until", until, or_else="'start', 'end', or ")


def _read_time(name: str, value: Any, *, or_else: str = "") -> datetime.timedelta:
    hint = f"{name}={value!r} of Unique: write {or_else}a time such as {{'minutes': 5}}"
    if not isinstance(value, datetime.timedelta | Mapping):
        raise TypeError(hint)
    try:
        time = as_timedelta(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError  # an infinite time is an OverflowError
        raise kind(f"{hint} ({error})") from None
    if not datetime.timedelta(0) < time <= _LONGEST:
        raise ValueError(f"{hint}, longer than nothing and at most 100 years")
    return time


def make_unique_key(
    unique: Unique, *, task_name: str, task_kwargs: JSONDict, json_dumps: Callable[[Any], str | bytes]
) -> UniqueKey | None:
    """Return the unique key of a job with these arguments, or ``None`` if the job is not unique.

    Raises
    ------
    InvalidJob
        The key cannot be made from these arguments, or cannot be stored. The message names the task.
    """
    made = make_lock("unique key", unique.by, task_name=task_name, task_kwargs=task_kwargs, json_dumps=json_dumps)
    check_lock("unique key", made)
    key = lock_text(made)
    if key is None:
        return None
    max_wait = unique.max_wait.total_seconds() if isinstance(unique.max_wait, datetime.timedelta) else None
    if isinstance(unique.until, datetime.timedelta):
        return UniqueKey(key=key, until="period", period=unique.until.total_seconds(), max_wait=max_wait)
    return UniqueKey(key=key, until="start" if unique.until == "start" else "end", max_wait=max_wait)
