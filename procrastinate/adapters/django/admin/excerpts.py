"""Excerpts that the admin reads instead of a job's full arguments and times.

A page lists fifty jobs. Whatever their arguments contain, the page must not fill memory or fail.
"""

from __future__ import annotations

from typing import Any

from django.db.models import (
    BooleanField,
    Case,
    F,
    Func,
    IntegerField,
    OuterRef,
    Q,
    QuerySet,
    Subquery,
    TextField,
    Value,
    When,
)
from django.db.models.functions import Cast, Left, Right
from django.db.models.lookups import Exact, LessThanOrEqual

from procrastinate.adapters.django.models import ProcrastinateError, ProcrastinateEvent, ProcrastinateJob

SHORT = 80
"""Length of the arguments in a list, in characters."""
_READ_SIZE = 20_000
"""Size limit in bytes. PostgreSQL writes out a whole JSON value to show its beginning."""
_SMALL = 2_000
"""Size limit in bytes. Even the longest possible numbers make a text of at most 25 megabytes from it."""
_LONG_NUMBER = "@ > 1e300 || @ < -1e300 || (@ != 0 && @ > -1e-300 && @ < 1e-300)"
"""jsonb stores 1e131071 in ten bytes and writes 131,072 digits. Thousands of these exceed the gigabyte of a text."""
_NOT_READ = ("args", "meta", "trace_context", "lock", "queueing_lock", "limit_name", "limit_key", "step")
"""Columns that may be of any size. The list shows none of them, and the page of a job reads its own locks."""


class _StoredSize(Func):
    """Stored size in bytes of a value in its row, or of the compressed value outside it. Does not read the value."""

    function = "pg_column_size"
    arity = 1
    output_field = IntegerField()


class _SizeInMemory(_StoredSize):
    """Size in bytes of a JSON value in memory."""

    template = "pg_column_size(jsonb_build_array(%(expressions)s))"


class _HasLongNumber(Func):
    """True for a JSON value that contains a number of more than 300 digits."""

    arity = 1
    output_field = BooleanField()
    template = f"""jsonb_path_exists(%(expressions)s, '$.** ? (@.type() == "number" && ({_LONG_NUMBER}))')"""


def with_excerpts(jobs: QuerySet[ProcrastinateJob]) -> QuerySet[ProcrastinateJob]:
    """Return the jobs with what a page shows of them, but without ``args`` and other values that may be large.

    That is ``args_beginning``, ``scheduled_at_text``, ``finished_at_text``, ``started_at``, ``error_class`` and
    ``error_message``. ``args_beginning`` has at most one character more than :data:`SHORT`, and is ``None`` for large
    arguments. The error is that of the last attempt that failed. Its message and the path of its class are cut.
    """
    return jobs.defer(*_NOT_READ).annotate(
        started_at=_of_job(ProcrastinateEvent.objects.filter(type="started"), "at"),
        error_class=_of_job(ProcrastinateError.objects, Right("exception_class", SHORT * 2)),
        error_message=_of_job(ProcrastinateError.objects, Left("message", SHORT * 2)),
        args_beginning=Case(
            When(
                _is_at_most(_StoredSize("args"), _READ_SIZE)
                & _is_at_most(_SizeInMemory("args"), _READ_SIZE)
                & _has_no_long_number("args"),
                then=Left(_text_of("args"), SHORT + 1),
            )
        ),
        scheduled_at_text=_text_of("scheduled_at"),
        finished_at_text=_text_of("finished_at"),
    )


def _of_job(rows: Any, column: Any) -> Subquery:
    """Return the value in the newest of a job's rows. A plain order by the id would walk past the rows of all jobs."""
    newest = rows.filter(job_id=OuterRef("pk")).order_by((F("id") + Value(0)).desc())
    return Subquery(newest.annotate(value=F(column) if isinstance(column, str) else column).values("value")[:1])


def whole_text(column: str) -> Case:
    """Return a JSON value as text, or NULL if long numbers may make it too long for PostgreSQL to write."""
    is_small = _is_at_most(_SizeInMemory(column), _SMALL)
    return Case(When(is_small | _has_no_long_number(column), then=_text_of(column)))


def _is_at_most(size: _StoredSize, limit: int) -> Q:
    return Q(LessThanOrEqual(size, limit))


def _has_no_long_number(column: str) -> Q:
    return Q(Exact(_HasLongNumber(column), False))


def _text_of(column: str) -> Cast:
    return Cast(column, TextField())
