"""A small Django project, whose tests show how jobs are tested. ``TEST_DATABASE_URL`` says where the server is."""

import os

import sqlalchemy as sa

_SERVER = sa.make_url(os.environ["TEST_DATABASE_URL"])

SECRET_KEY = "sample"
USE_TZ = True
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "sample.urls"
STATIC_URL = "static/"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = ["procrastinate.contrib.django", "shop"]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": _SERVER.database,
        "USER": _SERVER.username,
        "HOST": _SERVER.query.get("host", _SERVER.host),
        "PORT": _SERVER.query.get("port", _SERVER.port) or "",
    }
}
