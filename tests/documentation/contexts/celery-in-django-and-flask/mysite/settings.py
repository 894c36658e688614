import os

import sqlalchemy as sa
from celery.schedules import crontab

_url = sa.make_url(os.environ["DATABASE_URL"])
SECRET_KEY = "of a test"
USE_TZ = True
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "shop"]
DATABASES = {"default": {"ENGINE": "django.db.backends.postgresql", "NAME": _url.database}}
CELERY_TIMEZONE = "Europe/Paris"
CELERY_BEAT_SCHEDULE = {
    "nightly-report": {"task": "shop.tasks.report", "schedule": crontab(hour=4, minute=30), "args": ["sales"]}
}
PROCRASTINATE_RUN_AT_DEFER = "RUN_AT_DEFER" in os.environ
