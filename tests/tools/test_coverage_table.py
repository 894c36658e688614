"""The table of `make coverage`: the figures of each folder of the package, and where they stand."""

from __future__ import annotations

import datetime

from tests import coverage_table
from tests.coverage_table import by_room, markdown, replace_table


def summary(covered: int, of: int) -> dict[str, dict[str, int]]:
    """Of one file in coverage's report."""
    return {"summary": {"covered_lines": covered, "num_statements": of, "covered_branches": 0, "num_branches": 0}}


REPORT = {
    "files": {
        "procrastinate/core/fetch.py": summary(1, 2),
        "procrastinate/core/defer.py": summary(2, 2),
        "procrastinate/adapters/django/models.py": summary(5, 5),
        "procrastinate/app.py": summary(0, 1),
    }
}


def test_the_files_of_a_folder_are_added_up_and_all_come_last() -> None:
    covered = {room: (figures["covered_lines"], figures["num_statements"]) for room, figures in by_room(REPORT).items()}
    assert list(covered.items()) == [
        ("procrastinate", (0, 1)),
        ("procrastinate/adapters", (5, 5)),
        ("procrastinate/core", (3, 4)),
        ("all", (8, 10)),
    ]


def test_the_table_has_its_date_and_its_percentages() -> None:
    table = markdown(by_room(REPORT), datetime.date(2026, 11, 8), "3.11.7")
    assert "08 November 2026, Python 3.11.7" in table
    assert "| procrastinate/core | 75.0 % | none |" in table
    assert table.splitlines()[-1] == "| all | 80.0 % | none |"


def test_the_table_replaces_the_one_on_the_page_and_nothing_else() -> None:
    page = coverage_table.PAGE.read_text()
    first = replace_table(page, "a table")
    assert "\n\na table\n\n" in first
    assert replace_table(first, "another") == first.replace("a table", "another")
    assert first.partition(coverage_table.BEGIN)[0] == page.partition(coverage_table.BEGIN)[0]
