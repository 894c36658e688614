"""Rewriting of JSON numbers, so that floats stay floats in a jsonb column."""

from __future__ import annotations

import decimal
import re

_FLOAT_OR_TEXT = re.compile(
    r'"[^"\\]*+(?:\\.[^"\\]*+)*+"|(?<![\d.])-?\d++(?:\.\d++)?[eE]\+?(?P<exponent>\d++)', re.DOTALL
)
"""Strings come first, so that digits inside them are left alone.

Possessive quantifiers do not backtrack, so that megabytes of text cost no extra memory. The lookbehind makes the search
start once at each number and not at each digit.
"""
_LARGEST_EXPONENT = 400
"""No float has a larger exponent. Larger numbers are left to the database."""


def keep_floats(text: str) -> str:
    """Return the JSON text with large floats written out: ``1e+16`` becomes ``10000000000000000.0``.

    PostgreSQL stores numbers in jsonb as decimals. It prints a number with an exponent without a decimal point, which
    Python would read as an int.
    """
    return _FLOAT_OR_TEXT.sub(_written_out, text)


def _written_out(match: re.Match[str]) -> str:
    exponent = match["exponent"]
    if exponent is None or int(exponent) > _LARGEST_EXPONENT:
        return match[0]
    number = format(decimal.Decimal(match[0]), "f")
    return number if "." in number else f"{number}.0"
