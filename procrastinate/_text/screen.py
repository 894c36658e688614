"""A screen of a terminal that is drawn again and again, and that leaves what was there before it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from types import TracebackType
from typing import TextIO

_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
_HOME, _END_OF_LINE, _REST_OF_SCREEN = "\x1b[H", "\x1b[K", "\x1b[J"


def takes_screens(stream: TextIO) -> bool:
    """Return true if the stream is a terminal that moves its cursor."""
    return stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"


class Screen:
    """Draws frames on a terminal while its block lasts.

    Parameters
    ----------
    stream:
        A terminal, see :func:`takes_screens`.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __enter__(self) -> Screen:
        self._stream.write(_ENTER)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stream.write(_LEAVE)
        self._stream.flush()

    def note(self, line: str) -> None:
        """Write a quoted line at the bottom, over the last frame. It may be called in another thread."""
        height = shutil.get_terminal_size().lines
        self._stream.write(f"\x1b[{height};1H{line}{_END_OF_LINE}")
        self._stream.flush()

    def draw(self, lines: Sequence[str]) -> None:
        """Draw the lines that fit. The lines are quoted already, and no longer than the terminal is wide."""
        height = shutil.get_terminal_size().lines
        shown = f"{_END_OF_LINE}\r\n".join(lines[: height - 1])
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        text = f"{_HOME}{shown}{_END_OF_LINE}{_REST_OF_SCREEN}"
        self._stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        self._stream.flush()
