"""JSON as a column of type jsonb gives it back: what a test sees in memory is what a worker sees."""

from __future__ import annotations

import decimal
import json
from typing import Any


def load_jsonb(text: str) -> Any:
    """The value of a JSON text that has been in a jsonb column.

    PostgreSQL keeps numbers as decimals, written out: a float of 1e16 or more has no point any more and is read as an
    int. It has no negative zero. It orders the keys of an object by length, and keeps the last of two equal ones.
    """
    return json.loads(text, parse_float=_number, object_pairs_hook=_object)


def _number(text: str) -> int | float:
    written_out = format(decimal.Decimal(text), "f")
    return float(written_out) + 0.0 if "." in written_out else int(decimal.Decimal(text))


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return dict(sorted(dict(pairs).items(), key=lambda pair: (len(pair[0].encode()), pair[0].encode())))
