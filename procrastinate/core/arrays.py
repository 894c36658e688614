"""Many rows in one statement: one bound array a column, opened again by ``unnest``.

The text of the statement is the same for one row and for ten thousand, so it is compiled and planned once.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import TypeEngine


class Word(sa.types.TypeDecorator[str]):
    """Text that is one plain word: a status, say."""

    impl = sa.Text
    cache_ok = True


class _Written(sa.types.TypeDecorator[Sequence[Any]]):
    """An array as PostgreSQL writes it: drivers are given text.

    A program can tell its driver what to make of a list: JSON, say. Without that, drivers write an array value by
    value, in Python: for the outcome of a job, a twentieth of a worker's time.

    https://www.postgresql.org/docs/current/arrays.html#ARRAYS-IO

    Parameters
    ----------
    write:
        Writes an item that is not ``None``.
    """

    impl = sa.Text
    cache_ok = True

    def __init__(self, write: Callable[[Any], str] = str) -> None:
        super().__init__()
        self.write = write

    def process_bind_param(self, value: Sequence[Any] | None, dialect: sa.Dialect) -> str | None:
        """Write the value as text. A value that :func:`write_array` has written stays as it is."""
        return value if value is None or isinstance(value, str) else _join(value, self.write)


class _WrittenTime(sa.types.TypeDecorator[Any]):
    """A time as drivers are given it: text.

    A program can tell its driver what to make of a time, as of a list: a local time without a zone, say.
    """

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: datetime.datetime | str | None, dialect: sa.Dialect) -> str | None:
        """Write the value as text. A value that the operation has written stays as it is."""
        return write_time(value) if isinstance(value, datetime.datetime) else value


def write_time(time: datetime.datetime) -> str:
    """Write the value of a :func:`time_param`, for a statement whose parameters pass SQLAlchemy's types by.

    PostgreSQL reads no offset of 16 hours and none with microseconds, which Python allows.
    """
    try:
        return time.astimezone(datetime.UTC).isoformat()
    except OverflowError:  # at the ends of the years that Python knows
        return time.isoformat()


def time_param(name: str) -> sa.ColumnElement[Any]:
    """Return a bound time."""
    return sa.cast(sa.bindparam(name, type_=_WrittenTime()), sa.DateTime(timezone=True))


def is_not_set_aside(job_id: sa.ColumnElement[int]) -> sa.ColumnElement[bool]:
    """Return a condition that leaves out the jobs of the parameter ``set_aside``."""
    return job_id != sa.all_(array_param("set_aside", sa.BigInteger()))


def _join(values: Sequence[Any], write: Callable[[Any], str]) -> str:
    return "{" + ",".join(["NULL" if item is None else write(item) for item in values]) + "}"


def _quote(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _quote_time(time: datetime.datetime) -> str:
    return f'"{write_time(time)}"'


def _writer(item_type: TypeEngine[Any]) -> Callable[[Any], str]:
    """Return the function that writes an item. A number, a truth value and a plain word need no quotes."""
    if isinstance(item_type, sa.DateTime):
        return _quote_time
    return _quote if isinstance(item_type, sa.Text) else str


def write_array(values: Sequence[Any], item_type: TypeEngine[Any]) -> str:
    """Write the value of an :func:`array_param`, for a statement whose parameters pass SQLAlchemy's types by."""
    return _join(values, _writer(item_type))


def array_param(name: str, item_type: TypeEngine[Any]) -> sa.ColumnElement[Any]:
    """Return a bound array, cast: an array of nothing but ``None`` carries no type of its own."""
    array_type: ARRAY[Any] = ARRAY(item_type)
    return sa.cast(sa.bindparam(name, type_=_Written(_writer(item_type))), array_type)


def unnest(columns: Mapping[str, TypeEngine[Any]], *, name: str) -> sa.TableValuedAlias:
    """Return a table of the bound arrays ``columns``, with their position in ``ordinality``.

    Parameters
    ----------
    columns:
        Name and type of each column. :func:`transpose` makes the bound parameters.
    name:
        Alias of the table in the statement.
    """
    table = sa.func.unnest(*(array_param(_parameter(column), type_) for column, type_ in columns.items())).table_valued(
        *(sa.column(column, type_) for column, type_ in columns.items()),
        with_ordinality="ordinality",
        name=name,
    )
    return table.render_derived(name=name)


def each_of(parameter: str, type_: TypeEngine[Any], column: str, *, name: str) -> sa.TableValuedAlias:
    """Return a table of one bound array."""
    return sa.func.unnest(array_param(parameter, type_)).table_valued(column, name=name).render_derived()


def transpose(records: Sequence[Any], columns: Iterable[str]) -> dict[str, list[Any]]:
    """Return the parameters for :func:`unnest`: one list per column."""
    return {_parameter(column): [getattr(record, column) for record in records] for column in columns}


def write_columns(records: Sequence[Any], columns: Mapping[str, TypeEngine[Any]]) -> dict[str, str]:
    """Do as :func:`transpose`, for a statement whose parameters pass SQLAlchemy's types by."""
    return {
        _parameter(column): write_array([getattr(record, column) for record in records], item_type)
        for column, item_type in columns.items()
    }


def is_one_of(column: sa.ColumnElement[Any], ids: sa.Select[Any]) -> sa.ColumnElement[bool]:
    """Return whether the column is one of a query's values. The query runs once, then each value probes an index.

    A join would be planned by how many rows the planner believes in. Of a limit that it does not know (as in a
    prepared statement) it believes a tenth of the table, and reads all of the other side.
    """
    return column == sa.any_(sa.func.array(ids.scalar_subquery(), type_=ARRAY(column.type)))


def _parameter(column: str) -> str:
    # Not the name of the column: SQLAlchemy keeps those for the SET clause of an update.
    return f"{column}_list"
