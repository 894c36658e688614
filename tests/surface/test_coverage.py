"""The table of what proves what names tests and headings that exist, and accounts for every line."""

from __future__ import annotations

import pathlib
import re

HERE = pathlib.Path(__file__).parent
TESTS = HERE.parent
DOCS = TESTS.parent / "docs"
DIFFERENCES = [DOCS / "differences.md", DOCS / "differences-schema.md"]


def _rows() -> list[list[str]]:
    lines = (HERE / "coverage.md").read_text().splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if line.startswith("| ")]
    return [row for row in cells if row != ["", ""] and len(row) == 2]


def _is_proof(path: str, test: str | None) -> bool:
    file = TESTS / path
    return file.exists() and (test is None or re.search(rf"def {test}\(", file.read_text()) is not None)


def test_every_row_names_proofs_that_exist() -> None:
    headings = {title for page in DIFFERENCES for title in re.findall(r"^## (.+)$", page.read_text(), re.MULTILINE)}
    rows = _rows()
    assert len(rows) > 100
    for subject, proof in rows:
        tests = re.findall(r"`([\w/]+\.py)(?:::(\w+))?`", proof)
        named = re.findall(r'"([^"]+)"', proof)
        assert tests or named, f"{subject}: nothing proves it"
        assert [test for test in tests if not _is_proof(test[0], test[1] or None)] == [], subject
        assert set(named) <= headings, subject
