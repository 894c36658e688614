"""Read the text of log records of any program. Their values may raise when they are written."""

from __future__ import annotations

import logging
import traceback

from procrastinate._quoting import described
from procrastinate._text.json_values import json_text


def message_of(record: logging.LogRecord) -> str:
    """Return the message of a record without passwords. Raises nothing because of the record's values."""
    try:
        return json_text(record.getMessage())
    except Exception as error:  # the values do not fit the message, or str() of one raises
        return f"{json_text(text_of(record.msg))} (its values cannot be written: {type(error).__name__})"


def text_of(value: object) -> str:
    """Return the ``str`` of a value, or its description if that raises."""
    try:
        return str(value)
    except Exception:
        return described(value)


def traceback_of(record: logging.LogRecord, error: BaseException) -> str:
    """Return the traceback of a record's exception without passwords."""
    if record.exc_text:
        return json_text(record.exc_text)
    try:
        return json_text("".join(traceback.format_exception(error)).rstrip("\n"))
    except Exception as failure:  # thousands of causes
        return f"its traceback cannot be written: {type(failure).__name__}"
