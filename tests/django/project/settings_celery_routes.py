"""The project with django-celery-beat and routes of Celery."""

from __future__ import annotations

from tests.django.project.settings_celery_beat import *  # noqa: F403

CELERY_TASK_ROUTES = {"shop.*": {"queue": "ticks"}}
