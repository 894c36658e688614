"""``make test-faults``: all faults at full size, one after the other; the table on the screen and in the docs.

The results are in ``artifacts/faults.json``, one line for each row. Arguments go to pytest (``-k frozen``, say): what
they choose is tried again, and the other rows stay as they were. The docs are written where no row is missing.
"""

from __future__ import annotations

import os
import pathlib
import sys

import pytest

from tests.faults.size import FULL_VARIABLE, RESULTS_VARIABLE
from tests.faults.verdict import Row, markdown, missing_rows, read_rows, replace_table

_HERE = pathlib.Path(__file__).parent
_ROOT = _HERE.parents[1]
_RESULTS = _ROOT / "artifacts" / "faults.json"
_DOCUMENT = _ROOT / "docs" / "reliability.md"
_LONGEST_TEST = 2400
"""Seconds."""


def main(arguments: list[str]) -> int:
    """Run, show, write; the exit code is pytest's."""
    _RESULTS.parent.mkdir(exist_ok=True)
    if not arguments or not _RESULTS.exists():
        _RESULTS.write_text("")
    os.environ |= {FULL_VARIABLE: "1", RESULTS_VARIABLE: str(_RESULTS)}
    code = int(pytest.main([str(_HERE), f"--timeout={_LONGEST_TEST}", "-v", *arguments]))
    rows = read_rows(_RESULTS)
    print(f"\n{markdown(rows)}\n\n{_RESULTS}")
    return code or _write_document(rows, is_whole=not arguments)


def _write_document(rows: list[Row], *, is_whole: bool) -> int:
    """Only rows of tests that passed are here; a partial run may lack some of those that the table has."""
    text = _DOCUMENT.read_text()
    missing = set() if is_whole else missing_rows(text, rows)
    if missing:
        print(f"{_DOCUMENT} stays as it was: no result is kept for {sorted(missing)}")
        return 1
    _DOCUMENT.write_text(replace_table(text, markdown(rows)))
    print(_DOCUMENT)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
