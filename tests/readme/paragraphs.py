"""The paragraphs of a page: what a reader takes in at once, without code."""

from __future__ import annotations

import re
from collections.abc import Iterator

_NO_PROSE = re.compile(r"^ *```.*?^ *```|^<!-- (?:table|figures).*?^<!-- end.*?-->|^---\n.*?^---\n", re.M | re.S)
_CODE = re.compile(r"`[^`]*`|\]\([^)]*\)|https?://\S+")
_ITEM = re.compile(r"\s*(?:[-*]|\d+\.)\s")
_MARK = re.compile(r";|:(?=\s|\*|$)")


def paragraphs_of(text: str) -> Iterator[str]:
    """Yield each paragraph, list item, heading and table cell. Blocks of code and generated parts are left out."""
    paragraph: list[str] = []
    for line in [*_NO_PROSE.sub("", text).splitlines(), ""]:
        is_row, is_heading = line.startswith("|"), line.startswith("#")
        if not line.strip() or is_row or is_heading or _ITEM.match(line):
            yield from _joined(paragraph)
            paragraph = []
        if is_row:
            yield from (cell.strip() for cell in line.strip("|").split(" | "))
        elif is_heading:
            yield line
        elif line.strip():
            paragraph.append(line.strip())


def _joined(lines: list[str]) -> Iterator[str]:
    if lines:
        yield " ".join(lines)


def marks_in(paragraph: str) -> int:
    """Count its colons and semicolons, code and links left out."""
    return len(_MARK.findall(_CODE.sub("X", paragraph)))
