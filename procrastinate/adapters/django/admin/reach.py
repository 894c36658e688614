"""How many jobs a question of the list looks through that no index answers.

Names of tasks and queues, words and locks are in no index of ended jobs: each would cost every job. Such a question
looks through the newest jobs, or through the newest that ended in the status that is asked for, or through the waiting
ones that run first. So a page is there at once, however long the table is, and the filter says what it has looked at.
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
"""Of each state: ready, upcoming, and parked behind a lock."""

ENDED = {status.value for status in (Status.SUCCEEDED, Status.FAILED, Status.CANCELLED, Status.ABORTED)}


class ReachFilter(admin.SimpleListFilter):
    """Lets the user look through all jobs."""

    title = "looked through"
    parameter_name = "reach"
    everything = "all"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Return the choice beside the default."""
        return [(self.everything, "all jobs, which may take long")]

    def choices(self, changelist: Any) -> Iterator[Any]:
        """Return the choices, with what the default looks through in place of "All"."""
        default, *rest = super().choices(changelist)
        yield {**default, "display": f"the newest {NEWEST:,}, or the first of those that wait"}
        yield from rest

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Return the jobs as they are: the list knows what else is asked."""
        return queryset


def within_reach(jobs: QuerySet[ProcrastinateJob], status: str | None) -> QuerySet[ProcrastinateJob]:
    """Return those of the jobs that a question of the list looks through.

    Parameters
    ----------
    status:
        The one status that is asked for.
    """
    if status == Status.TODO.value:
        return _first_waiting(jobs)
    if status == Status.DOING.value:
        return jobs  # no more than the workers run
    everything = ProcrastinateJob.objects.using(jobs.db)
    if status in ENDED:
        ended = everything.filter(status=status, finished_at__isnull=False)
        return _newest(jobs, ended, "finished_at")
    return _newest(jobs, everything, "id")


def _newest(
    jobs: QuerySet[ProcrastinateJob], looked_through: QuerySet[ProcrastinateJob], column: str
) -> QuerySet[ProcrastinateJob]:
    """Return the jobs from the oldest on of the newest, if there are so many. It is read first, along an index.

    Its time is read by its number: in one query, Django would order by the expression that reads any time.
    """
    newest = looked_through.order_by(f"-{column}").values_list("pk", flat=True)
    oldest = next(iter(newest[NEWEST - 1 : NEWEST]), None)
    value = looked_through.filter(pk=oldest).values_list(column, flat=True).first() if oldest is not None else None
    return jobs if value is None else jobs.filter(**{f"{column}__gte": value})


def _first_waiting(jobs: QuerySet[ProcrastinateJob]) -> QuerySet[ProcrastinateJob]:
    """Return those that are among the first waiting jobs. PostgreSQL finds these first, and then each by its id."""
    is_first = f"procrastinate_jobs.id = ANY (ARRAY({first_waiting_sql(FIRST_WAITING)}))"
    return jobs.filter(RawSQL(is_first, [], output_field=BooleanField()))
