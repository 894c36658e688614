"""The list of jobs: what its URL asks for, and how many jobs it leaves out."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ERROR_FLAG, ChangeList
from django.core.exceptions import FieldError
from django.db import DataError, NotSupportedError, ProgrammingError, transaction
from django.http import HttpRequest

from procrastinate.core.enums import Status

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
"""What Django and PostgreSQL raise for a value or an operator that a column does not take."""

_STATUS_PARAMETERS = ("status", "status__exact")
_ENDED = {status.value for status in (Status.SUCCEEDED, Status.FAILED, Status.CANCELLED, Status.ABORTED)}


class JobChangeList(ChangeList):
    """A list that does not call its bound the number of jobs."""

    full_result_count: Any

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> Any:
        """Return the jobs that the URL asks for, of ended ones by the index of ended jobs."""
        jobs = super().get_queryset(request, exclude_parameters)
        asked = {word for name in _STATUS_PARAMETERS for word in self.filter_params.get(name, ())}
        # Every ended job has the time of its end. PostgreSQL uses the index only if the question says so.
        return jobs.filter(finished_at__isnull=False) if asked and asked <= _ENDED else jobs

    def get_results(self, request: HttpRequest) -> None:
        """Read the page. Django shows no count next to the search if it equals the full one."""
        super().get_results(request)
        if self.paginator.is_bounded:
            self.full_result_count = self.result_count


@contextlib.contextmanager
def refused_as_bad_lookups(request: HttpRequest, alias: str) -> Iterator[None]:
    """Raise ``IncorrectLookupParameters`` for parameters that the database refuses.

    A request without parameters asks nothing of its own. What is raised then is a fault of the program or the
    database, and stays what it is.
    """
    try:
        with transaction.atomic(using=alias):  # a transaction of the request goes on after the refusal
            yield
    except _REFUSALS as error:
        if request.GET.keys() <= {ERROR_FLAG}:
            raise
        raise IncorrectLookupParameters(str(error)) from error
