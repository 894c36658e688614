"""The default app of a test."""

from __future__ import annotations

import os
import sys

from procrastinate.app import App

DJANGO_APP = "procrastinate.contrib.django.app"


def find_app(app: App | str | None) -> App:
    """Return an app, given as the app or its dotted path. ``None`` means the app of the Django project.

    Raises
    ------
    LoadFromPathError
        The path does not lead to an app.
    ValueError
        ``app`` is None and there is no Django project.
    """
    if isinstance(app, App):
        return app
    if app is None and not has_django_project():
        raise ValueError("Which app? Pass the app or its dotted path: only a Django project has a default app")
    return App.from_path(app or DJANGO_APP)


def has_django_project() -> bool:
    """Return true if this process belongs to a Django project."""
    return "django" in sys.modules and (
        "procrastinate.adapters.django.apps" in sys.modules or "DJANGO_SETTINGS_MODULE" in os.environ
    )
