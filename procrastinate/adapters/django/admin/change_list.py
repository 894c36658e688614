"""The list of jobs: its query, built from the URL, and the limit of that query."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ERROR_FLAG, ChangeList
from django.core.exceptions import FieldError
from django.db import DataError, NotSupportedError, ProgrammingError, transaction
from django.http import HttpRequest

from procrastinate.adapters.django.admin.actions import is_job_id
from procrastinate.adapters.django.admin.reach import ENDED, ReachFilter, within_reach

_REFUSALS = (
    DataError,
    NotSupportedError,
    ProgrammingError,
    FieldError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
)
"""Exceptions of Django and PostgreSQL for a value or an operator that a column does not accept."""

_STATUS_PARAMETERS = ("status", "status__exact")
_BY_ID = {"id", "id__exact", "id__in", "pk", "pk__exact", "pk__in"}


class JobChangeList(ChangeList):
    """List of jobs whose queries use the indexes and whose row limit does not appear as the number of jobs."""

    full_result_count: Any

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> Any:
        """Return the jobs that match the URL, within the rows that the list searches."""
        jobs = super().get_queryset(request, exclude_parameters)
        if self._status in ENDED:
            # Every ended job has an end time. PostgreSQL uses the index only if the query says so.
            jobs = jobs.filter(finished_at__isnull=False)
        if self._asks_for_ids() or self._looks_through_all():
            return jobs
        if self.query or self.filter_params.keys() - {ReachFilter.parameter_name}:
            return within_reach(jobs, self._status)
        return jobs

    def get_ordering(self, request: HttpRequest, queryset: Any) -> list[Any]:
        """Return the order. Jobs of one ended status follow their end time, as the index does."""
        ordering = list(super().get_ordering(request, queryset))
        if self._status not in ENDED:
            return ordering
        return ["finished_at", "id"] if {"id", "pk"} & set(ordering) else ["-finished_at", "-id"]

    @property
    def _status(self) -> str | None:
        """The requested status if there is exactly one, else ``None``."""
        asked = {word for name in _STATUS_PARAMETERS for word in self.filter_params.get(name, ())}
        return asked.pop() if len(asked) == 1 else None

    def _asks_for_ids(self) -> bool:
        if _BY_ID & self.filter_params.keys():
            return True
        return is_job_id(self.query) and self.root_queryset.filter(pk=self.query).exists()

    def _looks_through_all(self) -> bool:
        return self.filter_params.get(ReachFilter.parameter_name) == [ReachFilter.everything]

    def get_results(self, request: HttpRequest) -> None:
        """Read the page. Django shows no count and no link to all jobs if the count is the full one."""
        super().get_results(request)
        is_whole = not self.query and not self.filter_params
        if self.paginator.is_bounded or is_whole:
            self.full_result_count = self.result_count


@contextlib.contextmanager
def refused_as_bad_lookups(request: HttpRequest, alias: str) -> Iterator[None]:
    """Raise ``IncorrectLookupParameters`` for URL parameters that the database refuses.

    Without parameters, an error is a fault of the program or the database and passes unchanged.
    """
    try:
        with transaction.atomic(using=alias):  # keeps the request's own transaction usable after the refusal
            yield
    except _REFUSALS as error:
        if request.GET.keys() <= {ERROR_FLAG}:
            raise
        raise IncorrectLookupParameters(str(error)) from error
