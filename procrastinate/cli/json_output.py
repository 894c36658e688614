"""Answers as JSON, for ``--json``."""

from __future__ import annotations

import dataclasses
import datetime
import json
from typing import Any

from procrastinate._text.terminal import write


def write_json(value: Any) -> None:
    """Write frozen records, lists and dicts as JSON. Times are in ISO 8601."""
    write(json.dumps(_plain(value), indent=2, default=_text))


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    return value


def _text(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime.datetime) else str(value)
