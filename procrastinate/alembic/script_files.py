"""Finds the revisions as files, which Alembic needs. The package may lie in an archive on the path."""

from __future__ import annotations

import atexit
import functools
import importlib.resources
import pathlib
import shutil
import tempfile
from importlib.resources.abc import Traversable

from procrastinate.alembic.settings import SCRIPT_LOCATION


@functools.cache
def script_location() -> pathlib.Path:
    """Return the folder of the revisions. From an archive they are copied to a folder that this process deletes."""
    if SCRIPT_LOCATION.is_dir():
        return SCRIPT_LOCATION
    folder = pathlib.Path(tempfile.mkdtemp(prefix="procrastinate-revisions-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    package = importlib.resources.files("procrastinate.alembic")
    _copy(package, folder)
    (folder / "versions").mkdir()
    _copy(package / "versions", folder / "versions")
    return folder


def _copy(source: Traversable, folder: pathlib.Path) -> None:
    for file in source.iterdir():
        if file.name.endswith(".py"):
            (folder / file.name).write_bytes(file.read_bytes())
