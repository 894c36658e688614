"""Options for the tasks of a backend: ``OPTIONS`` applies to all tasks, ``@task(...)`` to one."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from typing import Any

from django.utils.module_loading import import_string

from procrastinate._checks.amounts import read_optional_seconds
from procrastinate._deferrer import require_on_conflict
from procrastinate._functions.signature import check_maker
from procrastinate.limits import Limit, read_weight
from procrastinate.locks import Lock
from procrastinate.retry import BaseRetryStrategy, RetryStrategy, RetryValue, get_retry_strategy
from procrastinate.types import OnConflict
from procrastinate.unique import Unique
from procrastinate.unique_deferrer import require_unique


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class BackendOptions:
    """``OPTIONS`` of an entry of ``TASKS``.

    Attributes
    ----------
    database:
        The key in ``DATABASES`` of the database with the jobs. ``None`` means the database of the project's app.
    retry:
        ``True``, a number of retries, a retry strategy, the dotted path of one, or a dict of arguments for
        :class:`~procrastinate.retry.RetryStrategy`.
    timeout:
        The maximum seconds of a run.
    lock, queueing_lock, on_conflict:
        As for :meth:`procrastinate.App.task`. A lock that depends on a job's arguments sees them under the keys
        ``args`` and ``kwargs``.
    unique:
        A :class:`procrastinate.Unique`. It applies to tasks without a ``queueing_lock`` and an ``on_conflict`` of
        their own.
    limit:
        A :class:`procrastinate.Limit`. It applies to tasks without a limit of their own.
    weight:
        How many slots of their limit jobs take. It applies to tasks without a weight of their own.
    """

    database: str | None = None
    retry: RetryValue = False
    timeout: float | None = None
    lock: Lock | None = None
    queueing_lock: Lock | None = None
    on_conflict: OnConflict = "raise"
    unique: Unique | None = None
    limit: Limit | None = None
    weight: int = 1


NAMES = tuple(field.name for field in dataclasses.fields(BackendOptions))


def read_options(given: Mapping[str, Any]) -> BackendOptions:
    """Parse the ``OPTIONS`` of an entry of ``TASKS``.

    Raises
    ------
    TypeError, ValueError, ImportError
        An option is unknown or its value is invalid. The message names it.
    """
    for name in given:
        if name not in NAMES:
            similar = difflib.get_close_matches(str(name), NAMES, n=1)
            hint = f"do you mean {similar[0]}?" if similar else f"the options are {', '.join(NAMES)}"
            raise TypeError(f"{name!r} is not an option of this backend: {hint}")
    values = {**given, "retry": read_retry(given.get("retry", False))}
    options = BackendOptions(**values)
    read_optional_seconds("timeout", options.timeout)
    check_maker("lock", options.lock)
    check_maker("queueing_lock", options.queueing_lock)
    require_on_conflict(options.on_conflict)
    require_unique(options.unique, queueing_lock=options.queueing_lock, on_conflict=options.on_conflict)
    require_limit(options.limit)
    read_weight(options.weight)
    if options.limit is not None:
        options.limit.require_room_for(options.weight)
    return options


def require_limit(limit: Any) -> None:
    """Refuse anything else than a limit.

    Raises
    ------
    TypeError
        It is no limit, or it is the limit of a queue.
    """
    if limit is None:
        return
    if not isinstance(limit, Limit):
        raise TypeError(f"limit must be a procrastinate.Limit, not {limit!r}")
    if limit.queue is not None:
        raise TypeError(f"The limit {limit.name!r} is that of a queue: leave queue= out, it limits tasks here")


def read_retry(retry: Any) -> RetryValue:
    """Return the retry value that a setting describes."""
    if isinstance(retry, Mapping):
        return RetryStrategy(**retry)
    if isinstance(retry, str):
        loaded = import_string(retry)
        if not isinstance(loaded, BaseRetryStrategy):
            raise TypeError(f"retry: {retry!r} is {loaded!r}, not a retry strategy")
        return loaded
    get_retry_strategy(retry)
    value: RetryValue = retry
    return value
