"""``python -m tests.coverage_table``: what the tests run of the package, and the table of it in CONTRIBUTING.md.

The workers and programs that tests start are measured, too. Folders whose tests look at pages and tools are left out.
With arguments that name tests, these alone are run, and the table is printed and not written.
"""

from __future__ import annotations

import datetime
import json
import os
import pathlib
import platform
import subprocess
import sys
import tempfile
from collections import Counter

from tests.matrix import ROOT
from tests.share import PAGES, TEXTS

PAGE = ROOT / "CONTRIBUTING.md"
BEGIN = "<!-- table of coverage: written by `make coverage` -->"
END = "<!-- end of the table of coverage -->"
_FIGURES = ("covered_lines", "num_statements", "covered_branches", "num_branches")


def measure(arguments: list[str], folder: pathlib.Path) -> tuple[int, dict[str, Counter[str]]]:
    """Run the tests; return pytest's exit status, and the figures of each room of the package.

    Parameters
    ----------
    arguments:
        Of pytest.
    folder:
        Where the data of all processes are collected.
    """
    variables = {**os.environ, "COVERAGE_FILE": str(folder / ".coverage")}

    def coverage(*command: str) -> int:
        return subprocess.run(
            [sys.executable, "-m", "coverage", *command], cwd=ROOT, env=variables, check=False
        ).returncode

    status = coverage("run", "-m", "pytest", "-q", "--timeout=600", *arguments)
    report = folder / "coverage.json"
    for command in (["combine", "--quiet"], ["json", "--quiet", "-o", str(report)]):
        if coverage(*command):
            raise SystemExit(f"coverage {command[0]} failed")
    return status, by_room(json.loads(report.read_text()))


def by_room(report: dict[str, dict[str, dict[str, dict[str, int]]]]) -> dict[str, Counter[str]]:
    """Return the sums of the figures of coverage's report: of each folder in the package, of its modules, of all."""
    rooms: dict[str, Counter[str]] = {}
    for file, measured in report["files"].items():
        folders = pathlib.PurePath(file).parts[:-1]
        figures = Counter({name: measured["summary"][name] for name in _FIGURES})
        for room in ("/".join(folders[:2]), "all"):
            rooms[room] = rooms.get(room, Counter()) + figures
    return dict(sorted(rooms.items(), key=lambda room: (room[0] == "all", room[0])))


def markdown(rooms: dict[str, Counter[str]], today: datetime.date, python: str) -> str:
    """Return the table, with its date."""
    lines = [f"Measured on {today:%d %B %Y}, Python {python}:", "", "| folder | lines | branches |", "|---|---|---|"]
    for room, figures in rooms.items():
        statements = _percent(figures["covered_lines"], figures["num_statements"])
        lines.append(f"| {room} | {statements} | {_percent(figures['covered_branches'], figures['num_branches'])} |")
    return "\n".join(lines)


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "none"


def replace_table(text: str, table: str) -> str:
    """Return a page with the table between its marks."""
    before, _, rest = text.partition(BEGIN)
    _, found, after = rest.partition(END)
    assert found, "The page has no place for the table"
    return f"{before}{BEGIN}\n\n{table}\n\n{END}{after}"


def main(arguments: list[str]) -> int:
    """Measure, and return pytest's exit status."""
    names_tests = any("tests" in argument for argument in arguments)
    left_out = [] if names_tests else [f"--ignore=tests/{folder}" for folder in (*PAGES, *TEXTS)]
    with tempfile.TemporaryDirectory(prefix="coverage-") as name:
        status, rooms = measure([*arguments, *left_out], pathlib.Path(name))
    table = markdown(rooms, datetime.date.today(), platform.python_version())
    print(table)
    if status == 0 and not names_tests:
        PAGE.write_text(replace_table(PAGE.read_text(), table))
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
