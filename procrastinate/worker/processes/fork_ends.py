"""A process that a task forks ends with the task's function: what follows is the worker's, which is the parent."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback

from procrastinate._text.terminal import say

_forks = 0
"""How many forks lead to this process from the one that has imported this module."""


def _count() -> None:
    global _forks
    _forks += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_count)


def current_process() -> int:
    """Return a number that is another one in a fork of this process."""
    return _forks


def end_fork(process: int, error: BaseException | None = None) -> None:
    """End this process as a program ends, if it is a fork.

    Parameters
    ----------
    process:
        What :func:`current_process` returned when the task's function was called.
    error:
        What the function has raised. As at the end of a program, ``SystemExit`` gives the exit code.
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
        say("".join(traceback.format_exception(error)), sys.stderr)
        return 1
    if error.code is None or isinstance(error.code, int):
        return error.code or 0
    say(str(error.code), sys.stderr)
    return 1
