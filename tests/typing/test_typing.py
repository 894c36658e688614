"""``task.defer(...)`` is checked against the task's own parameters, by mypy (strict) and by pyright (strict).

``programs/right.py`` must pass; in ``programs/wrong.py``, the lines that end in ``# wrong: ...`` must be refused, and
no others.
"""

from __future__ import annotations

import json
import os
import pathlib
import re
import subprocess
import sys

from tests.missing import find_program, missing

PROGRAMS = pathlib.Path(__file__).parent / "programs"
ROOT = PROGRAMS.parent.parent.parent
MARK = "# wrong: "
_REQUIRED = "PROCRASTINATE_REQUIRE_PYRIGHT"
_MYPY_ERROR = re.compile(r"^(?P<file>.+?):(?P<line>\d+): error: (?P<text>.+)$", re.MULTILINE)

Errors = dict[tuple[str, int], str]
"""What a checker says, by file and line."""


def marked_lines() -> set[tuple[str, int]]:
    """The lines that a checker must refuse."""
    return {
        (program.name, number)
        for program in PROGRAMS.glob("*.py")
        for number, line in enumerate(program.read_text().splitlines(), start=1)
        if MARK in line
    }


def mypy_errors() -> Errors:
    """What mypy says in strict mode, as in a user's project: without this project's configuration."""
    arguments = ["--strict", "--config-file=", "--no-error-summary", "--hide-error-context", str(PROGRAMS)]
    finished = subprocess.run(
        [sys.executable, "-m", "mypy", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert not finished.stderr, finished.stderr
    found = _MYPY_ERROR.finditer(finished.stdout)
    return {(pathlib.Path(match["file"]).name, int(match["line"])): match["text"] for match in found}


def pyright_errors(tmp_path: pathlib.Path) -> Errors:
    """What pyright says in strict mode."""
    project = tmp_path / "pyrightconfig.json"
    project.write_text(
        json.dumps(
            {
                "include": [os.path.relpath(PROGRAMS, tmp_path)],
                "extraPaths": [str(ROOT)],
                "typeCheckingMode": "strict",
            }
        )
    )
    finished = subprocess.run(
        [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, "--project", str(project)],
        capture_output=True,
        text=True,
        check=False,
    )
    return {
        (pathlib.Path(one["file"]).name, one["range"]["start"]["line"] + 1): one["message"]
        for one in json.loads(finished.stdout)["generalDiagnostics"]
    }


def test_there_is_something_to_refuse() -> None:
    assert len(marked_lines()) > 20


def test_mypy_refuses_what_is_wrong_and_nothing_else() -> None:
    errors = mypy_errors()
    assert errors.keys() == marked_lines(), errors


def test_pyright_refuses_what_is_wrong_and_nothing_else(tmp_path: pathlib.Path) -> None:
    if find_program("node") is None:
        missing("pyright runs on node, which is not installed", _REQUIRED)
    errors = pyright_errors(tmp_path)
    assert errors.keys() == marked_lines(), errors
