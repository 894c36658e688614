"""Text for people: tables and colours on a terminal. What is piped stays plain."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from typing import TextIO

from procrastinate.foreign_text import quoted

_CODES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "blue": "34"}
_GAP = "  "


def is_terminal(stream: TextIO) -> bool:
    """Whether to write tables and colours there. ``NO_COLOR`` (https://no-color.org) says no."""
    return stream.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


def paint(text: str, colour: str) -> str:
    """The text in a colour."""
    return f"\x1b[{_CODES[colour]}m{text}\x1b[0m"


def table(header: Sequence[str], rows: Sequence[Sequence[str]], colours: Sequence[str | None] = ()) -> str:
    """Columns as wide as what is in them, quoted; lines are cut at the width of the terminal.

    Parameters
    ----------
    colours:
        One for each row, or ``None``.
    """
    rows = [[quoted(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    available = shutil.get_terminal_size().columns
    lines = [
        _GAP.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()[:available]
        for row in (header, *rows)
    ]
    painted = [paint(lines[0], "bold")]
    for index, line in enumerate(lines[1:]):
        colour = colours[index] if colours else None
        painted.append(paint(line, colour) if colour else line)
    return "\n".join(painted)
