"""Which modules the name of a task in a row may lead to: each role that may insert a job chooses the name."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from django.apps import apps
from django.conf import settings

_PROGRAMS = ("__main__", "management", "migrations")
"""Parts of a module's path that name a program, or what Django runs itself."""


def is_within_reach(module_path: str) -> bool:
    """Return whether a job may have the module imported: it is loaded already, or belongs to the project.

    What belongs to the project is in the package of an installed app, or beside the module of settings. Any other
    module on the path stays out, since an import runs it.
    """
    if module_path in sys.modules:
        return True
    if any(part in _PROGRAMS for part in module_path.split(".")):
        return False
    return any(f"{module_path}.".startswith(f"{package}.") for package in _packages())


def _packages() -> Iterator[str]:
    for config in apps.get_app_configs():
        yield config.module.__name__ if config.module is not None else config.name
    settings_module = getattr(settings, "SETTINGS_MODULE", None) or ""
    package, _, _ = settings_module.rpartition(".")
    if package:
        yield package
