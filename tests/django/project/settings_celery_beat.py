"""The project with the app of django-celery-beat, whose rows are a schedule."""

from __future__ import annotations

from tests.django.project.settings import *  # noqa: F403
from tests.django.project.settings import INSTALLED_APPS as _APPS

INSTALLED_APPS = [*_APPS, "django_celery_beat"]
