"""What the README says of versions is what was run."""

from __future__ import annotations

import re
import tomllib

import pytest

from tests import matrix

NAMES = ("postgresql", "python", "sqlalchemy", "django")
WRITTEN = {"postgresql": "PostgreSQL", "python": "Python", "sqlalchemy": "SQLAlchemy", "django": "Django"}


def number(version: str) -> tuple[int, ...]:
    """To be compared."""
    return tuple(int(part) for part in version.split("."))


def table_rows() -> list[list[str]]:
    """The cells of the table in the README, line by line."""
    _, _, rest = matrix.README.read_text().partition(matrix.BEGIN)
    table, found, _ = rest.partition(matrix.END)
    assert found
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.strip().splitlines()[2:]]


def test_each_cell_of_the_matrix_was_run_and_has_passed() -> None:
    rows = table_rows()
    assert len(rows) == len(matrix.CELLS)
    for row, cell in zip(rows, matrix.CELLS, strict=True):
        assert matrix.has_passed(row), row
        for version, name in zip(row, NAMES, strict=False):
            wanted = number(getattr(cell, name))
            assert number(version)[: len(wanted)] == wanted, row


@pytest.mark.parametrize("name", NAMES)
def test_the_ranges_end_where_the_matrix_does(name: str) -> None:
    """Neither more is promised than was run, nor less."""
    found = re.search(rf"{WRITTEN[name]} ([\d.]*\d) to ([\d.]*\d)", matrix.README.read_text())
    assert found is not None
    versions = sorted((getattr(cell, name) for cell in matrix.CELLS), key=number)
    assert found.groups() == (versions[0], versions[-1])


def test_the_classifiers_are_the_versions_of_the_matrix() -> None:
    """PyPI shows those."""
    classifiers = tomllib.loads((matrix.ROOT / "pyproject.toml").read_text())["project"]["classifiers"]
    for prefix, name in (("Programming Language :: Python :: ", "python"), ("Framework :: Django :: ", "django")):
        shown = {one.removeprefix(prefix) for one in classifiers if one.startswith(prefix)}
        assert shown == {getattr(cell, name) for cell in matrix.CELLS}


def test_the_lowest_versions_are_those_of_every_package_that_users_install() -> None:
    lowest = dict(one.split("==") for one in matrix.lowest_versions())
    project = tomllib.loads((matrix.ROOT / "pyproject.toml").read_text())["project"]
    assert {re.split(r"[\[>]", one)[0] for one in project["dependencies"]} < lowest.keys()
    assert {"django", "flask", "fastapi", "uvloop", "psycopg2-binary"} < lowest.keys()
    for name in ("sqlalchemy", "django"):
        assert number(lowest[name])[:2] == number(getattr(matrix.CELLS[0], name))
    assert [cell.has_lowest for cell in matrix.CELLS] == [True, False, False]


def test_a_table_is_put_between_the_markers() -> None:
    """And nothing else is touched."""
    row = ["18.4", "3.13.0", "2.1.9", "6.1.3", "2113 passed, 8 skipped"]
    text = f"before\n{matrix.BEGIN}\nold\n{matrix.END}\nafter\n"
    written = matrix.replace_table(text, matrix.markdown([row]))
    assert written.startswith(f"before\n{matrix.BEGIN}\n\n| PostgreSQL |")
    assert written.endswith(f"| 2113 passed, 8 skipped |\n\n{matrix.END}\nafter\n")


@pytest.mark.parametrize("outcome", ["1 failed, 2 passed", "2 passed, 1 error", "did not run", "not tried: no Python"])
def test_a_cell_that_did_not_pass_is_told_from_one_that_did(outcome: str) -> None:
    assert not matrix.has_passed(["14.1", "3.11.7", "2.0.1", "5.2", outcome])
