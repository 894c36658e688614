"""Django settings under which the reference is read: no database is connected to."""

from __future__ import annotations

SECRET_KEY = "documentation"
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "procrastinate.contrib.django"]
DATABASES = {"default": {"ENGINE": "django.db.backends.postgresql", "NAME": "none"}}
PROCRASTINATE_AUTODISCOVER_MODULE_NAME = None
USE_TZ = True
