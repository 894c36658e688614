"""What a machine may lack: the tests that need it are skipped there, and fail where it is required (``.ci/run``)."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


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
    pytest.skip(message)
