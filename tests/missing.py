"""What a machine may lack: the tests that need it are skipped there, and fail where it is required (``.ci/run``).

Tests look for programs and files that a machine may lack only here, so that ``python -m tests.bare`` can hide them.
"""

from __future__ import annotations

import glob
import os
import pathlib
import shutil
from typing import NoReturn

import pytest

BARE = "PROCRASTINATE_TESTS_BARE"
"""The variable that hides everything that a machine may lack. It names a file: what was missed is written there."""


def is_bare() -> bool:
    """Whether this machine counts as one with git, make and Python only."""
    return BARE in os.environ


def find_program(name: str, *, further: str = "") -> str | None:
    """Where a program is that a machine may lack; ``None`` where it is not.

    Parameters
    ----------
    further:
        A folder that is not on the path of every user.
    """
    if is_bare():
        return None
    return shutil.which(name, path=os.pathsep.join(filter(None, (os.environ.get("PATH", ""), further))))


def find_file(pattern: str) -> str | None:
    """The first file that a pattern finds; ``None`` where there is none."""
    return None if is_bare() else next(iter(sorted(glob.glob(pattern))), None)


def missing(message: str, required_by: str) -> NoReturn:
    """Skip the test, unless it must not be skipped.

    Parameters
    ----------
    message:
        What is not here, and how to get it.
    required_by:
        The environment variable that says that it must be here.
    """
    if os.environ.get(required_by):
        pytest.fail(f"{message}; {required_by} is set")
    if is_bare():
        with pathlib.Path(os.environ[BARE]).open("a") as missed:
            missed.write(f"{required_by}\n")
    pytest.skip(message)
