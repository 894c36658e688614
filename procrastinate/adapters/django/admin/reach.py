"""Limit the rows that the list, and the box for a job in another model's form, search without an index.

No index of ended jobs contains task names, queue names, locks or words, so a search would read every job. Such a search
covers the newest jobs, the newest ended jobs of the selected status, or the first waiting jobs to run. The page
therefore loads fast, however long the table is, and the filter shows the range.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.contrib import admin
from django.db.models import BooleanField, QuerySet
from django.db.models.expressions import RawSQL
from django.http import HttpRequest

from procrastinate.adapters.django.models import ProcrastinateJob
from procrastinate.core.enums import Status
from procrastinate.core.listing import first_waiting_sql

NEWEST = 100_000
FIRST_WAITING = 10_000
"""Per state: ready, upcoming, and parked behind a lock."""

ENDED = {status.value for status in (Status.SUCCEEDED, Status.FAILED, Status.CANCELLED, Status.ABORTED)}


class ReachFilter(admin.SimpleListFilter):
    """Filter that lets the user search all jobs."""

    title = "search range"
    parameter_name = "reach"
    everything = "all"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Return the only choice apart from the default."""
        return [(self.everything, "all jobs (may be slow)")]

    def choices(self, changelist: Any) -> Iterator[Any]:
        """Return the choices, with the default range in place of "All"."""
        default, *rest = super().choices(changelist)
        yield {**default, "display": f"the newest {NEWEST:,}, or the first waiting jobs"}
        yield from rest

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Return the jobs unchanged: the list applies the range, because it knows the other filters."""
        return queryset


def is_autocomplete(request: HttpRequest) -> bool:
    """Return True if a form of another model searches for its job. The list limits its searches itself."""
    return request.resolver_match is not None and request.resolver_match.url_name == "autocomplete"


def within_reach(jobs: QuerySet[ProcrastinateJob], status: str | None) -> QuerySet[ProcrastinateJob]:
    """Return the jobs that a search of the list covers.

    Parameters
    ----------
    status:
        The selected status, or ``None``.
    """
    if status == Status.TODO.value:
        return _first_waiting(jobs)
    if status == Status.DOING.value:
        return jobs  # no more jobs than the workers run
    everything = ProcrastinateJob.objects.using(jobs.db)
    if status in ENDED:
        ended = everything.filter(status=status, finished_at__isnull=False)
        return _newest(jobs, ended, "finished_at")
    return _newest(jobs, everything, "id")


def _newest(
    jobs: QuerySet[ProcrastinateJob], looked_through: QuerySet[ProcrastinateJob], column: str
) -> QuerySet[ProcrastinateJob]:
    """Return the jobs not older than the oldest of the newest :data:`NEWEST`. Return all if there are fewer.

    The first query reads the oldest id along an index, and the second one reads its time. In one query, Django would
    order by the expression that reads any time.
    """
    newest = looked_through.order_by(f"-{column}").values_list("pk", flat=True)
    oldest = next(iter(newest[NEWEST - 1 : NEWEST]), None)
    value = looked_through.filter(pk=oldest).values_list(column, flat=True).first() if oldest is not None else None
    return jobs if value is None else jobs.filter(**{f"{column}__gte": value})


def _first_waiting(jobs: QuerySet[ProcrastinateJob]) -> QuerySet[ProcrastinateJob]:
    """Return the jobs that are among the first waiting ones. PostgreSQL finds these first, then each row by its id."""
    is_first = f"procrastinate_jobs.id = ANY (ARRAY({first_waiting_sql(FIRST_WAITING)}))"
    return jobs.filter(RawSQL(is_first, [], output_field=BooleanField()))
