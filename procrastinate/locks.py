"""Locks made from the arguments of a job."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from typing import Any, TypeAlias

from procrastinate import exceptions
from procrastinate.types import JSONDict

LockFunction: TypeAlias = Callable[[JSONDict], str | None]
"""Function that returns the lock for the arguments of a job, or ``None`` for no lock."""

_READABLE = 200


@dataclasses.dataclass(frozen=True)
class ArgumentLock:
    """A separate lock for each set of argument values, made by :func:`by_arguments`."""

    names: tuple[str, ...]


Lock: TypeAlias = str | LockFunction | ArgumentLock
"""Types for ``lock`` and ``queueing_lock`` of a task."""


def by_arguments(*names: str) -> ArgumentLock:
    """Return a lock that depends on arguments of the job, as in ``@app.task(lock=by_arguments("customer_id"))``.

    Jobs of one task with the same argument values share a lock. Jobs of different tasks never share one, because the
    lock contains the name of the task. So after a task is renamed, new jobs share no lock with older ones.

    Parameters
    ----------
    names:
        Names of the arguments. Without names, all arguments of the job count.

    Raises
    ------
    TypeError
        A name is no text.
    """
    wrong: list[object] = [name for name in names if not isinstance(name, str)]
    if wrong:
        raise TypeError(f"by_arguments takes names of arguments, as in by_arguments('shop', 'day'), not {wrong[0]!r}")
    return ArgumentLock(names)


def make_lock(
    option: str, lock: Lock | None, *, task_name: str, task_kwargs: JSONDict, json_dumps: Callable[[Any], str | bytes]
) -> str | None:
    """Return the lock of a job with these arguments, or ``None`` for no lock.

    Parameters
    ----------
    option:
        ``lock`` or ``queueing_lock``, for error messages.

    Raises
    ------
    InvalidJob
        The lock cannot be made from these arguments. The message names the task and a missing argument.
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
            f"The {option} of task {task_name} needs the argument {missing!r}, which was not given: "
            "defer the job with it, even if the function has a default"
        )
    return {name: task_kwargs[name] for name in lock.names or task_kwargs}


def _of_arguments(option: str, task_name: str, chosen: JSONDict, json_dumps: Callable[[Any], str | bytes]) -> str:
    """Return the task name plus the arguments as JSON with sorted keys, or plus a hash of long JSON."""
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
