"""The limits of ``django.tasks``: of the entries of ``TASKS``, and of the tasks that are declared with one."""

from __future__ import annotations

from typing import Any

from procrastinate.adapters.django.task_backend import aliases, framework
from procrastinate.adapters.django.task_backend.backend import ProcrastinateBackend
from procrastinate.limits import Limit


def list_limits() -> list[Limit]:
    """Return the limits in the order of ``TASKS``, those of tasks last."""
    backends: list[Any] = [aliases.backend_of(alias) for alias in framework.task_backends]
    ours = [backend for backend in backends if isinstance(backend, ProcrastinateBackend)]
    of_backends = [backend.own_options.limit for backend in ours]
    return [limit for limit in of_backends if limit is not None] + list(ProcrastinateBackend.declared_limits.values())
