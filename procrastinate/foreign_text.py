"""Text that others wrote, made safe for a line of a log or of a terminal."""

from __future__ import annotations


def quoted(text: str) -> str:
    """Return the text with each character that does not print written as an escape sequence of Python.

    Newlines, control characters of a terminal, marks that change the direction of writing, and characters without a
    width do not print. A text that prints is returned as it is.
    """
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)


def quoted_lines(text: str) -> str:
    """Return a text of several lines, each of them quoted. Only a newline ends a line."""
    return "\n".join(quoted(line) for line in text.split("\n"))
