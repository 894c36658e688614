"""The modules that a stored task name may import. Any role that may insert a job chooses the name."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec, PathFinder

from django.apps import apps
from django.conf import settings

_PROGRAMS = ("__main__", "management", "migrations")
"""Parts of a module path that name a program, or modules that Django runs itself."""


def is_within_reach(module_path: str) -> bool:
    """Return True if a job may import the module: it is loaded already or belongs to the project.

    The project consists of the packages of installed apps and the package of the settings module. All other modules on
    the path are out of reach, because importing a module runs it.
    """
    if module_path in sys.modules:
        return True
    if any(part in _PROGRAMS for part in module_path.split(".")):
        return False
    return any(f"{module_path}.".startswith(f"{package}.") for package in _packages())


def exists(module_path: str) -> bool:
    """Return True if there is a module at the path. Neither it nor its packages are imported."""
    return module_path in sys.modules or _find_spec(module_path) is not None


def _find_spec(module_path: str) -> ModuleSpec | None:
    package = module_path.rpartition(".")[0]
    folders = _folders(package) if package else sys.path
    return None if folders is None else PathFinder.find_spec(module_path, folders)


def _folders(package: str) -> Sequence[str] | None:
    """Return the folders with the modules of a package, or ``None`` for a module that is no package."""
    if package in sys.modules:
        folders: Sequence[str] | None = getattr(sys.modules[package], "__path__", None)
        return folders
    spec = _find_spec(package)
    return None if spec is None else spec.submodule_search_locations


def _packages() -> Iterator[str]:
    for config in apps.get_app_configs():
        yield config.module.__name__ if config.module is not None else config.name
    settings_module = getattr(settings, "SETTINGS_MODULE", None) or ""
    package, _, _ = settings_module.rpartition(".")
    if package:
        yield package
