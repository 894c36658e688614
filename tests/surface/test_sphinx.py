"""The Sphinx extension: tasks are documented as the functions that they are."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import pytest

CONF = """
import sys
sys.path.insert(0, {folder!r})
project = "tasks"
extensions = ["sphinx.ext.autodoc", "procrastinate.contrib.sphinx"]
"""

TASKS = '''
import procrastinate
from procrastinate.testing import InMemoryConnector

app = procrastinate.App(connector=InMemoryConnector())


@app.task(queue="mail", pass_context=True)
async def send(context, to: str, text: str = "") -> None:
    """Send a mail."""


@app.periodic(cron="0 * * * *")
@app.task
def tidy(timestamp: int) -> None:
    """Tidy up."""


def helper() -> None:
    """Help."""
'''


@pytest.fixture
def built(tmp_path: pathlib.Path) -> str:
    """The text that Sphinx makes of a module with tasks."""
    pytest.importorskip("sphinx")
    (tmp_path / "conf.py").write_text(CONF.format(folder=str(tmp_path)))
    (tmp_path / "documented.py").write_text(TASKS)
    (tmp_path / "index.rst").write_text("Tasks\n=====\n\n.. automodule:: documented\n   :members:\n")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "-b", "text", str(tmp_path), str(tmp_path / "out")]
    finished = subprocess.run(command, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    return (tmp_path / "out" / "index.txt").read_text()


def test_a_module_is_documented_with_its_tasks(built: str) -> None:
    assert "documented.send(context, to: str, text: str = '') -> None" in built
    assert "Send a mail." in built
    assert "documented.tidy(timestamp: int) -> None" in built
    assert "documented.helper() -> None" in built
