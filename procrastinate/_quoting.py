"""Functions that make foreign text safe for a log line, a terminal, a page or a message.

Names, arguments and locks come from rows that any program may write, and exception messages repeat them. Such text
passes through one of these functions before a person reads it. Programs get it unchanged.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

LONGEST_VALUE = 1_000
"""Maximum length of a displayed value, such as an argument, a name or a lock, in characters."""
LONGEST_LINE = 10_000
"""Maximum length of a displayed line in characters."""
LONGEST_TEXT = 65_536
"""Maximum length of a displayed text in characters: one quarter from its beginning and three quarters from its end."""

_MARKS = "[\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]"
_UNSEEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
    f"|(?<={_MARKS * 4}){_MARKS}"
)
"""Unwanted characters that Python counts as printable: fillers and selectors, which no font draws, and each combining
mark after four others, which is drawn over the lines above or below."""
_TAB = 8


def quoted(text: str, longest: int = LONGEST_LINE) -> str:
    """Return text as one printable line, with other characters as Python escape sequences.

    Not printable are newlines, terminal control characters, marks that change the direction of writing, lone
    surrogates and invisible characters. A short printable text is returned unchanged.

    Parameters
    ----------
    longest:
        Maximum number of characters. A longer text is cut and ends with a note of its length.
    """
    if len(text) <= longest and text.isascii() and text.isprintable():
        return text  # fast path for nearly all text, because each log record and each job passes here
    return _cut(text, longest, _escape)


def identifier(name: str) -> str:
    """Return a name as a quoted identifier of SQL, for a statement that a person copies."""
    return '"' + name.replace('"', '""') + '"'


def quoted_lines(text: str) -> str:
    """Return text with each line quoted. Only a newline ends a line, and tabs become spaces.

    A long text loses its middle, with a note of the number of missing characters.
    """
    lines = (_cut(line, LONGEST_LINE) for line in text.split("\n"))
    return "\n".join(_escape(line.expandtabs(_TAB)) for line in shortened("\n".join(lines)).split("\n"))


def escaped_lines(text: str) -> str:
    """Return text with each line quoted and none cut, for code that a program reads. Only a newline ends a line."""
    return "\n".join(map(_escape, text.split("\n")))


def indented(text: str) -> str:
    """Return the text with each line after the first indented, so that no line looks like a separate message."""
    return text.replace("\n", "\n  ")


def shortened(text: str, longest: int = LONGEST_TEXT) -> str:
    """Cut the middle of a text to ``longest`` characters, with a note of the number of missing characters."""
    if len(text) <= longest:
        return text
    head = longest // 4
    tail = longest - head
    return f"{text[:head]}\n... {len(text) - longest:,} characters are left out ...\n{text[-tail:]}"


class Cut:
    """A value for a log message. It is quoted and cut only if the message is written."""

    def __init__(self, value: object, longest: int) -> None:
        self._value = value
        self._longest = longest

    def __str__(self) -> str:
        return quoted(str(self._value), self._longest)


def described(value: Any) -> str:
    """Return the ``repr`` of a value as one printable line, cut like in :func:`quoted`."""
    if isinstance(value, str) and len(value) > LONGEST_VALUE:
        return f"{quoted(repr(value[:LONGEST_VALUE]))}... (of {len(value):,} characters)"
    try:
        text = repr(value)
    except Exception as error:  # arguments may be nested too deeply, or have a user class with a faulty __repr__
        return f"<{type(error).__name__}>"
    return quoted(text, LONGEST_VALUE)


def in_brief(value: Any) -> Any:
    """Return a small value unchanged, and a large one as its cut description."""
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
    """Return the first ``longest`` characters after ``change``, with a note of the full length if text is missing."""
    if len(text) <= longest:
        return change(text)
    return f"{change(text[:longest])}... (of {len(text):,} characters)"


def _escape(text: str) -> str:
    if not text.isprintable():
        text = "".join(one if one.isprintable() else _code(one) for one in text)
    return text if text.isascii() else _UNSEEN.sub(lambda unseen: _code(unseen[0]), text)


def _code(character: str) -> str:
    return character.encode("unicode_escape").decode()
