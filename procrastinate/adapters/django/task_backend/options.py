"""What can be set for the tasks of a backend: in ``OPTIONS``, for all of them, and with ``@task(...)`` for one."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from typing import Any

from django.utils.module_loading import import_string

from procrastinate.amounts import read_optional_seconds
from procrastinate.jobs import require_on_conflict
from procrastinate.locks import Lock
from procrastinate.retry import BaseRetryStrategy, RetryStrategy, RetryValue, get_retry_strategy
from procrastinate.types import OnConflict


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class BackendOptions:
    """``OPTIONS`` of an entry of ``TASKS``.

    Attributes
    ----------
    database:
        The key of ``DATABASES`` where the jobs are; ``None`` for the one of the project's app.
    retry:
        ``True``, a number of retries, a retry strategy, the dotted path of one, or a dict of what
        :class:`~procrastinate.retry.RetryStrategy` takes.
    timeout:
        Seconds that a run may take.
    lock, queueing_lock, on_conflict:
        As for :meth:`procrastinate.App.task`. A lock made from the arguments of a job gets them as the two keys
        ``args`` and ``kwargs``.
    """

    database: str | None = None
    retry: RetryValue = False
    timeout: float | None = None
    lock: Lock | None = None
    queueing_lock: Lock | None = None
    on_conflict: OnConflict = "raise"


NAMES = tuple(field.name for field in dataclasses.fields(BackendOptions))


def read_options(given: Mapping[str, Any]) -> BackendOptions:
    """The options of an entry of ``TASKS``.

    Raises
    ------
    TypeError, ValueError, ImportError
        There is no such option, or its value is none. The message names it.
    """
    for name in given:
        if name not in NAMES:
            similar = difflib.get_close_matches(str(name), NAMES, n=1)
            hint = f"is it {similar[0]} that you mean?" if similar else f"there are {', '.join(NAMES)}"
            raise TypeError(f"{name!r} is not an option of this backend: {hint}")
    values = {**given, "retry": read_retry(given.get("retry", False))}
    options = BackendOptions(**values)
    read_optional_seconds("timeout", options.timeout)
    require_on_conflict(options.on_conflict)
    return options


def read_retry(retry: Any) -> RetryValue:
    """The retry strategy that a setting describes."""
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
