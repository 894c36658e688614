"""Counts the words of `words.toml` in code and pages, for each folder at the top of the repository."""

from __future__ import annotations

import dataclasses
import pathlib
import re
import tomllib
from collections import Counter
from collections.abc import Iterator

ROOT = pathlib.Path(__file__).parents[2]
FILE = pathlib.Path(__file__).with_name("words.toml")
FOLDERS = ("procrastinate", "pytest_procrastinate", "docs", "examples", "benchmarks", "tests")
TOP = "."
"""Stands for the files at the top, such as README.md."""
_SUFFIXES = {".css", ".html", ".js", ".md", ".py", ".txt", ".yaml", ".yml"}
_AT_THE_TOP = ("*.md", "Makefile", "pyproject.toml", ".ci/*", ".github/**/*.yml", ".pre-commit-config.yaml")
_BETWEEN_WORDS = re.compile(r"\s+(?:[#>*]+\s+)?|_+")
"""What separates two words: white space, the `#` of a wrapped comment, the underscores of a name."""


@dataclasses.dataclass(frozen=True)
class Rules:
    """What `words.toml` says."""

    plain: dict[str, str]
    """The words that are counted, each with what to write instead."""
    budget: dict[str, int]
    exceptions: tuple[tuple[str, str], ...]
    """Files, and texts in them that are not read."""

    @classmethod
    def read(cls, file: pathlib.Path = FILE) -> Rules:
        """Return what the file says."""
        content = tomllib.loads(file.read_text())
        exceptions = tuple((one["file"], one["text"]) for one in content["exception"])
        return cls(content["words"], content["budget"], exceptions)


@dataclasses.dataclass(frozen=True)
class Find:
    """One of the words, in a file."""

    folder: str
    file: str
    line: int
    word: str


def find_all(rules: Rules) -> list[Find]:
    """Return every use of a word of the list that is not an exception."""
    return [find for folder in (TOP, *FOLDERS) for find in _find_in_folder(folder, rules)]


def _find_in_folder(folder: str, rules: Rules) -> Iterator[Find]:
    for path in _files_of(folder):
        name = str(path.relative_to(ROOT))
        for line, word in find_in_text(_without_exceptions(path.read_text(), name, rules), rules.plain):
            yield Find(folder, name, line, word)


def find_in_text(text: str, words: dict[str, str]) -> Iterator[tuple[int, str]]:
    """Yield the number of the line of each use, and the word."""
    readable = _BETWEEN_WORDS.sub(_as_space, text.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'"))
    for word in words:
        pattern = r"\b" + re.escape(word).replace(r"\ ", r"\s") + r"\b"
        for match in re.finditer(pattern, readable):
            yield readable.count("\n", 0, match.start()) + 1, word


def _as_space(match: re.Match[str]) -> str:
    return "\n" * match[0].count("\n") or " "


def _without_exceptions(text: str, name: str, rules: Rules) -> str:
    for file, kept in rules.exceptions:
        if file == name:
            text = text.replace(kept, "")
    return text


def _files_of(folder: str) -> list[pathlib.Path]:
    """Return the files of a folder that hold prose, without this package, whose tests name the words."""
    if folder == TOP:
        return sorted(path for pattern in _AT_THE_TOP for path in ROOT.glob(pattern))
    found = (path for path in (ROOT / folder).rglob("*") if path.suffix in _SUFFIXES and path.is_file())
    return sorted(path for path in found if "__pycache__" not in path.parts and FILE.parent not in path.parents)


def count(finds: list[Find]) -> dict[str, int]:
    """Return how many there are in each folder."""
    counted = Counter(find.folder for find in finds)
    return {folder: counted[folder] for folder in (TOP, *FOLDERS)}


def above_budget(finds: list[Find], rules: Rules) -> dict[str, int]:
    """Return the folders with more than their budget, and by how many."""
    return {
        folder: found - rules.budget.get(folder, 0)
        for folder, found in count(finds).items()
        if found > rules.budget.get(folder, 0)
    }


def lower_budget(file: pathlib.Path = FILE) -> None:
    """Write what is counted today where it is less than the budget."""
    rules = Rules.read(file)
    counted = count(find_all(rules))
    lines = [f'"{folder}" = {min(found, rules.budget.get(folder, found))}' for folder, found in counted.items()]
    before, _, rest = file.read_text().partition("[budget]\n")
    _, found, after = rest.partition("\n# What must stay")
    assert found, f"{file} has lost the comment after its budget"
    file.write_text("\n".join([f"{before}[budget]", *lines, f"{found}{after}"]))
