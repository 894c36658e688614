"""The table of what proves limits names tests that exist, and commands run all of them at full size."""

from __future__ import annotations

import pathlib
import re

import pytest

TESTS = pathlib.Path(__file__).parents[1]
MAKEFILE = (TESTS.parent / "Makefile").read_text()
_LONG = re.compile(r"\bLONG\b|TESTS_LONG")
NUMBERS = [*map(str, range(1, 19)), "18b", "19"]


def _rows() -> dict[str, list[str]]:
    """Return the cells of each line, by its number."""
    lines = (TESTS / "limits.md").read_text().splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    return {row[0]: row[1:] for row in rows if row[0]}


ROWS = _rows()


def _named(number: str) -> list[tuple[str, str]]:
    """Return the files and tests that a line names."""
    return re.findall(r"`([\w/]+\.py)(?:::(\w+))?`", ROWS[number][1])


def _target(name: str) -> str:
    """Return the commands of a target of the Makefile."""
    found = re.search(rf"^{name}:.*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)
    assert found is not None
    return found[1]


def test_the_table_has_a_line_for_each_promise() -> None:
    assert [number.removesuffix("*") for number in ROWS] == NUMBERS


@pytest.mark.parametrize("number", ROWS)
def test_each_line_names_tests_that_exist(number: str) -> None:
    assert _named(number)
    for path, test in _named(number):
        assert not test or re.search(rf"def {test}\(", (TESTS / path).read_text()), (path, test)
        assert (TESTS / path).exists(), path


@pytest.mark.parametrize("number", ROWS)
def test_a_command_runs_each_test_that_has_a_full_size(number: str) -> None:
    commands = _target("test-faults" if number.endswith("*") else "test-limits")
    has_full_size = [
        path for path, _ in _named(number) if re.search(r"\bLONG\b|TESTS_LONG", (TESTS / path).read_text())
    ]
    assert [path for path in has_full_size if not _is_run(path, commands)] == []


def _is_run(path: str, commands: str) -> bool:
    return f"tests/{path}" in commands or re.search(rf"tests/{pathlib.Path(path).parent}(\s|$)", commands) is not None
