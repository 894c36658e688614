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
_MOST_NAMED = 3
"""A longer list of names is not written out."""
_CUT_MARK = ">"
"""The last character of a line that goes on beyond the terminal, as in ``less -S``."""
_REST_INDENT = 2


def is_terminal(stream: TextIO) -> bool:
    """Return true if the stream shows tables and colours. ``NO_COLOR`` (https://no-color.org) turns them off."""
    return stream.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


def say(text: str, stream: TextIO | None = None, *, colour: str | None = None) -> None:
    """Write one line, quoted. A newline in it is written as an escape sequence, so no part looks like a line.

    A terminal gets no line that is wider than itself. A longer line is broken between words, and its rest is indented.

    Parameters
    ----------
    stream:
        The output stream, ``sys.stdout`` by default.
    colour:
        Colour of the text on a terminal.
    """
    stream = sys.stdout if stream is None else stream
    _write_safe(quoted(text), stream, colour)


def say_lines(text: str, stream: TextIO | None = None, *, colour: str | None = None) -> None:
    """Write text of several lines, each of them quoted. Its parameters are those of :func:`say`.

    Use it only for text whose lines need not be told apart from lines of this project, such as a traceback.
    """
    stream = sys.stdout if stream is None else stream
    _write_safe(quoted_lines(text), stream, colour)


def _write_safe(safe: str, stream: TextIO, colour: str | None) -> None:
    if is_terminal(stream):
        safe = wrapped(safe, stream)
        safe = safe if colour is None else paint(safe, colour)
    write(safe, stream)


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

    Before a line is cut, columns that say nothing are left out: all of their cells are 0 or empty.

    Parameters
    ----------
    colours:
        One colour or ``None`` for each row.
    is_plain:
        If true, the table has no colours and no line is cut.
    """
    rows = [[quoted(cell, LONGEST_VALUE) for cell in row] for row in rows]
    available = sys.maxsize if is_plain else shutil.get_terminal_size().columns
    header, rows = _without_idle_columns(header, rows, available)
    widths = _widths(header, rows)
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


def _widths(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(_width, column)) for column in zip(header, *rows, strict=True)]


def _without_idle_columns(
    header: Sequence[str], rows: Sequence[Sequence[str]], available: int
) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
    """Return a table that is too wide without columns of 0 and empty cells, from the right, until it fits."""
    widths = _widths(header, rows)
    kept = list(range(len(header)))
    for column in reversed(range(1, len(header))):
        if sum(widths[one] + len(_GAP) for one in kept) - len(_GAP) <= available:
            break
        if rows and all(row[column] in ("", "0") for row in rows):
            kept.remove(column)
    return [header[one] for one in kept], [[row[one] for one in kept] for row in rows]


def fitted(line: str) -> str:
    """Return a line without colours, cut at the width of the terminal."""
    return _cut(line, shutil.get_terminal_size().columns)


def wrapped(text: str, stream: TextIO, *, rest_indent: int = _REST_INDENT) -> str:
    """Return the text with lines that fit a terminal.

    Parameters
    ----------
    rest_indent:
        Number of columns by which the rest of a broken line is indented more than its beginning.
    """
    available = _columns_of(stream)
    return "\n".join(_broken(line, available, rest_indent) for line in text.split("\n"))


def counted(number: int, what: str) -> str:
    """Return a number with its noun, such as ``1 job`` and ``2,000 jobs``."""
    return f"{number:,} {what}{'s' * (number != 1)}"


def ends_of(names: Sequence[str]) -> str:
    """Return names in order as text: each of a few, or the first and the last of a long list."""
    return ", ".join(names) if len(names) <= _MOST_NAMED else f"{names[0]} to {names[-1]}"


def _columns_of(stream: TextIO) -> int:
    """Return the width of a terminal. The error output may be a terminal when the output is a pipe."""
    try:
        return os.get_terminal_size(stream.fileno()).columns or shutil.get_terminal_size().columns
    except (OSError, ValueError):
        return shutil.get_terminal_size().columns


def _broken(line: str, available: int, rest_indent: int) -> str:
    """Break a line between words. A word that is wider than the terminal stays whole, so that it can be copied."""
    if _width(line) <= available:
        return line
    text = line.lstrip(" ")
    indent = " " * (len(line) - len(text) + rest_indent)
    lines, current = [], line[: len(line) - len(text)]
    for word in text.split(" "):
        longer = f"{current} {word}" if current.strip() else current + word
        if _width(longer) > available and current.strip():
            lines.append(current)
            current = indent + word
        else:
            current = longer
    return "\n".join([*lines, current])


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
    """Cut the text to this many columns. A terminal wraps a longer line, which then looks like another row.

    The mark at the end tells a number that is cut from a small one.
    """
    if _width(text) <= available:
        return text
    ends = itertools.accumulate(map(_columns, text))
    return "".join(one for one, end in zip(text, ends, strict=True) if end < available) + _CUT_MARK
