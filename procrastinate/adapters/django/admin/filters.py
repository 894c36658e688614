"""Filters that do not read the whole table to know what there is to choose from."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from procrastinate._quoting import LONGEST_VALUE, quoted
from procrastinate.adapters.django.models import ProcrastinateJob
from procrastinate.adapters.django.project_app import app

RECENT = 10_000
"""How many of the last numbers are looked at for choices."""


class _KnownValuesFilter(admin.SimpleListFilter):
    """Offers the values that the project's tasks have, and those of recent jobs."""

    field: ClassVar[str]

    def declared(self) -> Iterable[str]:
        """The values that the project's tasks have."""
        raise NotImplementedError

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """All choices, the chosen one included."""
        newest = ProcrastinateJob.objects.order_by("-id").values_list("id", flat=True).first() or 0
        recent = ProcrastinateJob.objects.filter(id__gt=newest - RECENT).values_list(self.field, flat=True).distinct()
        values = {*self.declared(), *recent}
        chosen = self.value()
        if chosen is not None:
            values.add(chosen)
        return [(value, quoted(value, LONGEST_VALUE)) for value in sorted(values)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """The jobs with the chosen value."""
        chosen = self.value()
        return queryset if chosen is None else queryset.filter(**{self.field: chosen})


class QueueFilter(_KnownValuesFilter):
    """By queue."""

    title = "queue"
    parameter_name = field = "queue_name"

    def declared(self) -> Iterable[str]:
        """The queues of the project's tasks."""
        return {task.queue for task in app.tasks.values()}


class TaskFilter(_KnownValuesFilter):
    """By task."""

    title = "task"
    parameter_name = field = "task_name"

    def declared(self) -> Iterable[str]:
        """The names of the project's tasks."""
        return {task.name for task in app.tasks.values()}
