"""What keeps every load small: time limits, plans that follow an index, and counts that stop."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Concatenate, ParamSpec, TypeVar

import sqlalchemy as sa

from procrastinate.core.fetch import from_microseconds, microseconds
from procrastinate.core.operation_marks import atomic

P = ParamSpec("P")
R = TypeVar("R")

_PLANS = {
    "jit": "off",
    # Without statistics, PostgreSQL takes a table of millions of rows for a small one, and would read and sort it
    # whole to return its first rows. Every load orders its rows as an index does, and joins few of them by an id.
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_sort": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
}
_SETTINGS = {"statement_timeout": "2000"} | _PLANS


class Moment(sa.types.TypeDecorator[datetime.datetime]):
    """A time that crosses as a number, because drivers refuse times outside Python's range."""

    impl = sa.BigInteger
    cache_ok = True

    def process_result_value(self, value: int | None, dialect: Any) -> datetime.datetime | None:
        """Return the time. ``None`` stands for NULL and for an infinite time."""
        return from_microseconds(value)


def moment(time: sa.ColumnElement[Any]) -> sa.ColumnElement[datetime.datetime | None]:
    """Return a time in a form that is safe to read."""
    return sa.type_coerce(microseconds(time), Moment())


def _current(name: str) -> sa.ColumnElement[str]:
    return sa.func.current_setting(name, type_=sa.Text()).label(name)


def _set_of(names: Iterable[str]) -> Any:
    return sa.select(*[sa.func.set_config(name, sa.bindparam(name, type_=sa.Text()), sa.true()) for name in names])


_ENTER: Any = sa.select(moment(sa.func.clock_timestamp()).label("now"), *[_current(name) for name in _SETTINGS])
_SET = _set_of(_SETTINGS)
_CURRENT_PLANS: Any = sa.select(*[_current(name) for name in _PLANS])
_SET_PLANS = _set_of(_PLANS)


@contextlib.contextmanager
def along_indexes(connection: sa.Connection) -> Iterator[None]:
    """Let the statements of the block follow indexes, with statistics or without. No time limit applies.

    The operation around the block must be atomic. An error in the block rolls the settings back.
    """
    before = dict(connection.execute(_CURRENT_PLANS).one()._mapping)
    with connection.begin_nested():
        connection.execute(_SET_PLANS, _PLANS)
        yield
        connection.execute(_SET_PLANS, before)


def load(
    function: Callable[Concatenate[sa.Connection, datetime.datetime, P], R],
) -> Callable[Concatenate[sa.Connection, P], R]:
    """Turn a function of a connection and the database's time into a bounded operation.

    Each statement gets two seconds. The settings end with the operation, also inside a longer transaction of the user.
    An error rolls them back.
    """

    @atomic
    @functools.wraps(function)
    def bounded(connection: sa.Connection, /, *args: P.args, **kwargs: P.kwargs) -> R:
        before = dict(connection.execute(_ENTER).one()._mapping)
        now = before.pop("now")
        connection.execute(_SET, _SETTINGS)
        answer = function(connection, now, *args, **kwargs)
        connection.execute(_SET, before)
        return answer

    return bounded


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Count:
    """A number of rows. ``is_more`` is true if there are more than ``number``. The rest is not counted."""

    number: int
    is_more: bool = False

    def __str__(self) -> str:
        return f"{self.number:,}+" if self.is_more else f"{self.number:,}"


def to_count(number: int | None, limit: int) -> Count:
    """Return a count whose statement stopped after ``limit`` rows and one more."""
    number = number or 0
    return Count(number=min(number, limit), is_more=number > limit)


def bounded_count(rows: sa.Select[Any], limit: int) -> sa.ScalarSelect[int]:
    """Return the query for the number of these rows, which stops one row after the limit.

    ``rows`` must be in the order of an index. Otherwise PostgreSQL reads all rows and sorts them.
    """
    return sa.select(sa.func.count()).select_from(rows.limit(_number(limit + 1)).subquery()).scalar_subquery()


def first_rows(rows: sa.Select[Any], limit: int, name: str) -> sa.Subquery:
    """Return the first rows as a subquery. PostgreSQL reads no more of the table, whatever the outer query asks."""
    return rows.limit(_number(limit)).subquery(name)


def _number(value: int) -> sa.ColumnElement[int]:
    """Return a literal. A plan that does not know the limit would be made for a tenth of the table."""
    return sa.literal_column(str(int(value)), type_=sa.Integer())
