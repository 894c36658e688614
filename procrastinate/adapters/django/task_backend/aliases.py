"""The backend that enqueued a job. The job stores it, because its task may be declared on another backend."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from procrastinate.adapters.django.task_backend import framework

DEFAULT = "default"
"""The backend of jobs that do not name one."""

_KEY = "backend"


def as_stored(args: Sequence[Any], kwargs: Mapping[str, Any], alias: str) -> dict[str, Any]:
    """Return a job's arguments: the task's arguments, and the backend if it is not the default."""
    return stored_call(framework.normalize_json(list(args)), framework.normalize_json(dict(kwargs)), alias)


def stored_call(args: Sequence[Any], kwargs: Mapping[str, Any], alias: str) -> dict[str, Any]:
    """Return the same of arguments that may hold values of other steps, which are no JSON yet."""
    arguments = {"args": list(args), "kwargs": dict(kwargs)}
    return arguments if alias == DEFAULT else {**arguments, _KEY: alias}


def enqueued_on(arguments: Mapping[str, Any]) -> str:
    """Return the alias in a job's arguments."""
    alias = arguments.get(_KEY, DEFAULT)
    return alias if isinstance(alias, str) else DEFAULT


def first_of_kind(kind: type[Any], candidates: Iterable[str]) -> Any:
    """Return the first backend of a class, or None.

    The candidates come first, then all other backends, so that jobs of a renamed alias still run.
    """
    for alias in dict.fromkeys([*candidates, *framework.task_backends]):
        backend = backend_of(alias)
        if isinstance(backend, kind):
            return backend
    return None


def backend_of(alias: str) -> Any:
    """Return the backend, or None if ``TASKS`` does not define it or its package is not installed here."""
    try:
        return framework.task_backends[alias]
    except framework.InvalidTaskBackend:
        return None
