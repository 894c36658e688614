"""Commands that wait for the database say so."""

from __future__ import annotations

import pathlib
import re

import pytest

from procrastinate import cli

FOLDER = pathlib.Path(cli.__file__).parent
GO_ON = {
    "celery_bridge": "its bridge says so, each time that it stores jobs",
    "dashboard": "its pages say why they cannot be shown",
    "dev": "its worker says so",
    "metrics": "it answers each request, and logs each failure",
    "shell": "its one command says so, and on its prompt a person waits for each command",
    "top": "its screen says so, because records of the log would break it, and with --once the log does",
}


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.py")))
def test_each_command_that_opens_the_app_says_that_it_waits(name: str) -> None:
    lines = (FOLDER / f"{name}.py").read_text().splitlines()
    opening = [line.strip() for line in lines if re.search(r"\bapp\.open\(\)", line)]
    silent = [line for line in opening if "database_awaited(" not in line]
    assert bool(silent) == (name in GO_ON), silent
