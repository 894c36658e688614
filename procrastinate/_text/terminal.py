"""Terminal output: tables and colours on a terminal, plain text in a pipe."""

from __future__ import annotations

import itertools
import os
import shutil
import sys
import unicodedata
from collections.abc import Sequence
from typing import TextIO

from procrastinate._quoting import LONGEST_VALUE, quoted, quoted_lines

_CODES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "blue": "34"}
_GAP = "  "


def is_terminal(stream: TextIO) -> bool:
    """Return true if the stream shows tables and colours. ``NO_COLOR`` (https://no-color.org) turns them off."""
    return stream.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


def say(text: str, stream: TextIO | None = None, *, colour: str | None = None) -> None:
    """Write text with each line quoted. Use this function for text from other sources, such as rows.

    Parameters
    ----------
    stream:
        The output stream, ``sys.stdout`` by default.
    colour:
        Colour of the text on a terminal.
    """
    stream = sys.stdout if stream is None else stream
    safe = quoted_lines(text)
    write(paint(safe, colour) if colour is not None and is_terminal(stream) else safe, stream)


def say_table(header: Sequence[str], rows: Sequence[Sequence[str]], colours: Sequence[str | None] = ()) -> None:
    """Write a :func:`table` to ``sys.stdout``. In a pipe it has no colours, and its lines are as long as they are."""
    write(table(header, rows, colours, is_plain=not is_terminal(sys.stdout)))


def write(text: str, stream: TextIO | None = None) -> None:
    """Write printable text. A character missing in the stream's encoding becomes a Python escape sequence."""
    stream = sys.stdout if stream is None else stream
    encoding = getattr(stream, "encoding", None) or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding), file=stream)


def paint(text: str, colour: str) -> str:
    """Return the text with the escape sequences of a colour."""
    return f"\x1b[{_CODES[colour]}m{text}\x1b[0m"


def table(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    colours: Sequence[str | None] = (),
    *,
    is_plain: bool = False,
) -> str:
    """Return a table with quoted cells. Columns fit their content, and lines are cut at the width of the terminal.

    Parameters
    ----------
    colours:
        One colour or ``None`` for each row.
    is_plain:
        If true, the table has no colours and no line is cut.
    """
    rows = [[quoted(cell, LONGEST_VALUE) for cell in row] for row in rows]
    widths = [max(map(_width, column)) for column in zip(header, *rows, strict=True)]
    available = sys.maxsize if is_plain else shutil.get_terminal_size().columns
    lines = [
        _cut(_GAP.join(_padded(cell, width) for cell, width in zip(row, widths, strict=True)).rstrip(), available)
        for row in (header, *rows)
    ]
    if is_plain:
        return "\n".join(lines)
    painted = [paint(lines[0], "bold")]
    for index, line in enumerate(lines[1:]):
        colour = colours[index] if colours else None
        painted.append(paint(line, colour) if colour else line)
    return "\n".join(painted)


def fitted(line: str) -> str:
    """Return a line without colours, cut at the width of the terminal."""
    return _cut(line, shutil.get_terminal_size().columns)


def _columns(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _width(text: str) -> int:
    """Return the width of the text in terminal columns."""
    return len(text) if text.isascii() else sum(map(_columns, text))


def _padded(text: str, width: int) -> str:
    return text + " " * (width - _width(text))


def _cut(text: str, available: int) -> str:
    """Cut the text to this many columns. A terminal wraps a longer line, which then looks like another row."""
    if _width(text) <= available:
        return text
    ends = itertools.accumulate(map(_columns, text))
    return "".join(one for one, end in zip(text, ends, strict=True) if end <= available)
