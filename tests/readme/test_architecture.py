"""The map of ARCHITECTURE.md: whatever it names is there, and whatever is there has a place in it."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Iterator

ROOT = pathlib.Path(__file__).parents[2]
AS_A_WHOLE = ("contrib", "versions", "migrations", "management")
"""Folders of the package that the map describes without their files."""
_NAME = re.compile(r"(?<![\w/.])(?:\w+/|\w+\.py)(?![\w/])")


def lines_of_map() -> list[str]:
    """The first block of the page."""
    _, _, rest = (ROOT / "ARCHITECTURE.md").read_text().partition("## The map\n\n```\n")
    return rest.partition("```\n")[0].splitlines()


def named() -> Iterator[pathlib.Path]:
    """What the map names: files and folders, in the folder whose line is above theirs, or begins theirs."""
    folders = {-1: ROOT}
    for line in lines_of_map():
        indent = len(line) - len(line.lstrip())
        folders = {place: folder for place, folder in folders.items() if place < indent}
        base = inner = folders[max(folders)]
        for name in _NAME.findall(line):
            path = next((path for path in (inner / name, base / name) if path.exists()), base / name)
            if name.endswith("/") and inner is base:
                inner = folders[indent] = path
            yield path


def is_to_be_named(path: pathlib.Path) -> bool:
    """Whether it is a module that is no mere sign of a package, and in no folder that is described as a whole."""
    return path.name != "__init__.py" and not any(folder in path.parts for folder in AS_A_WHOLE)


def test_whatever_the_map_names_is_there() -> None:
    assert len(list(named())) > 150
    assert [str(path.relative_to(ROOT)) for path in named() if not path.exists()] == []


def test_every_module_has_a_place_in_the_map() -> None:
    modules = [*(ROOT / "procrastinate").rglob("*.py"), *(ROOT / "benchmarks").glob("*.py")]
    assert [str(path.relative_to(ROOT)) for path in {*filter(is_to_be_named, modules)} - {*named()}] == []


def test_every_folder_of_tests_and_examples_has_a_place_in_the_map() -> None:
    folders = [path.parent for place in ("tests", "examples") for path in (ROOT / place).glob("*/*.py")]
    assert [str(path.relative_to(ROOT)) for path in {*folders} - {*named()}] == []
