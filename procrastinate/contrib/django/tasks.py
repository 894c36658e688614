"""The ``TASKS`` backend: ``{"default": {"BACKEND": "procrastinate.contrib.django.tasks.ProcrastinateBackend"}}``."""

from __future__ import annotations

from procrastinate.adapters.django.task_backend.backend import ProcrastinateBackend, ProcrastinateTask

__all__ = ["ProcrastinateBackend", "ProcrastinateTask"]
