"""The project while it moves from django-tasks-db: ``TEST_TASKS_BACKEND`` is the class that ``TASKS`` names."""

from __future__ import annotations

import os

from tests.django.project.settings import *  # noqa: F403
from tests.django.project.settings import INSTALLED_APPS as _APPS

BEFORE = "django_tasks_db.DatabaseBackend"
AFTER = "procrastinate.contrib.django.tasks.ProcrastinateBackend"

INSTALLED_APPS = [*_APPS, "django_tasks_db"]
TASKS = {
    "default": {"BACKEND": os.environ.get("TEST_TASKS_BACKEND", AFTER), "QUEUES": []},
    "kept": {"BACKEND": BEFORE, "QUEUES": []},
}
