"""Read-only models: only the queue writes to its tables."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from django.db import DEFAULT_DB_ALIAS, models

from procrastinate.adapters.django.exceptions import ReadOnlyModel
from procrastinate.adapters.django.settings import get_settings

C = TypeVar("C", bound=type)

_QUERYSET_WRITES = (
    "create",
    "bulk_create",
    "bulk_update",
    "get_or_create",
    "update_or_create",
    "update",
    "delete",
    "_raw_delete",
)
_MODEL_WRITES = ("save", "save_base", "delete")


def _refuse_writes(*names: str) -> Callable[[C], C]:
    """Decorate a class, so that these methods check the setting first. Django's asynchronous methods call them."""

    def decorate(cls: C) -> C:
        for name in names:
            setattr(cls, name, _unless_read_only(getattr(cls, name)))
        return cls

    return decorate


def _unless_read_only(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def refuse_or_call(*args: Any, **kwargs: Any) -> Any:
        if get_settings().READONLY_MODELS:
            raise ReadOnlyModel
        return method(*args, **kwargs)

    return refuse_or_call


@_refuse_writes(*_QUERYSET_WRITES)
class ReadOnlyQuerySet(models.QuerySet[Any]):
    """A query set whose writes raise :class:`~procrastinate.adapters.django.exceptions.ReadOnlyModel`."""


class ProcrastinateManager(models.Manager.from_queryset(ReadOnlyQuerySet)):  # type: ignore[misc]
    """Queries the database of ``PROCRASTINATE_DATABASE_ALIAS`` unless another database is selected."""

    def get_queryset(self) -> Any:
        """Return a query set on the queue's database."""
        queryset = super().get_queryset()
        alias = get_settings().DATABASE_ALIAS
        if self._db is None and alias != DEFAULT_DB_ALIAS:
            return queryset.using(alias)
        return queryset


@_refuse_writes(*_MODEL_WRITES)
class ReadOnlyModelBase(models.Model):
    """A model whose writes raise :class:`~procrastinate.adapters.django.exceptions.ReadOnlyModel`."""

    objects = ProcrastinateManager()

    class Meta:
        abstract = True
        app_label = "procrastinate"
        managed = False
        base_manager_name = "objects"  # related managers must refuse writes too
