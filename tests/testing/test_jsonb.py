"""JSON in memory is as a jsonb column gives it back: numbers, keys and their order."""

from __future__ import annotations

import json
from typing import Any

import pytest
import sqlalchemy as sa

from procrastinate.testing.jsonb import load_jsonb

TEXTS = [
    *("1e15", "1e16", "1e+22", "1.5e16", "1.7976931348623157e308", "1e-7", "5e-324", "1.0", "-0.0", "0.1", "1e0", "-0"),
    *("123456789012345678901234567890", "12345678901234567890.5", "-1e20", "1E5", "0e10", "1.10"),
    '{"b": 1, "aa": 2, "a": 3, "é": 4, "": 5}',
    '{"a": 1, "a": 2}',
    '{"1": [1e16, {"z": 1e16, "y": null}]}',
    '"\\u00e9\\ud83d\\ude00\\n"',
    "[1, [2.0, []], {}, true, false, null]",
    json.dumps({1: "int key", "x": (1, 2)}),
]


def with_types(value: Any) -> Any:
    """So that 1 and 1.0 are not equal, and the order of keys counts."""
    if isinstance(value, dict):
        return [(key, with_types(one)) for key, one in value.items()]
    return [with_types(one) for one in value] if isinstance(value, list) else repr(value)


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_is_loaded_as_from_the_database(connection: sa.Connection, text: str) -> None:
    kept = connection.execute(sa.text("SELECT CAST(CAST(:text AS jsonb) AS text)"), {"text": text}).scalar_one()
    assert with_types(load_jsonb(text)) == with_types(json.loads(kept))
