"""Exceptions as text: with the frames that matter, no local variables, and a bounded length."""

from __future__ import annotations

import os
import pathlib
import traceback
from types import FrameType, TracebackType

from procrastinate.core import NewError

LARGEST_TRACEBACK = 16_384
"""Bytes of a traceback that are kept: the first quarter, and the last three."""
LARGEST_MESSAGE = 4_096
"""Bytes of a message that are kept."""
_LARGEST_CLASS = 500

_PACKAGE = pathlib.Path(__file__).parents[1]
_MACHINERY = (str(_PACKAGE / "worker") + os.sep, str(_PACKAGE / "middleware.py"))
"""What calls tasks: its frames are the same in every traceback, and tell nothing."""


def describe(exception: BaseException) -> NewError:
    """An exception as it is kept with its job. Raises nothing, whatever the exception does when it is looked at."""
    try:
        text = _format(exception)
    except BaseException as error:
        text = f"The traceback of this {type(exception).__qualname__} cannot be written: {type(error).__qualname__}"
    return NewError(
        exception_class=_bounded(class_path(exception), _LARGEST_CLASS),
        message=_bounded(_message(exception), LARGEST_MESSAGE),
        traceback=_bounded(text, LARGEST_TRACEBACK),
    )


def class_path(exception: BaseException) -> str:
    """``module.Class`` of an exception, ``builtins.ValueError`` included."""
    return f"{type(exception).__module__}.{type(exception).__qualname__}"


def without_machinery(tb: TracebackType | None) -> TracebackType | None:
    """The traceback from the first frame on that is not the queue's own; ``None`` where there is none."""
    while tb is not None and _is_machinery(tb.tb_frame.f_code.co_filename):
        tb = tb.tb_next
    return tb


def describe_stack(frame: FrameType) -> str:
    """Return where a thread is, as text without values of variables: the frames after the queue's own."""
    stack = traceback.extract_stack(frame)
    own = [place for place, summary in enumerate(stack) if _is_machinery(summary.filename)]
    rest = stack[own[-1] + 1 :] if own else stack
    return _bounded("".join(traceback.format_list(rest or stack)), LARGEST_TRACEBACK)


def _is_machinery(filename: str) -> bool:
    return filename.startswith(_MACHINERY)


def _message(exception: BaseException) -> str:
    try:
        return str(exception)
    except BaseException as error:
        return f"<str() of the exception has raised {type(error).__qualname__}>"


def _format(exception: BaseException) -> str:
    """The whole chain of causes and contexts, and the members of groups."""
    formatted = traceback.TracebackException.from_exception(exception, lookup_lines=False, compact=True)
    waiting = [formatted]
    while waiting:
        one = waiting.pop()
        one.stack[:] = [frame for frame in one.stack if not _is_machinery(frame.filename)]
        if not one.stack:
            one.stack = None  # type: ignore[assignment]  # no headline above nothing
        waiting += [part for part in (one.__cause__, one.__context__, *(one.exceptions or ())) if part is not None]
    return "".join(formatted.format())


def _bounded(text: str, limit: int) -> str:
    """Text that PostgreSQL can store, of so many bytes: its beginning, its end, and how much is missing in between."""
    encoded = text.replace("\0", "\\x00").encode(errors="backslashreplace")
    if len(encoded) <= limit:
        return encoded.decode()
    missing = f"\n... {len(encoded) - limit} bytes are left out ...\n"
    head = (limit - len(missing)) // 4
    tail = limit - len(missing) - head
    return encoded[:head].decode(errors="ignore") + missing + encoded[-tail:].decode(errors="ignore")
