"""Checks for names, locks and priorities. Values that the database would refuse raise here, with their name."""

from __future__ import annotations

import math
import uuid
from typing import Any

from procrastinate import exceptions
from procrastinate.core.defaults import LARGEST_PRIORITY, SMALLEST_PRIORITY

NAME_LENGTH = 128
_LOCK_BYTES = 2600
"""A B-tree index entry in PostgreSQL has at most 2,704 bytes, including overhead
(https://www.postgresql.org/docs/current/btree.html)."""
_NUL = "a NUL character, which PostgreSQL cannot store"
_HALF = "half a character (a lone surrogate), which is no text"
_NAN = "NaN or an infinity, which JSON does not have"


def check_name(what: str, value: Any) -> None:
    """Check the name of a queue or a task.

    Raises
    ------
    InvalidJob
        The name is invalid. The message names the argument, as in the other checks here.
    """
    _check_text(what, value, or_none=False)
    if not value.strip():
        raise exceptions.InvalidJob(f"The {what} is empty: {value!r}. Is a variable not set?")
    if len(value) > NAME_LENGTH:
        raise exceptions.InvalidJob(
            f"The {what} has {len(value)} characters, {NAME_LENGTH} are allowed: {value[:40]!r}..."
        )


def check_lock(what: str, value: Any) -> None:
    """Check the lock of a job. ``None`` means no lock and is valid. An empty string is a lock."""
    value = lock_text(value)
    _check_text(what, value)
    if value is not None and len(value.encode()) > _LOCK_BYTES:
        raise exceptions.InvalidJob(
            f"The {what} has {len(value.encode())} bytes, {_LOCK_BYTES} are allowed (make it from a hash): "
            f"{value[:40]!r}..."
        )


def lock_text(value: Any) -> Any:
    """Return a lock as it is stored. The id of a row is written as PostgreSQL's drivers write it for a text column.

    Programs for 3.x lock by such ids, and their waiting jobs have locks of this form.
    """
    if isinstance(value, uuid.UUID):
        return value.hex
    if isinstance(value, int) and not isinstance(value, bool):
        return str(int(value))
    return value


def _check_text(what: str, value: Any, *, or_none: bool = True) -> None:
    if value is None and or_none:
        return
    if not isinstance(value, str):
        raise exceptions.InvalidJob(f"The {what} must be a str, not {type(value).__name__}: {value!r}")
    fault = find_fault(value)
    if fault is not None:
        raise exceptions.InvalidJob(f"The {what} contains {fault}: {value!r}")


def check_priority(priority: Any) -> None:
    """Check the priority of a job. ``True`` and ``False`` are invalid."""
    is_number = isinstance(priority, int) and not isinstance(priority, bool)
    if not is_number or not SMALLEST_PRIORITY <= priority <= LARGEST_PRIORITY:
        raise exceptions.InvalidJob(
            f"The priority must be a whole number from {SMALLEST_PRIORITY} to {LARGEST_PRIORITY}, not {priority!r}"
        )


def find_fault(value: Any) -> str | None:
    """Return a description of the first thing in a value that PostgreSQL would refuse, or ``None``."""
    if isinstance(value, str):
        if "\0" in value:
            return _NUL
        return None if is_encodable(value) else _HALF
    if isinstance(value, float):
        return None if math.isfinite(value) else _NAN
    if isinstance(value, dict):
        return next(filter(None, map(find_fault, (*value.keys(), *value.values()))), None)
    if isinstance(value, list):
        return next(filter(None, map(find_fault, value)), None)
    return None


def is_encodable(text: str) -> bool:
    """Return true if a string has no lone surrogates and can be encoded as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
