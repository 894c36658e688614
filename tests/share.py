"""Which tests a second Python runs: all that depend on the interpreter, a share of those that depend on SQL.

``PROCRASTINATE_TESTS_SHARE=8`` runs one in eight of the cases in :data:`SQL`, other ones for each number in
``PROCRASTINATE_TESTS_ROUND``, and leaves out :data:`ELSEWHERE`. Without it, everything is run. ``make test-matrix``
runs all of :data:`SQL` on every supported Python.
"""

from __future__ import annotations

import os
import pathlib
import zlib

import pytest

ROOT = pathlib.Path(__file__).parents[1]
SHARE_VARIABLE = "PROCRASTINATE_TESTS_SHARE"
ROUND_VARIABLE = "PROCRASTINATE_TESTS_ROUND"
SQL = ("conformance", "core", "interleavings", "properties", "schema", "security")
"""Folders whose tests send statements and look at tables: PostgreSQL gives the same answers to every Python."""
ELSEWHERE = ("benchmarks", "browser", "documentation", "prose", "readme", "typing")
"""Folders whose tests look at pages, programs and tools: what they find does not depend on the interpreter."""


def select(items: list[pytest.Item]) -> tuple[list[pytest.Item], list[pytest.Item]]:
    """Return the tests to run in this process, and those to leave out, as the environment says."""
    share = int(os.environ.get(SHARE_VARIABLE, "1"))
    turn = int(os.environ.get(ROUND_VARIABLE, "0"))
    chosen = {item: share == 1 or is_chosen(*_folder_and_case(item), share, turn) for item in items}
    return [item for item in items if chosen[item]], [item for item in items if not chosen[item]]


def is_chosen(folder: str, case: str, share: int, turn: int) -> bool:
    """Return whether a case is run in this turn.

    Parameters
    ----------
    folder:
        Below ``tests/``.
    case:
        Its name. Cases of one name are run together.
    share:
        One in that many cases of :data:`SQL` is run.
    turn:
        Any number; after ``share`` turns, every case has been run.
    """
    if folder in SQL:
        return zlib.crc32(case.encode()) % share == turn % share
    return folder not in ELSEWHERE


def _folder_and_case(item: pytest.Item) -> tuple[str, str]:
    """A file's tests on one kind of connection are a case, for they share a database and a connection."""
    path = item.path.relative_to(ROOT)
    parameters = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
    kind = getattr(parameters.get("kind"), "name", None)
    return path.parts[1], f"{path}[{kind}]" if kind else item.nodeid
