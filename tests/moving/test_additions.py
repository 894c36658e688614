"""The options that 3.10 does not have are on the page that tells a project on its way back to remove them."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
import tempfile

from tests.moving.release import python_of_3x

ROOT = pathlib.Path(__file__).parents[2]
OPTIONS = """
import inspect, json, procrastinate
from procrastinate.app import App, WorkerOptions
from procrastinate.tasks import ConfigureTaskOptions

def of(function):
    return sorted(inspect.signature(function).parameters)

print(json.dumps({
    "App": of(App.__init__),
    "task": of(App.task),
    "periodic": of(App.periodic),
    "configure": sorted(ConfigureTaskOptions.__annotations__),
    "worker": sorted(WorkerOptions.__annotations__),
    "RetryStrategy": of(procrastinate.RetryStrategy),
}))
"""
"""Prints the options of a release. Both releases have these names."""


def options(python: pathlib.Path) -> set[tuple[str, str]]:
    """What takes options, with each of them, in the release of an interpreter."""
    printed = subprocess.run(
        [python, "-c", OPTIONS], cwd=tempfile.gettempdir(), capture_output=True, text=True, check=True
    ).stdout
    return {(taker, name) for taker, names in json.loads(printed).items() for name in names}


def test_the_page_names_each_option_that_3_10_does_not_have() -> None:
    page = (ROOT / "docs/differences-schema.md").read_text()
    section = page.partition("## What 3.10 does not have")[2]
    added = {name for taker, name in options(pathlib.Path(sys.executable)) - options(python_of_3x())} - {"kwargs"}
    assert len(added) > 20
    assert {name for name in added if f"`{name}`" not in section} == set()
