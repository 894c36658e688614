"""List filters that find their choices without reading the whole table."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html_join
from django.utils.safestring import SafeString, mark_safe

from procrastinate._quoting import LONGEST_VALUE, quoted
from procrastinate.adapters.django.models import ProcrastinateJob
from procrastinate.adapters.django.project_app import app

RECENT = 10_000
"""Number of most recent job ids to search for choices."""


def _breakable(name: str) -> SafeString:
    """Return a name that breaks at its dots in a narrow column."""
    return format_html_join(mark_safe(".<wbr>"), "{}", ((part,) for part in name.split(".")))


class _KnownValuesFilter(admin.SimpleListFilter):
    """Filter whose choices are the values of the project's tasks and of recent jobs."""

    field: ClassVar[str]

    def declared(self) -> Iterable[str]:
        """Return the values of the project's tasks."""
        raise NotImplementedError

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        """Return all choices, including the selected one."""
        newest = ProcrastinateJob.objects.order_by("-id").values_list("id", flat=True).first() or 0
        recent = ProcrastinateJob.objects.filter(id__gt=newest - RECENT).values_list(self.field, flat=True).distinct()
        values = {*self.declared(), *recent}
        chosen = self.value()
        if chosen is not None:
            values.add(chosen)
        return [(value, _breakable(quoted(value, LONGEST_VALUE))) for value in sorted(values)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Return the jobs with the selected value."""
        chosen = self.value()
        return queryset if chosen is None else queryset.filter(**{self.field: chosen})


class QueueFilter(_KnownValuesFilter):
    """Filter by queue."""

    title = "queue"
    parameter_name = field = "queue_name"

    def declared(self) -> Iterable[str]:
        """Return the queues of the project's tasks."""
        return {task.queue for task in app.tasks.values()}


class TaskFilter(_KnownValuesFilter):
    """Filter by task."""

    title = "task"
    parameter_name = field = "task_name"

    def declared(self) -> Iterable[str]:
        """Return the names of the project's tasks."""
        return {task.name for task in app.tasks.values()}
