"""Text that others wrote, made safe for a line of a log, a terminal, a page or a message.

Names, arguments and locks come from rows that any program may write. Messages of exceptions repeat them. On its way
to a person, such text passes through one of these functions. A program gets it as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

LONGEST_VALUE = 1_000
"""Characters of one value that are shown: an argument, a name, a lock."""
LONGEST_LINE = 10_000
"""Characters of one line that are shown."""
LONGEST_TEXT = 65_536
"""Characters of a text of several lines that are shown: the first quarter, and the last three."""

_MARKS = "[\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]"
_UNSEEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
    f"|(?<={_MARKS * 4}){_MARKS}"
)
"""Characters that Python counts as printable all the same: fillers and selectors, which no font draws, and each
combining mark after four others, which is drawn over the lines above or below."""
_TAB = 8


def quoted(text: str, longest: int = LONGEST_LINE) -> str:
    """Return text as one line that prints, each other character as an escape sequence of Python.

    Newlines, control characters of a terminal, marks that change the direction of writing, lone surrogates and
    characters that are not drawn do not print. A short text that prints is returned as it is.

    Parameters
    ----------
    longest:
        How many characters are shown. A longer text is cut, and ends with a note of its length.
    """
    if len(text) <= longest and text.isascii() and text.isprintable():
        return text  # nearly all text; each record and each job passes here
    return _cut(text, longest, _escape)


def quoted_lines(text: str) -> str:
    """Return text of several lines, each of them quoted. Only a newline ends a line, and tabs become spaces.

    A text that is too long loses lines in the middle, with a note of how many characters they had.
    """
    lines = (_cut(line, LONGEST_LINE) for line in text.split("\n"))
    return "\n".join(_escape(line.expandtabs(_TAB)) for line in shortened("\n".join(lines)).split("\n"))


def indented(text: str) -> str:
    """Return the text with each line after the first indented, so that none passes for a line of its own."""
    return text.replace("\n", "\n  ")


def shortened(text: str, longest: int = LONGEST_TEXT) -> str:
    """Return text with at most so many characters: its beginning and its end, and how much is missing in between."""
    if len(text) <= longest:
        return text
    head = longest // 4
    tail = longest - head
    return f"{text[:head]}\n... {len(text) - longest:,} characters are left out ...\n{text[-tail:]}"


class Cut:
    """A value for a message: its text, quoted and cut, if the message is written at all."""

    def __init__(self, value: object, longest: int) -> None:
        self._value = value
        self._longest = longest

    def __str__(self) -> str:
        return quoted(str(self._value), self._longest)


def described(value: Any) -> str:
    """Return a value as Python writes it, in one line that prints, cut as :func:`quoted` does."""
    if isinstance(value, str) and len(value) > LONGEST_VALUE:
        return f"{quoted(repr(value[:LONGEST_VALUE]))}... (of {len(value):,} characters)"
    try:
        text = repr(value)
    except Exception as error:  # arguments may be nested too deep, or of a class of the program
        return f"<{type(error).__name__}>"
    return quoted(text, LONGEST_VALUE)


def in_brief(value: Any) -> Any:
    """Return a value as it is if it is small, and otherwise its description, cut."""
    if isinstance(value, str):
        return value if len(value) <= LONGEST_VALUE else described(value)
    if value is None or isinstance(value, (bool, float)):
        return value
    try:
        is_small = len(repr(value)) <= LONGEST_VALUE
    except Exception:
        is_small = False
    return value if is_small else described(value)


def _cut(text: str, longest: int, change: Callable[[str], str] = str) -> str:
    """Return the beginning of a text, changed, with a note of the length of the whole."""
    if len(text) <= longest:
        return change(text)
    return f"{change(text[:longest])}... (of {len(text):,} characters)"


def _escape(text: str) -> str:
    if not text.isprintable():
        text = "".join(one if one.isprintable() else _code(one) for one in text)
    return text if text.isascii() else _UNSEEN.sub(lambda unseen: _code(unseen[0]), text)


def _code(character: str) -> str:
    return character.encode("unicode_escape").decode()
