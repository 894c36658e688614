"""Read job arguments and results as text. A fetch reads only small arguments: one row must not fill memory or fail
other jobs.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONPATH

from procrastinate.core.arrays import array_param
from procrastinate.core.tables import jobs

_SMALL = 2000
"""Size limit in bytes.

PostgreSQL compresses or moves out a longer row. Its stored size then no longer tells the size of its text.
"""
_LONG = 2_000_000
"""Size limit in bytes.

Above it, numbers of 300 digits can make a text over one gigabyte, which PostgreSQL refuses to write.
"""

_TEXT = sa.cast(jobs.c.args, sa.Text)


def _is_small(value: sa.ColumnElement[Any]) -> sa.ColumnElement[bool]:
    # The two functions do not read the value itself: 50 ns a job.
    return sa.func.pg_column_compression(value).is_(None) & (sa.func.pg_column_size(value) <= _SMALL)


_IS_SMALL = _is_small(jobs.c.args)
_IS_LONG = sa.func.pg_column_size(sa.func.jsonb_build_array(jobs.c.args)) > _LONG  # the size in memory


def _has_number_beyond(digits: int, value: sa.ColumnElement[Any] = jobs.c.args) -> sa.ColumnElement[bool]:
    """Return a condition: some number has more than ``digits`` digits before or after the decimal point."""
    large, small = f"1e{digits}", f"1e-{digits}"
    is_long = f"@ > {large} || @ < -{large} || (@ != 0 && @ > -{small} && @ < {small})"
    path = f'$.** ? (@.type() == "number" && ({is_long}))'
    return sa.type_coerce(value.path_exists(sa.cast(sa.literal(path), JSONPATH)), sa.Boolean())


_LONGEST_NUMBER = 4300
# Python reads at most 4,300 digits. jsonb stores 1e131071 in ten bytes and writes 131,072 digits. 8,300 such numbers
# fit in a row of 2 kB and exceed the gigabyte that a text may have.
_IS_ENDLESS = _has_number_beyond(_LONGEST_NUMBER)

SMALL_ARGUMENTS = sa.case((_IS_SMALL, _TEXT))
"""For a fetch. NULL for arguments that need a separate read."""
READABLE_ARGUMENTS = sa.case((_IS_SMALL, _TEXT), (_IS_ENDLESS, sa.null()), else_=_TEXT)
"""For one job. NULL if some number is too long for Python to read."""
LISTED_ARGUMENTS = sa.case(
    (_IS_SMALL, _TEXT), (_IS_ENDLESS, sa.null()), (_IS_LONG & _has_number_beyond(300), sa.null()), else_=_TEXT
)
"""For a list. Also NULL if the text may be too long for PostgreSQL to write: the list would fail for all jobs."""
EXCERPT_ARGUMENTS = sa.case((sa.and_(_IS_SMALL, sa.not_(_has_number_beyond(300))), _TEXT))
"""For a page of jobs. NULL for arguments that are large in any sense."""

UNREADABLE = ""
"""Stands for a result that PostgreSQL cannot write as text. It is no JSON."""


def readable_result(value: sa.ColumnElement[Any]) -> sa.ColumnElement[str]:
    """Return a stored result as JSON text, or :data:`UNREADABLE` if some number is too long for Python to read."""
    text = sa.cast(value, sa.Text)
    is_endless = _has_number_beyond(_LONGEST_NUMBER, value)
    return sa.case((_is_small(value), text), (is_endless, sa.literal_column("''", type_=sa.Text())), else_=text)


_LONG_NUMBER = "@ > 1e300 || @ < -1e300 || (@ != 0 && @ > -1e-300 && @ < 1e-300)"


def shown(value: sa.ColumnElement[Any], longest: int) -> sa.ColumnElement[str | None]:
    """Return a JSON value as text, or NULL if the text may be long.

    The size in memory is that of the value without compression. A number of ten bytes can have 131,072 digits.
    """
    size = sa.func.pg_column_size(sa.func.jsonb_build_array(value))
    path: sa.ColumnElement[Any] = sa.literal_column(f"'$.** ? (@.type() == \"number\" && ({_LONG_NUMBER}))'::jsonpath")
    is_readable = sa.and_(size <= longest, sa.not_(sa.func.jsonb_path_exists(value, path, type_=sa.Boolean())))
    return sa.case((is_readable, sa.cast(value, sa.Text)))


_READ = sa.select(jobs.c.id, READABLE_ARGUMENTS).where(jobs.c.id == sa.any_(array_param("ids", sa.BigInteger())))


def read_arguments(connection: sa.Connection, job_ids: Collection[int]) -> dict[int, str | None]:
    """Return the arguments of these jobs as JSON text, by job id.

    The text is ``None`` if PostgreSQL cannot write the arguments. Missing jobs are not in the result.
    """
    return {row[0]: row[1] for row in connection.execute(_READ, {"ids": list(job_ids)})}
