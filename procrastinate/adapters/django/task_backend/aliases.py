"""Which backend a job was enqueued on. A job says so itself: its task may be declared on another backend."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from procrastinate.adapters.django.task_backend import framework

DEFAULT = "default"
"""The backend of jobs that name none."""

_KEY = "backend"


def as_stored(args: Sequence[Any], kwargs: Mapping[str, Any], alias: str) -> dict[str, Any]:
    """The arguments of a job: what the task is called with, and the backend, where it is not the default."""
    arguments = {"args": framework.normalize_json(list(args)), "kwargs": framework.normalize_json(dict(kwargs))}
    return arguments if alias == DEFAULT else {**arguments, _KEY: alias}


def enqueued_on(arguments: Mapping[str, Any]) -> str:
    """The alias that the arguments of a job name."""
    alias = arguments.get(_KEY, DEFAULT)
    return alias if isinstance(alias, str) else DEFAULT


def first_of_kind(kind: type[Any], candidates: Iterable[str]) -> Any:
    """The first backend of that class; ``None`` where there is none.

    The candidates come first, and then all others: an alias that was renamed must not strand the jobs of before.
    """
    for alias in dict.fromkeys([*candidates, *framework.task_backends]):
        backend = _backend(alias)
        if isinstance(backend, kind):
            return backend
    return None


def _backend(alias: str) -> Any:
    """The backend; ``None`` where ``TASKS`` has none, or one whose package is not installed here."""
    try:
        return framework.task_backends[alias]
    except framework.InvalidTaskBackend:
        return None
