"""Modules, names and files that docstrings, comments and pages name are there."""

from __future__ import annotations

import ast
import functools
import io
import pathlib
import re
import tokenize
from collections.abc import Iterator

import pytest

ROOT = pathlib.Path(__file__).parents[2]
PACKAGE = ROOT / "procrastinate"
SOURCES = sorted(
    file
    for folder in (PACKAGE, ROOT / "pytest_procrastinate", ROOT / "benchmarks", ROOT / "tests")
    for file in folder.rglob("*.py")
)
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *PACKAGE.rglob("*.md")])
PACKAGES = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}

_ROLE = re.compile(r"[:{](?:attr|class|data|exc|func|meth|mod|obj)[:}]`[^`]*?(procrastinate(?:\.\w+)+)>?`")
_FILE = re.compile(r"(?<![\w./{}<>*~:-])((?:[\w-]+/)+[\w-]+\.(?:py|md))(?![\w/]|\.\w)")
_DOTTED = re.compile(r"(?<![\w./-])(?:procrastinate\.)?((?:core|_checks|_functions|_text)(?:\.[a-z_]\w*)+)(?![\w/])")
_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def find(path: str) -> tuple[pathlib.Path, list[str]]:
    """Return the module that a dotted path below the package leads to, and the names that are left of the path."""
    names = path.split(".")
    module = PACKAGE
    while names and (module / names[0]).is_dir():
        module /= names.pop(0)
    if names and (module / f"{names[0]}.py").exists():
        return module / f"{names.pop(0)}.py", names
    return module / "__init__.py", names


@functools.cache
def names_of(module: pathlib.Path) -> set[str]:
    """Return the names that a module defines or imports, at any depth."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(module.read_text())):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                names.add(node.name)
            case ast.Name(ctx=ast.Store()):
                names.add(node.id)
            case ast.Import() | ast.ImportFrom():
                names |= {alias.asname or alias.name for alias in node.names}
    return names


def leads_somewhere(path: str) -> bool:
    """Return whether a dotted path below the package leads to a module, or to a name in one."""
    module, names = find(path)
    return module.exists() and (not names or names[0] in names_of(module))


def prose_of(file: pathlib.Path) -> Iterator[tuple[int, str]]:
    """Yield the comments and docstrings of a module, or the text of a page without its code, each with its line."""
    text = file.read_text()
    if file.suffix == ".md":
        yield 1, _FENCE.sub(lambda block: "\n" * block[0].count("\n"), text)
        return
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT or (token.type == tokenize.STRING and token.string.startswith('"""')):
            yield token.start[0], token.string


def named(files: list[pathlib.Path], pattern: re.Pattern[str]) -> Iterator[tuple[str, str]]:
    """Yield what the prose of files names, after its file and line."""
    for file in files:
        for line, text in prose_of(file):
            for match in pattern.finditer(text):
                yield f"{file.relative_to(ROOT)}:{line + text.count(chr(10), 0, match.start())}", match[1]


def is_of_the_project(path: str) -> bool:
    """Return whether a path begins in a folder of the project. Pages also name files of a user's project."""
    first, second, *_ = path.split("/")
    return first in PACKAGES or (first == "procrastinate" and (PACKAGE / second).exists())


def is_there(path: str) -> bool:
    """Return whether a file exists under this path below the project, the package, its tests or its pages."""
    return any((folder / path).exists() for folder in (ROOT, PACKAGE, ROOT / "tests", ROOT / "docs"))


def test_each_cross_reference_leads_to_a_module_or_a_name_in_it() -> None:
    found = [(place, path.removeprefix("procrastinate.")) for place, path in named(SOURCES + PAGES, _ROLE)]
    assert len(found) > 150
    assert [(place, path) for place, path in found if not leads_somewhere(path)] == []


def test_each_dotted_path_in_prose_leads_to_a_module_or_a_name_in_it() -> None:
    found = list(named(SOURCES + PAGES, _DOTTED))
    assert len(found) > 20
    assert [(place, path) for place, path in found if not leads_somewhere(path)] == []


def test_each_file_of_the_package_that_prose_names_is_there() -> None:
    history = {ROOT / "CHANGELOG.md", *(ROOT / "docs" / "decisions").glob("*.md")}
    pages = [page for page in PAGES if page not in history]
    found = [(place, path) for place, path in named(SOURCES + pages, _FILE) if is_of_the_project(path)]
    assert len(found) > 50
    assert [(place, path) for place, path in found if not is_there(path)] == []


@pytest.mark.parametrize(
    ("path", "is_known"),
    [
        ("core.heartbeats.register_worker", True),
        ("core.rescue.register_worker", False),
        ("core", True),
        ("core.liveness", False),
        ("adapters.django", True),
    ],
)
def test_a_stale_path_is_told_from_one_that_leads_somewhere(path: str, is_known: bool) -> None:
    assert leads_somewhere(path) is is_known
