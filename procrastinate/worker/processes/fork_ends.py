"""End a process that a task forks with the task's function: the code after it belongs to the parent, the worker."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback

from procrastinate._text.terminal import say, say_lines

_forks = 0
"""Number of forks between the process that imported this module and this process."""


def _count() -> None:
    global _forks
    _forks += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_count)


def current_process() -> int:
    """Return a number that differs in every fork of this process."""
    return _forks


def end_fork(process: int, error: BaseException | None = None) -> None:
    """End this process like a program, if it is a fork.

    Parameters
    ----------
    process:
        The :func:`current_process` of the call of the task's function.
    error:
        The exception that the function raised. ``SystemExit`` gives the exit code, as in a program.
    """
    if process == _forks:
        return
    code = 1
    try:
        code = _exit_code(error)
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
    finally:
        os._exit(code)


def _exit_code(error: BaseException | None) -> int:
    if error is None:
        return 0
    if not isinstance(error, SystemExit):
        say_lines("".join(traceback.format_exception(error)), sys.stderr)
        return 1
    if error.code is None or isinstance(error.code, int):
        return error.code or 0
    say(str(error.code), sys.stderr)
    return 1
