"""MAP.md names exactly the existing modules and folders. ARCHITECTURE.md names the packages, and its list of imports is
the one that a linter checks.
"""

from __future__ import annotations

import itertools
import pathlib
import re
import tomllib
from collections.abc import Iterator

from procrastinate.alembic.revisions import known_revisions
from procrastinate.alembic.upgrades import upgrade_sql

ROOT = pathlib.Path(__file__).parents[2]
AS_A_WHOLE = ("contrib", "versions", "migrations", "management")
"""Folders of the package that the map describes as a whole."""
_NAME = re.compile(r"(?<![\w/.])(?:\w+/|\w+\.py)(?![\w/])")


def first_block_of(page: str, section: str) -> str:
    """Return the first code block below a heading."""
    _, found, rest = (ROOT / page).read_text().partition(f"## {section}\n")
    assert found
    return rest.split("```\n")[1]


def named(page: str = "MAP.md", section: str = "The files") -> Iterator[pathlib.Path]:
    """Yield the files and folders that a map names, each in the folder of a line above or at the start of its line."""
    folders = {-1: ROOT}
    for line in first_block_of(page, section).splitlines():
        indent = len(line) - len(line.lstrip())
        folders = {place: folder for place, folder in folders.items() if place < indent}
        base = inner = folders[max(folders)]
        for name in _NAME.findall(line):
            path = next((path for path in (inner / name, base / name) if path.exists()), base / name)
            if name.endswith("/") and inner is base:
                inner = folders[indent] = path
            yield path


def must_be_named(path: pathlib.Path) -> bool:
    """Return whether the map must name a module: not an `__init__.py`, and not in a folder described as a whole."""
    return path.name != "__init__.py" and not any(folder in path.parts for folder in AS_A_WHOLE)


def test_whatever_the_map_names_is_there() -> None:
    assert len(list(named())) > 150
    assert [str(path.relative_to(ROOT)) for path in named() if not path.exists()] == []


def test_every_module_has_a_place_in_the_map() -> None:
    modules = [*(ROOT / "procrastinate").rglob("*.py"), *(ROOT / "benchmarks").glob("*.py")]
    assert [str(path.relative_to(ROOT)) for path in {*filter(must_be_named, modules)} - {*named()}] == []


def test_the_map_of_the_architecture_names_every_package() -> None:
    rooms = {*named("ARCHITECTURE.md", "The map")}
    assert [str(path.relative_to(ROOT)) for path in rooms if not path.exists()] == []
    package = ROOT / "procrastinate"
    packages = {init.parent for place in ("*", "*/*") for init in package.glob(f"{place}/__init__.py")}
    within = {path for path in packages if path.parent.name in ("contrib", "sql", "dashboard", "alembic")}
    assert [str(path.relative_to(ROOT)) for path in packages - within - rooms] == []


def test_every_folder_of_tests_and_examples_has_a_place_in_the_map() -> None:
    folders = [path.parent for place in ("tests", "examples") for path in (ROOT / place).glob("*/*.py")]
    assert [str(path.relative_to(ROOT)) for path in {*folders} - {*named()}] == []


def test_the_layers_of_the_architecture_are_those_that_are_checked() -> None:
    linter = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    (contract,) = [one for one in linter["contracts"] if one["name"] == "Arrows run one way"]
    checked = [set(layer.split(" | ")) for layer in contract["layers"]]
    drawn = [set(re.findall(r"\w+", layer)) for layer in first_block_of("ARCHITECTURE.md", "Imports").split("->")]
    assert len(drawn) == len(checked)
    for names, layer in zip(drawn, checked, strict=True):
        assert names <= layer


def test_the_list_of_triggers_names_the_revisions_of_each_function() -> None:
    table = (ROOT / "procrastinate" / "alembic" / "versions" / "TRIGGERS.md").read_text()
    listed = {
        name: numbers.split() for name, numbers in re.findall(r"^\| `(\w+)` \|.*\| ([\d ]+) \|$", table, re.MULTILINE)
    }
    written: dict[str, list[str]] = {}
    for before, revision in itertools.pairwise(["base", *known_revisions()]):
        functions = re.findall(r"CREATE (?:OR REPLACE )?FUNCTION (\w+)", upgrade_sql(before, revision))
        for name in {name for name in functions if not re.search(r"_v\d$", name)}:
            written.setdefault(name, []).append(revision.removeprefix("procrastinate_"))
    assert listed == written


_SKETCHED = ("0034-rooms-by-subject.md", "0030-reload-by-a-supervisor.md")
"""Decisions that name files of a sketch that was not built, or of a user's project."""


def test_the_files_that_a_decision_names_are_there() -> None:
    for page in sorted((ROOT / "docs" / "decisions").glob("0*.md")):
        names = re.findall(r"`(\w+(?:/\w+)*/\w+\.py)`", page.read_text())
        if page.name not in _SKETCHED:
            assert [
                name for name in names if not (ROOT / "procrastinate" / name).exists() and not (ROOT / name).exists()
            ] == [], page
