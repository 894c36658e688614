"""Which tests CI runs on which of its two Pythons: all that is cheap, a share of what is not.

``PROCRASTINATE_TESTS_SHARED`` is ``first`` or ``second``, the Python. Without it, everything is run: ``make test`` and
``make test-matrix`` know no shares. The number in ``PROCRASTINATE_TESTS_ROUND`` says which cases a share has. Each
commit has another number, so that commits in a row run all cases.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import zlib

import pytest

TESTS = pathlib.Path(__file__).parent
SHARED_VARIABLE = "PROCRASTINATE_TESTS_SHARED"
ROUND_VARIABLE = "PROCRASTINATE_TESTS_ROUND"


@dataclasses.dataclass(frozen=True)
class Share:
    """One case in that many is run: on the first Python, and on the second, which runs other cases than the first."""

    first: int
    second: int


ALL = Share(1, 1)
"""What depends on the interpreter, and takes little time: every file that is not named below."""
SQL = ("conformance", "core", "interleavings", "properties", "schema", "security")
"""Folders whose tests send statements and look at tables: PostgreSQL gives the same answers to every Python."""
CONNECTIONS = Share(24, 24)
"""Of `conformance`, a file on one kind of connection. :data:`ALWAYS` is run in each turn of the first Python."""
ALWAYS = ("sync-psycopg", "memory")
PROCESSES = ("worker", "django", "cli", "faults", "regressions", "surface", "testing")
"""Folders whose tests wait for workers, or start a program each, which costs a second of a processor for imports."""
PAGES = ("benchmarks", "browser", "documentation", "examples", "typing")
"""Folders whose tests look at pages, programs and benchmarks: what they find does not depend on the interpreter."""
TEXTS = ("prose", "readme")
"""The same, in no time."""
TOOLS = ("tools",)
"""Folders whose tests look at the tools of this repository. A few of their tests run tests of their own."""
OTHERS = ("moving", "from_celery")
"""Folders whose tests start several programs each, of other releases and projects, and brokers."""
SHARES = {
    **dict.fromkeys(SQL, Share(12, 24)),
    **dict.fromkeys((*PROCESSES, *OTHERS, "dashboard", "workflows", "standalone"), Share(24, 24)),
    **dict.fromkeys(PAGES, Share(24, 0)),
    **dict.fromkeys(TOOLS, Share(4, 0)),
    **dict.fromkeys(TEXTS, Share(1, 0)),
    "conformance": CONNECTIONS,
}
"""By folder below `tests/`."""
EACH_TIME = ("worker/test_running.py", "worker/test_isolation.py", "worker/test_stalled.py")
"""Files that the first Python runs whole, whatever their folder's share is."""
ADOPTION = "moving/test_django.py::test_migrate_upgrades_the_database_and_a_worker_goes_on"
"""A test that adopts tables of 3.x. The first Python runs it in each turn. The whole file takes longer."""


def select(items: list[pytest.Item]) -> tuple[list[pytest.Item], list[pytest.Item]]:
    """Return the tests to run in this process, and those to leave out, as the environment says."""
    python = os.environ.get(SHARED_VARIABLE)
    if not python:
        return items, []
    turn = int(os.environ.get(ROUND_VARIABLE, "0"))
    chosen = {item: is_chosen(python, *_file_and_case(item), turn) for item in items}
    return [item for item in items if chosen[item]], [item for item in items if not chosen[item]]


def is_chosen(python: str, file: str, case: str, turn: int) -> bool:
    """Return whether a case is run in this turn.

    Parameters
    ----------
    python:
        ``"first"`` or ``"second"``.
    file:
        Its path below ``tests/``.
    case:
        Its name. Cases of one name are run together.
    turn:
        Any number. After as many turns as the file has shares, every case has been run.
    """
    share = SHARES.get(file.partition("/")[0], ALL)
    if python == "first":
        is_always = file in EACH_TIME or case.endswith(ADOPTION) or case in {f"{file}[{kind}]" for kind in ALWAYS}
        return is_always or _has_turn(case, share.first, turn)
    if python == "second":
        return _has_turn(case, share.second, turn + 1)
    raise ValueError(f"{SHARED_VARIABLE} is {python!r}: say first or second")


def _has_turn(case: str, share: int, turn: int) -> bool:
    return share > 0 and zlib.crc32(case.encode()) % share == turn % share


def _file_and_case(item: pytest.Item) -> tuple[str, str]:
    """A file's tests on one kind of connection are a case, for they share a database and a connection."""
    path = item.path.relative_to(TESTS)
    parameters = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
    kind = getattr(parameters.get("kind"), "name", None)
    return path.as_posix(), f"{path}[{kind}]" if kind else item.nodeid
