"""The loggers of this package. Their records cannot forge other records or control a terminal.

Messages contain foreign text: names of tasks and queues, arguments and errors. A filter makes each record safe before
any handler sees it, so that the code that logs need not.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

from procrastinate._quoting import Cut, quoted, quoted_lines

_OF_TRACEBACKS = (
    "Traceback (most recent call last):",
    "The above exception was the direct cause of the following exception:",
    "During handling of the above exception, another exception occurred:",
)
STACK = "stack"
"""Key in ``extra`` for the text of a stack, which a formatter writes below the message like a traceback."""
_NAMES = ("name", "threadName", "processName", "taskName")
"""Attributes of a record that a format may show, and that may contain the name of a worker or a task."""


def get_logger(name: str) -> logging.Logger:
    """Return the logger with this name. Every logger of this package comes from here."""
    logger = logging.getLogger(name)
    logger.addFilter(_quote)  # adding it twice has no effect
    return logger


class Seldom:
    """Logs a frequent event at most once per interval, with the number of occurrences. The first is logged at once.

    Parameters
    ----------
    message:
        Format with two placeholders: the number of occurrences and the detail of the last one.
    interval:
        Seconds between two records.
    longest:
        Maximum number of characters of a detail in the log.
    """

    def __init__(
        self,
        logger: logging.Logger,
        message: str,
        action: str,
        interval: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
        longest: int = 500,
    ) -> None:
        self._logger = logger
        self._message = message
        self._action = action
        self._interval = interval
        self._clock = clock
        self._longest = longest
        self._count = 0
        self._next = -math.inf

    def note(self, detail: object) -> None:
        """Count one occurrence, and log a record if one is due."""
        self._count += 1
        now = self._clock()
        if now >= self._next:
            count, self._count, self._next = self._count, 0, now + self._interval
            extra = {"action": self._action, "count": count}
            self._logger.warning(self._message, count, Cut(detail, self._longest), extra=extra)


def _quote(record: logging.LogRecord) -> bool:
    """Make the record one printable line, and indent its traceback so that no line looks like a record.

    The exception itself stays in ``exc_info`` for programs that read it.
    """
    _quote_message(record)
    values = vars(record)
    if isinstance(values.get(STACK), str):
        record.stack_info = quoted_lines(values[STACK])
    for name in _NAMES:
        value = values.get(name)
        if isinstance(value, str) and not (value.isascii() and value.isprintable()):
            values[name] = quoted(value)
    if record.exc_info and record.exc_info[1] is not None:
        _quote_traceback(record, record.exc_info)
    return True


def _quote_message(record: logging.LogRecord) -> None:
    try:
        message = record.getMessage()
    except Exception as error:  # for example from str() of a task's return value
        message = f"{record.msg} (its values cannot be written: {type(error).__name__})"
        record.msg, record.args = quoted(message), ()
        return
    safe = quoted(message)
    if safe != message:
        record.msg, record.args = safe, ()


def _quote_traceback(record: logging.LogRecord, exc_info: Any) -> None:
    """Replace the text of an unsafe traceback. The program's formatter writes a safe one."""
    try:
        text = logging.Formatter().formatException(exc_info)
    except Exception as error:  # thousands of causes
        record.exc_text = f"{quoted(exc_info[0].__qualname__)} (its traceback: {type(error).__name__})"
        return
    safe = safe_traceback(text, exc_info[1])
    if safe != text:
        record.exc_text = safe


def safe_traceback(text: str, exception: BaseException) -> str:
    """Return the text of a traceback in which only Python's own lines begin at the margin.

    Notes, and further lines of a message, are indented. A log record never begins with a space.
    """
    names = {quoted(_full_name(type(one))) for one in related(exception)}
    heads = tuple(f"{name}:" for name in names)
    own = {"", *_OF_TRACEBACKS, *names}
    lines = quoted_lines(text).split("\n")
    return "\n".join(line if line in own or line.startswith((" ", *heads)) else f"  {line}" for line in lines)


def _full_name(kind: type[BaseException]) -> str:
    """Return the name of an exception as a traceback writes it."""
    if kind.__module__ in ("builtins", "__main__"):
        return kind.__qualname__
    return f"{kind.__module__}.{kind.__qualname__}"


def related(exception: BaseException) -> Iterator[BaseException]:
    """Yield the exception, its causes and contexts, and the members of groups."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [exception]
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        members = one.exceptions if isinstance(one, BaseExceptionGroup) else ()
        waiting += [one.__cause__, one.__context__, *members]
