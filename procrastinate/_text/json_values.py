"""Any Python value as bounded JSON without secrets, for a log record."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from procrastinate._quoting import LONGEST_TEXT, LONGEST_VALUE, described, shortened

FILTERED = "[Filtered]"
"""What stands in place of a secret."""

_SECRET_NAME = re.compile(
    r"passw(or)?d|passphrase|secret|token|credential|authorization|cookie|api_?key|private_?key|(^|_)dsn($|_)",
    re.IGNORECASE,
)
_URL_PASSWORD = re.compile(r"(://[^\s:/?#@]{0,200}:)[^\s/]{1,500}@")
"""The password in a URL. It may contain an unescaped ``@``."""
_QUOTED_PASSWORD = re.compile(r"\b(password\s*=\s*)('(?:[^'\\]|\\.){0,500}'|[^\s'\",)&]{1,500})", re.IGNORECASE)
"""The password in a connection string of libpq, or in the query of a URL."""
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_DEEPEST = 8
_TOO_DEEP = "..."
_MOST_ITEMS = 200
_LARGEST = 2**63


def json_value(value: Any, depth: int = 0) -> Any:
    """Return a value that ``json.dumps`` can write and that every parser can read.

    Secrets are filtered, long texts and large containers are cut, and another object becomes its ``repr``.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return json_text(value, LONGEST_VALUE)
    if isinstance(value, int):
        return int(value) if -_LARGEST <= value < _LARGEST else described(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(float(value))
    if isinstance(value, Mapping):
        return _object(value, depth + 1) if depth < _DEEPEST else _TOO_DEEP
    if isinstance(value, (list, tuple, set, frozenset)):
        return _array(value, depth + 1) if depth < _DEEPEST else _TOO_DEEP
    return json_text(described(value), LONGEST_VALUE)


def json_text(text: str, longest: int = LONGEST_TEXT) -> str:
    """Return the text without passwords and lone surrogates, cut to about ``longest`` characters."""
    cut = shortened(text, longest)
    if "://" in cut:
        cut = _URL_PASSWORD.sub(rf"\1{FILTERED}@", cut)
    if "=" in cut:
        cut = _QUOTED_PASSWORD.sub(rf"\1{FILTERED}", cut)
    return str(cut) if cut.isascii() else _LONE_SURROGATE.sub("\N{REPLACEMENT CHARACTER}", cut)


def _object(mapping: Mapping[Any, Any], depth: int) -> dict[str, Any]:
    written: dict[str, Any] = {}
    for key, value in mapping.items():
        if len(written) == _MOST_ITEMS:
            written["..."] = f"{len(mapping) - _MOST_ITEMS:,} more"
            break
        name = json_text(key if isinstance(key, str) else described(key), LONGEST_VALUE)
        written[name] = FILTERED if _SECRET_NAME.search(name) else json_value(value, depth)
    return written


def _array(items: Any, depth: int) -> list[Any]:
    written: list[Any] = []
    for item in items:
        if len(written) == _MOST_ITEMS:
            written.append(f"... {len(items) - _MOST_ITEMS:,} more")
            break
        written.append(json_value(item, depth))
    return written
