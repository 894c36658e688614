"""The app that a test means without saying so."""

from __future__ import annotations

import os
import sys

from procrastinate.app import App

DJANGO_APP = "procrastinate.contrib.django.app"


def find_app(app: App | str | None) -> App:
    """An app, by itself or by its dotted path; in a Django project, ``None`` for the project's.

    Raises
    ------
    LoadFromPathError
        There is none at that path.
    ValueError
        No app is given, and there is no Django project.
    """
    if isinstance(app, App):
        return app
    if app is None and not has_django_project():
        raise ValueError("Which app? Give it, or its dotted path: only a Django project has one of its own")
    return App.from_path(app or DJANGO_APP)


def has_django_project() -> bool:
    """Whether this process is one of a Django project."""
    return "django" in sys.modules and (
        "procrastinate.adapters.django.apps" in sys.modules or "DJANGO_SETTINGS_MODULE" in os.environ
    )
