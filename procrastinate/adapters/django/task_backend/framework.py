"""The Tasks framework: ``django.tasks`` from Django 6.0 on, the package ``django-tasks`` for earlier versions."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

import django
from django.core.exceptions import ImproperlyConfigured

NAME = "django.tasks" if django.VERSION >= (6, 0) else "django_tasks"


def _module(name: str = "") -> Any:
    return importlib.import_module(NAME + name)


if importlib.util.find_spec(NAME) is None:
    raise ImproperlyConfigured(
        f"Django {django.get_version()} has no Tasks framework: install the package django-tasks or a newer Django"
    )

_base, _exceptions, _signals = _module(".base"), _module(".exceptions"), _module(".signals")

task_backends: Any = _module().task_backends

BaseTaskBackend: Any = _module(".backends.base").BaseTaskBackend
Task: Any = _base.Task
TaskContext: Any = _base.TaskContext
TaskError: Any = _base.TaskError
TaskResult: Any = _base.TaskResult
TaskResultStatus: Any = _base.TaskResultStatus
InvalidTask: type[Exception] = getattr(_exceptions, "InvalidTask", None) or _exceptions.InvalidTaskError
InvalidTaskBackend: type[Exception] = (
    getattr(_exceptions, "InvalidTaskBackend", None) or _exceptions.InvalidTaskBackendError
)
TaskResultDoesNotExist: type[Exception] = _exceptions.TaskResultDoesNotExist
task_enqueued: Any = _signals.task_enqueued
task_started: Any = _signals.task_started
task_finished: Any = _signals.task_finished
normalize_json: Any = _base.normalize_json
