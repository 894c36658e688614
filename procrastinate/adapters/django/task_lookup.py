"""Finds the tasks of ``django.tasks`` for a worker, where the project keeps any on this queue."""

from __future__ import annotations

from typing import Any

from django.conf import settings as django_settings
from django.utils.module_loading import import_string

from procrastinate.blueprints import Blueprint
from procrastinate.tasks import Task


def find_task(name: str, blueprint: Blueprint) -> Task[Any, Any, Any] | None:
    """The task at that path, as a task of the app; ``None`` where there is none.

    The backend is imported here, and not above: without the setting ``TASKS``, there may be no framework to import.
    """
    if not _has_task_backend():
        return None
    from procrastinate.adapters.django.task_backend import execution

    return execution.find(name, blueprint)


def _has_task_backend() -> bool:
    """Whether the project keeps tasks of ``django.tasks`` here: then, and only then, a name is looked for as a path."""
    backends = getattr(django_settings, "TASKS", None) or {}
    return any(_is_ours(entry.get("BACKEND", "")) for entry in backends.values())


def _is_ours(path: str) -> bool:
    from procrastinate.adapters.django.task_backend.backend import ProcrastinateBackend

    backend = import_string(path)
    return isinstance(backend, type) and issubclass(backend, ProcrastinateBackend)
