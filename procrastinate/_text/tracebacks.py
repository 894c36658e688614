"""Exceptions as text of bounded length, with relevant frames only and without local variables."""

from __future__ import annotations

import itertools
import os
import traceback
from collections.abc import Callable, Sequence
from types import FrameType, TracebackType

from procrastinate._text.logs import related
from procrastinate.core import NewError

LARGEST_TRACEBACK = 16_384
"""Maximum size of a stored traceback in bytes: one quarter from its beginning and three quarters from its end."""
LARGEST_MESSAGE = 4_096
"""Maximum size of a stored message in bytes."""
_LARGEST_CLASS = 500

_DEEPEST = 500
"""Maximum number of frames of a stack, from the newest."""

# Compiled code keeps the path of its source, which need not be there, and a frozen module may lack __file__.
_PACKAGE = os.path.dirname(os.path.dirname((lambda: None).__code__.co_filename))
_MACHINERY = (os.path.join(_PACKAGE, "worker", ""), os.path.join(_PACKAGE, "middleware.py"))
"""Code that calls tasks. Its frames are the same in every traceback, and do not help."""


def describe(exception: BaseException) -> NewError:
    """Return an exception in its stored form. Never raise, even if methods of the exception raise."""
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
    """Return ``module.Class`` of an exception. Built-in ones have their module, too: ``builtins.ValueError``."""
    return f"{type(exception).__module__}.{type(exception).__qualname__}"


def without_machinery(tb: TracebackType | None) -> TracebackType | None:
    """Return the traceback from the first frame outside of the queue's code, or ``None``."""
    while tb is not None and _is_machinery(tb.tb_frame.f_code.co_filename):
        tb = tb.tb_next
    return tb


def describe_stack(frame: FrameType) -> str:
    """Return the stack of a thread as text, without values of variables and without the queue's own frames."""
    return describe_frames(list(itertools.islice(traceback.walk_stack(frame), _DEEPEST))[::-1])


def describe_frames(frames: Sequence[tuple[FrameType, int]]) -> str:
    """Return frames and their lines, the oldest first, in the form of :func:`describe_stack`. Never raise."""
    try:
        text = _format_frames(frames)
    except BaseException as error:
        text = f"This stack cannot be written: {type(error).__qualname__}"
    return _bounded(text, LARGEST_TRACEBACK)


def _format_frames(frames: Sequence[tuple[FrameType, int]]) -> str:
    stack = traceback.StackSummary.extract(iter(frames))
    own = [place for place, summary in enumerate(stack) if _is_machinery(summary.filename)]
    rest = stack[own[-1] + 1 :] if own else stack
    return "".join(traceback.format_list(rest or stack))


def _is_machinery(filename: str) -> bool:
    return filename.startswith(_MACHINERY)


def forget_earlier(exception: BaseException, is_earlier: Callable[[FrameType], bool]) -> None:
    """Cut what belongs to earlier runs off an exception and off its causes and contexts.

    An exception object that is raised again, such as one of a module or of a lost connection, keeps the frames of each
    time, and the exception that was handled then. Otherwise the errors of jobs would show those of jobs before them,
    and grow without an end.
    """
    for one in related(exception):
        place = one.__traceback__
        while place is not None and place.tb_next is not None:
            if is_earlier(place.tb_next.tb_frame):
                _forget_causes(one, {frame for frame, _ in traceback.walk_tb(place.tb_next)})
                place.tb_next = None
            place = place.tb_next


def _forget_causes(exception: BaseException, frames: set[FrameType]) -> None:
    """Remove a cause and a context that code in these frames has handled."""
    if _is_handled_in(frames, exception.__context__):
        exception.__context__ = None
    if _is_handled_in(frames, exception.__cause__):
        exception.__cause__ = None
        exception.__suppress_context__ = False  # an assignment to the cause sets it


def _is_handled_in(frames: set[FrameType], exception: BaseException | None) -> bool:
    """Return true if the traceback of the exception begins in one of these frames: it was caught there."""
    place = None if exception is None else exception.__traceback__
    return place is not None and place.tb_frame in frames


def _message(exception: BaseException) -> str:
    try:
        return str(exception)
    except BaseException as error:
        return f"<str() of the exception has raised {type(error).__qualname__}>"


def _format(exception: BaseException) -> str:
    """Format an exception with all causes, contexts and members of groups."""
    formatted = traceback.TracebackException.from_exception(exception, lookup_lines=False, compact=True)
    waiting = [formatted]
    while waiting:
        one = waiting.pop()
        one.stack[:] = [frame for frame in one.stack if not _is_machinery(frame.filename)]
        if not one.stack:
            one.stack = None  # type: ignore[assignment]  # no header without frames
        waiting += [part for part in (one.__cause__, one.__context__, *(one.exceptions or ())) if part is not None]
    return "".join(formatted.format())


def _bounded(text: str, limit: int) -> str:
    """Make text storable in PostgreSQL and cut its middle to ``limit`` bytes, with a note of the missing number."""
    encoded = text.replace("\0", "\\x00").encode(errors="backslashreplace")
    if len(encoded) <= limit:
        return encoded.decode()
    missing = f"\n... {len(encoded) - limit} bytes are left out ...\n"
    head = (limit - len(missing)) // 4
    tail = limit - len(missing) - head
    return encoded[:head].decode(errors="ignore") + missing + encoded[-tail:].decode(errors="ignore")
