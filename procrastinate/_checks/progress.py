"""The progress that a task reports: checked when it is given, and written as JSON later."""

from __future__ import annotations

import json
from typing import Any

from procrastinate._checks.amounts import read_finite

LONGEST_MESSAGE = 1_000
"""Maximum length of the message of a progress, in characters."""
_LARGEST_AMOUNT = 2**63 - 1

CheckedProgress = tuple[int | float, int | float | None, str | None]


def check_progress(done: Any, total: Any, message: Any) -> CheckedProgress:
    """Return the values of a progress.

    Raises
    ------
    TypeError, ValueError
        A number is not finite, is negative, or has more than 18 digits.
    """
    return (
        _read_amount("done", done),
        None if total is None else _read_amount("total", total),
        None if message is None else str(message),
    )


def _read_amount(name: str, value: Any) -> int | float:
    number = read_finite(name, value)
    if not 0 <= number <= _LARGEST_AMOUNT:
        raise ValueError(f"{name} must be between 0 and {_LARGEST_AMOUNT}, not {value!r}")
    return number


def dump_progress(progress: CheckedProgress) -> str:
    """Return a progress as the text of a JSON object. Characters that PostgreSQL cannot store are replaced."""
    done, total, message = progress
    if message is not None:
        message = message[:LONGEST_MESSAGE].replace("\0", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()
    return json.dumps({"done": done, "total": total, "message": message})
