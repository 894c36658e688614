"""The Django application, as projects install it: ``"procrastinate.contrib.django"`` in ``INSTALLED_APPS``."""

from __future__ import annotations

import pathlib

from procrastinate.adapters.django import apps


class ProcrastinateConfig(apps.ProcrastinateConfig):
    """The app under its installed name. Templates and static files are those of the adapter.

    Django finds modules by the name, and files by the path: the admin, the models, the migrations and the command have
    a module each in this package that hands on the adapter's.
    """

    name = "procrastinate.contrib.django"
    path = str(pathlib.Path(apps.__file__).parent)
