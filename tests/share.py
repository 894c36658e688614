"""Which tests a second Python runs: all that depend on the interpreter, a share of the others.

``PROCRASTINATE_TESTS_SHARED=1`` runs one case in :data:`SHARES` of a folder, other ones for each number in
``PROCRASTINATE_TESTS_ROUND``, and leaves out :data:`ELSEWHERE`. Every other folder is run whole: workers, connections,
Django, faults, and pieces without a database. Without the variable, everything is run. ``make test-matrix`` runs all of
:data:`SQL` on every supported Python.
"""

from __future__ import annotations

import os
import pathlib
import zlib

import pytest

ROOT = pathlib.Path(__file__).parents[1]
SHARED_VARIABLE = "PROCRASTINATE_TESTS_SHARED"
ROUND_VARIABLE = "PROCRASTINATE_TESTS_ROUND"
SQL = ("conformance", "core", "interleavings", "properties", "schema", "security")
"""Folders whose tests send statements and look at tables: PostgreSQL gives the same answers to every Python."""
PROGRAMS = ("cli", "examples", "regressions", "surface", "testing")
"""Folders whose tests start programs, one after the other; what they run is tested whole in other folders, too."""
ELSEWHERE = ("benchmarks", "browser", "documentation", "prose", "readme", "typing")
"""Folders whose tests look at pages, programs and tools: what they find does not depend on the interpreter."""
SHARES = {**dict.fromkeys(SQL, 8), **dict.fromkeys(PROGRAMS, 2)}
"""One case in that many is run."""


def select(items: list[pytest.Item]) -> tuple[list[pytest.Item], list[pytest.Item]]:
    """Return the tests to run in this process, and those to leave out, as the environment says."""
    if not os.environ.get(SHARED_VARIABLE):
        return items, []
    turn = int(os.environ.get(ROUND_VARIABLE, "0"))
    chosen = {item: is_chosen(*_folder_and_case(item), turn) for item in items}
    return [item for item in items if chosen[item]], [item for item in items if not chosen[item]]


def is_chosen(folder: str, case: str, turn: int) -> bool:
    """Return whether a case is run in this turn.

    Parameters
    ----------
    folder:
        Below ``tests/``.
    case:
        Its name. Cases of one name are run together.
    turn:
        Any number. After as many turns as the folder has shares, every case has been run.
    """
    if share := SHARES.get(folder):
        return zlib.crc32(case.encode()) % share == turn % share
    return folder not in ELSEWHERE


def _folder_and_case(item: pytest.Item) -> tuple[str, str]:
    """A file's tests on one kind of connection are a case, for they share a database and a connection."""
    path = item.path.relative_to(ROOT)
    parameters = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
    kind = getattr(parameters.get("kind"), "name", None)
    return path.parts[1], f"{path}[{kind}]" if kind else item.nodeid
