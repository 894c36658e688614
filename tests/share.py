"""Which tests a second Python runs: all that depend on the interpreter, a share of the others.

``PROCRASTINATE_TESTS_SHARED=1`` runs one case in :data:`SHARES` of a file or folder, other ones for each number in
``PROCRASTINATE_TESTS_ROUND``, and leaves out :data:`ELSEWHERE`. Every other file is run whole: workers, connections,
Django, faults, and pieces without a database. Without the variable, everything is run. ``make test-matrix`` runs all of
:data:`SQL` on every supported Python.
"""

from __future__ import annotations

import os
import pathlib
import zlib

import pytest

TESTS = pathlib.Path(__file__).parent
SHARED_VARIABLE = "PROCRASTINATE_TESTS_SHARED"
ROUND_VARIABLE = "PROCRASTINATE_TESTS_ROUND"
SQL = ("conformance", "core", "interleavings", "properties", "schema", "security")
"""Folders whose tests send statements and look at tables: PostgreSQL gives the same answers to every Python."""
PROGRAMS = (
    *("cli", "examples", "regressions", "surface", "testing"),
    *("django/test_app.py", "django/test_command.py", "django/test_databases.py", "django/test_migrations.py"),
)
"""Folders and files whose tests start a program each, which costs a second of a processor, mostly for imports."""
ELSEWHERE = ("benchmarks", "browser", "documentation", "prose", "readme", "typing")
"""Folders whose tests look at pages, programs and tools: what they find does not depend on the interpreter."""
WITH_OTHERS = ("moving", "examples/test_celery_app.py", "django/test_import_django_tasks.py")
"""Folders and files whose tests start several programs each, of other releases and projects, and brokers."""
SHARES = {**dict.fromkeys(SQL, 8), **dict.fromkeys(PROGRAMS, 2), **dict.fromkeys(WITH_OTHERS, 8)}
"""One case in that many is run."""


def select(items: list[pytest.Item]) -> tuple[list[pytest.Item], list[pytest.Item]]:
    """Return the tests to run in this process, and those to leave out, as the environment says."""
    if not os.environ.get(SHARED_VARIABLE):
        return items, []
    turn = int(os.environ.get(ROUND_VARIABLE, "0"))
    chosen = {item: is_chosen(*_file_and_case(item), turn) for item in items}
    return [item for item in items if chosen[item]], [item for item in items if not chosen[item]]


def is_chosen(file: str, case: str, turn: int) -> bool:
    """Return whether a case is run in this turn.

    Parameters
    ----------
    file:
        Its path below ``tests/``.
    case:
        Its name. Cases of one name are run together.
    turn:
        Any number. After as many turns as the file has shares, every case has been run.
    """
    folder = file.partition("/")[0]
    if share := SHARES.get(file) or SHARES.get(folder):
        return zlib.crc32(case.encode()) % share == turn % share
    return folder not in ELSEWHERE


def _file_and_case(item: pytest.Item) -> tuple[str, str]:
    """A file's tests on one kind of connection are a case, for they share a database and a connection."""
    path = item.path.relative_to(TESTS)
    parameters = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
    kind = getattr(parameters.get("kind"), "name", None)
    return path.as_posix(), f"{path}[{kind}]" if kind else item.nodeid
