"""Finds the revisions as files, which Alembic needs. The package may lie in an archive, or have no sources."""

from __future__ import annotations

import atexit
import functools
import pathlib
import pkgutil
import re
import shutil
import tempfile

from procrastinate.alembic.settings import SCRIPT_LOCATION, VERSIONS_LOCATION

_REVISION = """from {module} import *
from {module} import __doc__
"""
_ENV = """import importlib.util

spec = importlib.util.find_spec("procrastinate.alembic.env")
exec(spec.loader.get_code(spec.name))
"""
"""Runs the code each time, as Alembic runs a file. An import would run it once."""


def revision_modules() -> list[str]:
    """Return the names of the modules of the revisions, oldest first.

    The import system lists them in an archive and in a frozen program, too.
    """
    names = [module.name for module in pkgutil.iter_modules([str(VERSIONS_LOCATION)])]
    return sorted(name for name in names if re.match(r"p\d{4}_", name))


@functools.cache
def script_location() -> pathlib.Path:
    """Return the folder of the revisions.

    If there are no sources, it is a folder with files that import the revisions. This process deletes it at its end.
    """
    if (SCRIPT_LOCATION / "env.py").is_file():
        return SCRIPT_LOCATION
    folder = pathlib.Path(tempfile.mkdtemp(prefix="procrastinate-revisions-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    versions = folder / VERSIONS_LOCATION.name
    versions.mkdir()
    for name in revision_modules():
        (versions / f"{name}.py").write_text(_REVISION.format(module=f"procrastinate.alembic.versions.{name}"))
    (folder / "env.py").write_text(_ENV)
    return folder
