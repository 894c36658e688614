"""Locks that are made from the arguments of a job."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from typing import Any, TypeAlias

from procrastinate import exceptions
from procrastinate.types import JSONDict

LockFunction: TypeAlias = Callable[[JSONDict], str | None]
"""Makes a lock of the arguments of a job; ``None`` for a job without one."""

_READABLE = 200


@dataclasses.dataclass(frozen=True)
class ArgumentLock:
    """A lock for each set of arguments. Made by :func:`by_arguments`."""

    names: tuple[str, ...]


Lock: TypeAlias = str | LockFunction | ArgumentLock
"""What a task takes as ``lock`` and as ``queueing_lock``."""


def by_arguments(*names: str) -> ArgumentLock:
    """A lock for each set of arguments of a task: ``@app.task(lock=by_arguments("customer_id"))``.

    Jobs of one task with the same values have the same lock; jobs of other tasks never do.

    Parameters
    ----------
    names:
        The arguments that count; without any, all that the job was deferred with.
    """
    return ArgumentLock(names)


def make_lock(
    option: str, lock: Lock | None, *, task_name: str, task_kwargs: JSONDict, json_dumps: Callable[[Any], str | bytes]
) -> str | None:
    """The lock of a job with these arguments.

    Parameters
    ----------
    option:
        ``lock`` or ``queueing_lock``, for the message of an error.

    Raises
    ------
    InvalidJob
        It cannot be made of these arguments. The message names the task, and the argument that is missing.
    """
    if lock is None or isinstance(lock, str):
        return lock
    if isinstance(lock, ArgumentLock):
        chosen = _chosen(option, lock, task_name, task_kwargs)
        return _of_arguments(option, task_name, chosen, json_dumps)
    return _of_function(option, lock, task_name, task_kwargs)


def _chosen(option: str, lock: ArgumentLock, task_name: str, task_kwargs: JSONDict) -> JSONDict:
    missing = next((name for name in lock.names if name not in task_kwargs), None)
    if missing is not None:
        raise exceptions.InvalidJob(
            f"The {option} of task {task_name} is made of its argument {missing!r}, which was not given: "
            "defer the job with it, even where the task has a default"
        )
    return {name: task_kwargs[name] for name in lock.names or task_kwargs}


def _of_arguments(option: str, task_name: str, chosen: JSONDict, json_dumps: Callable[[Any], str | bytes]) -> str:
    """Readable where it is short. The JSON is that of the row, with its keys in order."""
    try:
        text = json.dumps(json.loads(json_dumps(chosen)), sort_keys=True, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise exceptions.InvalidJob(
            f"The {option} of task {task_name} is made of arguments {', '.join(chosen)}, which are not JSON: {error}"
        ) from error
    return f"{task_name}{text if len(text) <= _READABLE else hashlib.sha256(text.encode()).hexdigest()}"


def _of_function(option: str, function: LockFunction, task_name: str, task_kwargs: JSONDict) -> str | None:
    try:
        lock = function(dict(task_kwargs))
    except KeyError as error:
        raise exceptions.InvalidJob(
            f"The {option} of task {task_name} asks for the argument {error}, which was not given"
        ) from error
    except Exception as error:
        raise exceptions.InvalidJob(
            f"The {option} of task {task_name} cannot be made of its arguments ({', '.join(task_kwargs)}): {error!r}"
        ) from error
    if lock is not None and not isinstance(lock, str):
        raise exceptions.InvalidJob(f"The {option} of task {task_name} must be a str or None, not {lock!r}")
    return lock
