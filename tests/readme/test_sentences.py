"""Pages are written in short sentences: no paragraph has more than one colon or semicolon."""

from __future__ import annotations

import pathlib

import pytest

from tests.readme.paragraphs import marks_in, paragraphs_of

ROOT = pathlib.Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
EXCEPTIONS: dict[str, str] = {}
"""Paragraphs that may have more, by their beginning, each with the reason."""


@pytest.mark.parametrize("page", [str(page.relative_to(ROOT)) for page in sorted(PAGES)])
def test_no_paragraph_has_more_than_one_colon_or_semicolon(page: str) -> None:
    crowded = [paragraph for paragraph in paragraphs_of((ROOT / page).read_text()) if marks_in(paragraph) > 1]
    assert [paragraph for paragraph in crowded if not paragraph.startswith(tuple(EXCEPTIONS))] == []


def test_every_exception_is_still_in_a_page() -> None:
    found = [paragraph for page in PAGES for paragraph in paragraphs_of(page.read_text())]
    assert [one for one in EXCEPTIONS if not any(paragraph.startswith(one) for paragraph in found)] == []


@pytest.mark.parametrize(
    ("text", "marks"),
    [
        ("One: two.\nThree; four.", [2]),
        ("One: two.\n\nThree; four.", [1, 1]),
        ("- One: two.\n- Three; four.", [1, 1]),
        ("# Title: more\nOne: two.", [1, 1]),
        ("| a: b | c; d |\n|---|:--|", [1, 1, 0]),
        ("At 12:30 `a: b; c` and [a link](x;y) stay:", [1]),
        ("```python\na: int; b: int\n```\nOne:", [1]),
        ("<!-- table: written by a program -->\na: b; c\n<!-- end of it -->", []),
    ],
)
def test_marks_are_counted_for_each_paragraph_without_code(text: str, marks: list[int]) -> None:
    assert [marks_in(paragraph) for paragraph in paragraphs_of(text)] == marks
