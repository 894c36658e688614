"""Rows from ``loaddata``: a fixture contains the history of its jobs, so the triggers must not write any."""

from __future__ import annotations

from typing import Any

from django.db import connections, models
from django.db.models.functions import Cast

from procrastinate.adapters.django.databases import connector_of
from procrastinate.core import Readiness
from procrastinate.core.session_settings import begin_restoring, end_restoring

_NEVER = Cast(models.Value("infinity"), models.DateTimeField())


def before_row(*, raw: bool, using: str, instance: models.Model, **kwargs: Any) -> None:
    """Turn the history off for this row, in the transaction of ``loaddata``."""
    if raw and connections[using].in_atomic_block:
        _hold_waiting_step(instance)
        connector_of(using).run(begin_restoring)


def _hold_waiting_step(instance: Any) -> None:
    """Give a step that waits for others the time ``infinity``, which no fixture can have. Otherwise it starts at once.

    The triggers do not do it, because any other program that restores rows brings the time with them.
    """
    if getattr(instance, "readiness", None) == Readiness.WAITS_FOR_OTHERS and instance.scheduled_at is None:
        instance.scheduled_at = _NEVER


def after_row(*, raw: bool, using: str, **kwargs: Any) -> None:
    """Turn the history on again, because a test continues in the transaction of its fixtures."""
    if raw and connections[using].in_atomic_block:
        connector_of(using).run(end_restoring)
