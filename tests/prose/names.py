"""Names of tests, which stand alone in a list of failures."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from tests.prose.words import FOLDERS, ROOT

_GOES_ON = re.compile(r"test_(?:also|and|but|it|its|nor|or|unless)(?:_|$)")
"""How a name begins that only makes sense after the test before it."""


def names_of_tests() -> Iterator[tuple[str, str]]:
    """Yield the file of each test, and its name."""
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                    yield str(path.relative_to(ROOT)), node.name


def goes_on(name: str) -> bool:
    """Return whether the name needs the test before it."""
    return bool(_GOES_ON.match(name))
