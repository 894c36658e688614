"""Keep what a job logs, for tasks with ``keep_logs=True``.

While such a job runs, the root logger has one handler more. A context variable tells the handler which job logs, also
in the threads and asyncio tasks that the job starts in its context.
"""

from __future__ import annotations

import collections
import contextlib
import contextvars
import json
import logging
import math
import os
import threading
import time
from collections.abc import Callable, Iterator

from procrastinate._fork_locks import fork_lock
from procrastinate._text.json_values import json_text
from procrastinate._text.log_records import message_of, traceback_of

MOST_LINES = 1_000
MOST_BYTES = 65_536
"""Limits for the log of a run. Older lines are dropped."""
_LONGEST_LINE = 8_192
"""Maximum length of a line with its traceback, in characters."""
_LONGEST_NAME = 100
_OVERHEAD = 40
"""Bytes that a line takes besides its texts."""
_OWN_LOGGERS = "procrastinate."
"""What workers log of a job shows its arguments, and the page of the job has it already."""

_Line = tuple[float, str, str, str]
_current: contextvars.ContextVar[LogOfRun | None] = contextvars.ContextVar("procrastinate_kept_log", default=None)


class LogOfRun:
    """The newest lines that a run logs. Any thread may add one.

    Parameters
    ----------
    on_line:
        Called with :meth:`dump` after each line, in the thread that logs.
    """

    def __init__(self, on_line: Callable[[Callable[[], str]], None]) -> None:
        self._on_line = on_line
        self._lines: collections.deque[tuple[_Line, int]] = collections.deque()
        self._bytes = 0
        self._left_out = 0
        # Reentrant, because the garbage collector may run code that logs.
        self._mutex = threading.RLock()
        self._pid = os.getpid()

    def add(self, record: logging.LogRecord) -> None:
        """Add the line of a record. A child process that the job forks adds nothing: no worker would write it."""
        if os.getpid() != self._pid:
            return
        line = _line_of(record)
        size = _OVERHEAD + sum(len(text.encode()) for text in line[1:])
        with self._mutex:
            self._lines.append((line, size))
            self._bytes += size
            while len(self._lines) > MOST_LINES or self._bytes > MOST_BYTES:
                self._bytes -= self._lines.popleft()[1]
                self._left_out += 1
        self._on_line(self.dump)

    def dump(self) -> str:
        """Return the log as the text of a JSON object."""
        with self._mutex:
            lines, left_out = [line for line, _ in self._lines], self._left_out
        return json.dumps({"lines": lines, "left_out": left_out})


def _line_of(record: logging.LogRecord) -> _Line:
    text = message_of(record)
    if record.exc_info and record.exc_info[1] is not None:
        text = f"{text}\n{traceback_of(record, record.exc_info[1])}"
    elif record.exc_text:
        text = f"{text}\n{json_text(record.exc_text)}"
    level, name = str(record.levelname), str(record.name)
    return _seconds(record.created), _storable(level, _LONGEST_NAME), _storable(name, _LONGEST_NAME), _storable(text)


def _seconds(created: float) -> float:
    """Return the time of a record. A filter of the program may have changed it."""
    return created if isinstance(created, float) and math.isfinite(created) else time.time()


def _storable(text: str, longest: int = _LONGEST_LINE) -> str:
    """Return a text without passwords and without characters that PostgreSQL cannot store."""
    return json_text(text, longest).replace("\0", "\N{REPLACEMENT CHARACTER}")


class _Handler(logging.Handler):
    """Adds each record to the log of the run whose code logs it."""

    def createLock(self) -> None:
        """Make no lock: each log has its own."""
        self.lock = None

    def handle(self, record: logging.LogRecord) -> bool:
        """Add the record. A failure must not reach the code that logs.

        The inherited method needs a lock from Python 3.13 on.
        """
        log = _current.get()
        if log is not None:
            with contextlib.suppress(Exception):
                if not record.name.startswith(_OWN_LOGGERS):
                    log.add(record)
        self._do_without_handlers(record)
        return True

    def _do_without_handlers(self, record: logging.LogRecord) -> None:
        """Write a warning to stderr if the program has no handlers, as logging does if the root logger has none."""
        last_resort = logging.lastResort
        if last_resort is None or record.levelno < last_resort.level or logging.root.handlers != [self]:
            return
        logger: object = logging.root.manager.loggerDict.get(record.name)
        while isinstance(logger, logging.Logger) and logger is not logging.root:
            if logger.handlers:
                return
            logger = logger.parent
        last_resort.handle(record)


_HANDLER = _Handler()
_running = 0
_running_mutex = fork_lock()


@contextlib.contextmanager
def kept(log: LogOfRun) -> Iterator[None]:
    """Keep what is logged in this context. Without such a run, the root logger has no handler of ours."""
    _count(1)
    token = _current.set(log)
    try:
        yield
    finally:
        _current.reset(token)
        _count(-1)


def _count(change: int) -> None:
    global _running
    with _running_mutex:
        _running += change
        if _running > 0:
            logging.root.addHandler(_HANDLER)  # each time, because a task may have configured logging
        else:
            logging.root.removeHandler(_HANDLER)
