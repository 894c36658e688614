"""Floats stay floats in a jsonb column."""

from __future__ import annotations

import decimal
import re

_FLOAT_OR_TEXT = re.compile(
    r'"[^"\\]*+(?:\\.[^"\\]*+)*+"|(?<![\d.])-?\d++(?:\.\d++)?[eE]\+?(?P<exponent>\d++)', re.DOTALL
)
"""A text comes first, so that what looks like a number in it is left alone.

The possessive repeats remember no way back: a text of megabytes costs no memory. The look behind starts once at each
number, and not at each of its digits.
"""
_LARGEST_EXPONENT = 400
"""No float has a larger one. A number that is none is left to the database."""


def keep_floats(text: str) -> str:
    """The JSON text with its large floats written out, with a point: ``1e+16`` as ``10000000000000000.0``.

    PostgreSQL keeps the numbers of jsonb as decimals. It writes a number with an exponent without a point, and Python
    would read an int.
    """
    return _FLOAT_OR_TEXT.sub(_written_out, text)


def _written_out(match: re.Match[str]) -> str:
    exponent = match["exponent"]
    if exponent is None or int(exponent) > _LARGEST_EXPONENT:
        return match[0]
    number = format(decimal.Decimal(match[0]), "f")
    return number if "." in number else f"{number}.0"
