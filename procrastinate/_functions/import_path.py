"""Dotted paths: imports of modules and objects, and paths of functions."""

from __future__ import annotations

import importlib
import pathlib
import sys
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any, TypeVar

from procrastinate import exceptions
from procrastinate._text.logs import get_logger

T = TypeVar("T")

logger = get_logger("procrastinate.utils")  # the name of 3.x

_MAIN = ("__main__", "__mp_main__")
"""The names of the main module. In a process that multiprocessing has spawned, it runs again under the second one."""


def import_all(import_paths: Iterable[str], *, why: Callable[[str], str]) -> None:
    """Import modules that declare tasks. An exception from a module gets a note and is raised again.

    Parameters
    ----------
    why:
        Function from a path to the text of the note: the reason for the import, and how to leave the module out.

    Raises
    ------
    LoadFromPathError
        The import of a module ends the program with ``SystemExit``.
    """
    for path in import_paths:
        logger.debug("Importing %s", path, extra={"action": "import_module", "module_name": path})
        try:
            _import_module(path)
        except BaseException as error:
            error.add_note(f"{path} is imported for its tasks. {why(path)}")
            raise


def _import_module(path: str) -> ModuleType:
    """Import a module. Report ``SystemExit`` from a script without a main guard, instead of ending silently."""
    try:
        return importlib.import_module(path)
    except SystemExit as error:
        raise exceptions.LoadFromPathError(
            f"Cannot import {path!r}: it ends the program (SystemExit: {error}). Put code for scripts under "
            "if __name__ == '__main__'"
        ) from error


def load_from_path(path: str, allowed_type: type[T]) -> T:
    """Import and return the object at a dotted path.

    Raises
    ------
    LoadFromPathError
        The object does not exist, cannot be imported, or has another type.
    """
    module_path, _, name = path.rpartition(".")
    if not module_path:
        raise exceptions.LoadFromPathError(
            f"{path!r} is not a dotted path: write it as package.module.name, without a colon"
        )
    try:
        module = _import_module(module_path)
    except exceptions.LoadFromPathError:
        raise
    except Exception as error:
        what = str(error) if isinstance(error, ImportError) else f"{type(error).__name__}: {error}"
        raise exceptions.LoadFromPathError(f"Cannot import {module_path!r} of {path!r}: {what}") from error
    try:
        loaded = getattr(module, name)
    except AttributeError as error:
        raise exceptions.LoadFromPathError(f"Module {module_path!r} has no {name!r}") from error
    if not isinstance(loaded, allowed_type):
        raise exceptions.LoadFromPathError(f"{path!r} is of type {type(loaded).__name__}, not {allowed_type.__name__}")
    return loaded


def get_full_path(function: Callable[..., Any]) -> str:
    """Return ``module.function``. For the main module, use the name under which others would import it.

    Raises
    ------
    FunctionPathError
        The object has no name, like a partial. The task needs ``name=``.
    """
    name = getattr(function, "__name__", None)
    module = getattr(function, "__module__", None)
    if not name or not module:
        raise exceptions.FunctionPathError(f"{function!r} has no dotted path: give the task a name=")
    return f"{importable_name(module)}.{name}"


def importable_name(module: str) -> str:
    if module not in _MAIN:
        return module
    main = sys.modules.get(module)
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return str(spec.name)
    file = getattr(main, "__file__", None)
    if file is None:
        return module
    relative = _relative_to_working_directory(pathlib.Path(file))
    return ".".join(relative.with_suffix("").parts)


def _relative_to_working_directory(file: pathlib.Path) -> pathlib.Path:
    try:
        return file.resolve().relative_to(pathlib.Path.cwd())
    except (ValueError, FileNotFoundError):  # it is elsewhere, or the working directory is removed
        return pathlib.Path(file.name)
