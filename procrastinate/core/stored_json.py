"""Read JSON that any client can have stored."""

from __future__ import annotations

import json
from typing import Any


def load_object(text: str | None) -> dict[str, Any]:
    """Return a stored JSON object, or an empty dict for ``None`` and for anything else that is stored."""
    if text is None:
        return {}
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):  # a number has thousands of digits, or there are thousands of levels
        return {}
    return value if isinstance(value, dict) else {}


def load_headers(text: str | None) -> dict[str, str] | None:
    """Return the headers of a stored trace, or ``None`` without one. Values that are not texts are left out."""
    if text is None:
        return None
    return {name: value for name, value in load_object(text).items() if isinstance(value, str)}
