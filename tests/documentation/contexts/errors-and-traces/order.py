"""Makes a request to the Django project, as a browser does."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mysite.settings")

from django.core.wsgi import get_wsgi_application

get_wsgi_application()

from django.test import Client  # noqa: E402

print(Client(headers={"Host": "localhost"}).get("/orders", headers={"X-Request-ID": "xyz"}).content)
