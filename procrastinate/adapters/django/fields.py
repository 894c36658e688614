"""Model fields that tolerate any stored value and any query.

Any program may write a row with plain SQL, and PostgreSQL stores values that Python cannot read: infinite times,
numbers of 131,072 digits, JSON of any depth. One such row must not break a query for all other rows.
"""

from __future__ import annotations

import datetime
import enum
import json
from typing import TYPE_CHECKING, Any

from django.core.exceptions import EmptyResultSet
from django.db import models
from django.db.models import lookups

from procrastinate._checks.json_numbers import keep_floats
from procrastinate.core.heartbeats import draw_worker_id

if TYPE_CHECKING:
    _BigIntegerField = models.BigIntegerField[Any, Any]
    _CharField = models.CharField[Any, Any]
    _DateTimeField = models.DateTimeField[Any, Any]
else:
    _BigIntegerField = models.BigIntegerField
    _CharField = models.CharField
    _DateTimeField = models.DateTimeField


class _OrdinaryInMigrations:
    """A field that migrations show as the Django field that it extends."""

    ordinary_path: str

    def deconstruct(self) -> Any:
        """Return name, path and arguments, with the path of Django's class."""
        name, _, args, kwargs = super().deconstruct()  # type: ignore[misc]
        return name, self.ordinary_path, args, kwargs


class WorkerIdField(_OrdinaryInMigrations, _BigIntegerField):
    """The id of a worker, which is drawn when the row is made.

    It is negative. ``loaddata`` and ``sqlsequencereset`` set the sequence of an ``AutoField`` to its largest id, and no
    sequence can have a negative number.
    """

    ordinary_path = "django.db.models.BigAutoField"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "blank": True})

    def deconstruct(self) -> Any:
        """Return the arguments without ``blank``, which each ``AutoField`` is."""
        name, path, args, kwargs = super().deconstruct()
        del kwargs["blank"]
        return name, path, args, kwargs

    def get_pk_value_on_save(self, instance: models.Model) -> int:
        """Return an id for a row without one. A default would make ``save`` insert a row that has one, too."""
        return draw_worker_id()


class WordField(_OrdinaryInMigrations, _CharField):
    """A column of a PostgreSQL enum type. PostgreSQL rejects any other word, even in a condition."""

    ordinary_path = "django.db.models.CharField"

    def knows(self, word: Any) -> bool:
        """Return True if the enum type has this word."""
        return word in {value for value, _ in self.flatchoices}

    def get_prep_value(self, value: Any) -> Any:
        """Return an enum member's value as plain text."""
        return super().get_prep_value(value.value if isinstance(value, enum.Enum) else value)


def _unwrapped(given: Any) -> Any:
    """Return the word that ``Value()`` holds, or what is given."""
    return given.value if isinstance(given, models.Value) else given


class _KnownWordsOnly:
    """A comparison that matches no row if the enum type does not have the given word."""

    rhs: Any
    lhs: Any

    def as_sql(self, compiler: Any, connection: Any) -> Any:
        """Return SQL, or raise ``EmptyResultSet`` so that Django skips the query."""
        words = map(_unwrapped, self.rhs if isinstance(self.rhs, (list, tuple)) else [self.rhs])
        if any(isinstance(word, str) and not self.lhs.output_field.knows(word) for word in words):
            raise EmptyResultSet
        return super().as_sql(compiler, connection)  # type: ignore[misc]


for _lookup in (
    lookups.Exact,
    lookups.GreaterThan,
    lookups.GreaterThanOrEqual,
    lookups.LessThan,
    lookups.LessThanOrEqual,
    lookups.Range,
):
    WordField.register_lookup(type(f"Word{_lookup.__name__}", (_KnownWordsOnly, _lookup), {}))


@WordField.register_lookup
class _WordIn(lookups.In):
    def get_prep_lookup(self) -> Any:
        if self.rhs_is_direct_value():
            self.rhs = list(map(_unwrapped, self.rhs))
        words = super().get_prep_lookup()
        if not isinstance(words, list):  # a query, or expressions
            return words
        knows = self.lhs.output_field.knows
        return [word for word in words if not isinstance(word, str) or knows(word)]


LAST_TIME = datetime.datetime(9999, 12, 30, tzinfo=datetime.UTC)
"""The last time that every time zone can show."""
_FIRST, _LAST = "'0001-01-02 00:00+00'::timestamptz", f"'{LAST_TIME:%Y-%m-%d %H:%M}+00'::timestamptz"


class TimeField(_OrdinaryInMigrations, _DateTimeField):
    """A time, or ``None`` if Python cannot represent it in every time zone: infinity, before year 1, after 9999."""

    ordinary_path = "django.db.models.DateTimeField"

    def select_format(self, compiler: Any, sql: str, params: Any) -> tuple[str, tuple[Any, ...]]:
        """Return SQL that replaces such a time with NULL. Otherwise the driver fails before Django sees the value."""
        return f"CASE WHEN {sql} BETWEEN {_FIRST} AND {_LAST} THEN {sql} END", (*params, *params)


class DueTimeField(TimeField):
    """The time at which a job is due or a key is free. A later one than Python can represent is :data:`LAST_TIME`.

    Without a time, a job is due at once. With ``None``, ``dumpdata`` and ``loaddata`` would make such a job start, and
    each step of a workflow that waits for others.
    """

    def select_format(self, compiler: Any, sql: str, params: Any) -> tuple[str, tuple[Any, ...]]:
        """Return SQL that replaces a time out of range."""
        text, parameters = super().select_format(compiler, sql, params)
        return f"CASE WHEN {sql} > {_LAST} THEN {_LAST} ELSE {text} END", (*params, *parameters)


class UnreadableJSON(str):
    """The text of a JSON value that Python rejects: a number of more than 4,300 digits, or too deep nesting."""

    __slots__ = ()


class _KeepFloats(json.JSONEncoder):
    def encode(self, o: Any) -> str:
        return keep_floats(super().encode(o))


class AnyJSONField(_OrdinaryInMigrations, models.JSONField):
    """A JSON field that returns :class:`UnreadableJSON` for a value that Python rejects.

    It writes floats as the queue does, because ``loaddata`` writes through this field.
    """

    ordinary_path = "django.db.models.JSONField"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.encoder = _KeepFloats

    def deconstruct(self) -> Any:
        """Return the arguments without the encoder, which no migration needs."""
        name, path, args, kwargs = super().deconstruct()
        del kwargs["encoder"]
        return name, path, args, kwargs

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> Any:
        """Return the value, or its text if Python rejects it."""
        try:
            return super().from_db_value(value, expression, connection)
        except (ValueError, RecursionError):
            return UnreadableJSON(value)
