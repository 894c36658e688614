"""The project's settings with SQLite as the default database and PostgreSQL for the queue."""

from __future__ import annotations

import os

from tests.django.project import settings
from tests.django.project.settings import *  # noqa: F403

DATABASES = {
    "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ["TEST_SQLITE_FILE"]},
    "queue": settings.DATABASES["default"],
}
PROCRASTINATE = {"DATABASE_ALIAS": "queue"}
DATABASE_ROUTERS = os.environ.get("TEST_ROUTERS", "").split()
