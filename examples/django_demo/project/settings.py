"""The shop's settings: an ordinary Django project with one extra line in INSTALLED_APPS."""

from __future__ import annotations

import os

SECRET_KEY = "for the demo only"
DEBUG = True
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "project.urls"
USE_TZ = True
TIME_ZONE = "UTC"
STATIC_URL = "static/"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "procrastinate.contrib.django",
    "shop",
]

MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": os.environ.get("SHOP_DATABASE", "shop"),
        "USER": os.environ.get("SHOP_DATABASE_USER", "postgres"),
        "HOST": os.environ.get("SHOP_DATABASE_HOST", "localhost"),
    }
}

PROCRASTINATE = {"WORKER_DEFAULTS": {"concurrency": 10}}
if "SHOP_WORKER" in os.environ:  # the demo kills a worker, and does not wait half a minute
    PROCRASTINATE["WORKER_DEFAULTS"] |= {"update_heartbeat_interval": 0.5, "stalled_worker_timeout": 2.0}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    # Jobs that fail on purpose would fill the terminal with tracebacks.
    "loggers": {
        "procrastinate": {"handlers": ["console"], "level": os.environ.get("SHOP_LOG_LEVEL", "INFO")},
        "django.request": {"handlers": ["console"], "level": "CRITICAL", "propagate": False},
    },
}
