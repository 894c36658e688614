"""JSON as a jsonb column returns it, so that tests in memory see the same values as workers."""

from __future__ import annotations

import decimal
import json
from typing import Any


def load_jsonb(text: str) -> Any:
    """Return the value of a JSON text after a round trip through a jsonb column.

    PostgreSQL stores numbers as decimals without an exponent. A float of 1e16 or more loses its decimal point and is
    read as an int. There is no negative zero. Object keys are ordered by length, and the last of two equal keys
    remains.
    """
    return json.loads(text, parse_float=_number, object_pairs_hook=_object)


def _number(text: str) -> int | float:
    written_out = format(decimal.Decimal(text), "f")
    return float(written_out) + 0.0 if "." in written_out else int(decimal.Decimal(text))


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return dict(sorted(dict(pairs).items(), key=lambda pair: (len(pair[0].encode()), pair[0].encode())))
