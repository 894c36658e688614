"""Messages that send the reader to a page of the documentation."""

from __future__ import annotations

import ast
import pathlib
import re
from collections.abc import Iterator

import pytest

from procrastinate._pages import page

ROOT = pathlib.Path(__file__).parents[2]
SOURCES = sorted((ROOT / "procrastinate").rglob("*.py"))


def calls() -> Iterator[tuple[str, str | None]]:
    """The page and the section of each message of the package."""
    for file in SOURCES:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "page":
                name, section = (*(ast.literal_eval(argument) for argument in node.args), None)[:2]
                yield name, section


def test_messages_name_pages() -> None:
    assert {name for name, _ in calls()} == {"from-celery", "moving-in"}


@pytest.mark.parametrize(("name", "section"), sorted(set(calls()), key=str))
def test_a_named_page_and_its_section_exist_under_these_names(name: str, section: str | None) -> None:
    said = page(name, section)
    text = (ROOT / "docs" / f"{name}.md").read_text()
    assert f'the page "{text.splitlines()[0].removeprefix("# ")}"' in said
    assert f"(docs/{name}.md in the repository)" in said
    assert section is None or re.search(rf"^#+ {section}$", text, re.MULTILINE)


def test_no_message_names_a_page_in_another_form() -> None:
    naming = {file.name for file in SOURCES if re.search(r"docs/[\w-]+(/[\w-]+)?\.md", file.read_text())}
    assert naming == set()
