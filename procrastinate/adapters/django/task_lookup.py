"""Finds the tasks of ``django.tasks`` for a worker, where the project keeps any on this queue."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.conf import settings as django_settings
from django.utils.module_loading import import_string

from procrastinate.blueprints import Blueprint
from procrastinate.tasks import Task


class TaskLookup:
    """Takes tasks of ``django.tasks`` in when their first job comes, one for each backend that it was enqueued on.

    The backend is imported here, and not above: without the setting ``TASKS``, there may be no framework to import.
    """

    def __init__(self) -> None:
        self._setting: Any = None
        self._is_used = False
        self._found: dict[tuple[str, str], Task[Any, Any, Any]] = {}

    def find(self, name: str, arguments: Mapping[str, Any], blueprint: Blueprint) -> Task[Any, Any, Any] | None:
        """The task at that path, as a task of the app; ``None`` where there is none.

        What its module raises while it is imported becomes the task: see
        :func:`procrastinate.adapters.django.task_backend.execution.stand_in`.

        Parameters
        ----------
        arguments:
            Those of the job. They say on which backend it was enqueued.
        """
        self._read_setting()
        if not self._is_used:
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
            # SystemExit, too: a module that ends its program must not end the worker.
            return execution.stand_in(name, alias, error, blueprint)
        if task is not None:
            self._found[name, alias] = task
        return task

    def _read_setting(self) -> None:
        """Read ``TASKS``, once for each value. A test may override it: what was found belongs to the value before."""
        setting = getattr(django_settings, "TASKS", None) or {}
        if setting is not self._setting:
            self._is_used = _has_task_backend(setting)
            self._found.clear()
            self._setting = setting


def _has_task_backend(setting: Mapping[str, Any]) -> bool:
    """Whether the project keeps tasks of ``django.tasks`` here: then, and only then, a name is looked for as a path."""
    failure: ImportError | None = None
    for entry in setting.values():
        try:
            if _is_ours(entry.get("BACKEND", "")):
                return True
        except ImportError as error:  # of a package that this worker may do without
            failure = failure or error
    if failure is not None:
        raise failure
    return False


def _is_ours(path: str) -> bool:
    from procrastinate.adapters.django.task_backend.backend import ProcrastinateBackend

    backend = import_string(path)
    return isinstance(backend, type) and issubclass(backend, ProcrastinateBackend)
