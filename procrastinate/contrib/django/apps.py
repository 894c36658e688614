"""The Django application under its installed name: ``"procrastinate.contrib.django"`` in ``INSTALLED_APPS``."""

from __future__ import annotations

import pathlib

from procrastinate.adapters.django import apps


class ProcrastinateConfig(apps.ProcrastinateConfig):
    """The application under its installed name. Its templates and static files are the adapter's.

    Django finds modules by name and files by path. This package therefore re-exports the adapter's admin, models,
    migrations and command.
    """

    name = "procrastinate.contrib.django"
    path = str(pathlib.Path(apps.__file__).parent)
