"""A project as users of 3.x have it. The same files run on both releases."""

import os
import urllib.parse

url = urllib.parse.urlsplit(os.environ["DSN"])
SECRET_KEY = "of a test"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = ["procrastinate.contrib.django", "orders"]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": url.path.lstrip("/"),
        "USER": url.username,
        "HOST": urllib.parse.parse_qs(url.query).get("host", [url.hostname or ""])[0],
        "PORT": str(url.port or ""),
    }
}
