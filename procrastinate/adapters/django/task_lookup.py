"""Finds ``django.tasks`` tasks and their limits for a worker, if the project uses this queue for them."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from django.conf import settings as django_settings
from django.utils.module_loading import import_string

from procrastinate.blueprints import Blueprint
from procrastinate.limits import Limit
from procrastinate.tasks import Task


class TaskLookup:
    """Registers a ``django.tasks`` task when its first job arrives, once per backend that enqueues it.

    The backend is imported lazily: a project without the setting ``TASKS`` may not have the framework.
    """

    def __init__(self) -> None:
        self._setting: Any = None
        self._is_used = False
        self._found: dict[tuple[str, str], Task[Any, Any, Any]] = {}

    def find(
        self, name: str, arguments: Mapping[str, Any], blueprint: Blueprint, *, loaded_only: bool
    ) -> Task[Any, Any, Any] | None:
        """Return the task at a path as a task of the app, or None.

        An exception during the module's import becomes a task that raises it: see
        :func:`procrastinate.adapters.django.task_backend.execution.stand_in`.

        Parameters
        ----------
        arguments:
            The job's arguments, which name the backend that enqueued it.
        loaded_only:
            Import no module.
        """
        self._read_setting()
        if not self._is_used or (loaded_only and name.rpartition(".")[0] not in sys.modules):
            return None
        from procrastinate.adapters.django.task_backend import aliases, execution

        alias = aliases.enqueued_on(arguments)
        alias = alias if alias in self._setting else aliases.DEFAULT
        task = self._found.get((name, alias))
        if task is not None:
            return task
        try:
            task = execution.find(name, alias, blueprint)
        except BaseException as error:
            # This includes SystemExit: a module that exits must not end the worker.
            return execution.stand_in(name, alias, error, blueprint)
        if task is not None:
            self._found[name, alias] = task
        return task

    def may_have(self, name: str) -> bool:
        """Return True if the path leads to a module of the project that is not loaded. Nothing is imported."""
        self._read_setting()
        if not self._is_used:
            return False
        from procrastinate.adapters.django.task_backend import reach

        module_path = name.rpartition(".")[0]
        return module_path not in sys.modules and reach.is_within_reach(module_path) and reach.exists(module_path)

    def list_limits(self) -> list[Limit]:
        """Return the limits of the backends in ``TASKS`` and of the tasks that are declared by now."""
        self._read_setting()
        if not self._is_used:
            return []
        from procrastinate.adapters.django.task_backend import limits

        return limits.list_limits()

    def _read_setting(self) -> None:
        """Read ``TASKS`` once per value. A test may override it, and earlier tasks belong to the previous value."""
        setting = getattr(django_settings, "TASKS", None) or {}
        if setting is not self._setting:
            self._is_used = _has_task_backend(setting)
            self._found.clear()
            self._setting = setting


def _has_task_backend(setting: Mapping[str, Any]) -> bool:
    """Return true if ``TASKS`` uses this queue. Only then is a task name looked up as a path."""
    failure: ImportError | None = None
    for entry in setting.values():
        try:
            if _is_ours(entry.get("BACKEND", "")):
                return True
        except ImportError as error:  # this worker may not need that package
            failure = failure or error
    if failure is not None:
        raise failure
    return False


def _is_ours(path: str) -> bool:
    from procrastinate.adapters.django.task_backend.backend import ProcrastinateBackend

    backend = import_string(path)
    return isinstance(backend, type) and issubclass(backend, ProcrastinateBackend)
