import os

import sqlalchemy as sa

_url = sa.make_url(os.environ["DATABASE_URL"])
SECRET_KEY = "of a test"
USE_TZ = True
ROOT_URLCONF = "mysite.urls"
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "procrastinate.contrib.django", "shop"]
MIDDLEWARE: list[str] = []
DATABASES = {"default": {"ENGINE": "django.db.backends.postgresql", "NAME": _url.database}}
