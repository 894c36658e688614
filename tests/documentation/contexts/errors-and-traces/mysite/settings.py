import os
import sys

import sqlalchemy as sa

sys.path.append("stand_ins")

_url = sa.make_url(os.environ["DATABASE_URL"])
SECRET_KEY = "of a test"
USE_TZ = True
ROOT_URLCONF = "mysite.urls"
ALLOWED_HOSTS = ["localhost"]
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "procrastinate.contrib.django", "shop"]
MIDDLEWARE: list[str] = []
PROCRASTINATE_WORKER_DEFAULTS = {"name": "of the settings"}
DATABASES = {"default": {"ENGINE": "django.db.backends.postgresql", "NAME": _url.database}}
