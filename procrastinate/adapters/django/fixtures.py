"""Rows from ``loaddata``: a fixture contains the history of its jobs, so the triggers must not write any."""

from __future__ import annotations

from typing import Any

from django.db import connections

from procrastinate.adapters.django.databases import connector_of
from procrastinate.core.session_settings import begin_restoring, end_restoring


def before_row(*, raw: bool, using: str, **kwargs: Any) -> None:
    """Turn the history off for this row, in the transaction of ``loaddata``."""
    if raw and connections[using].in_atomic_block:
        connector_of(using).run(begin_restoring)


def after_row(*, raw: bool, using: str, **kwargs: Any) -> None:
    """Turn the history on again, because a test continues in the transaction of its fixtures."""
    if raw and connections[using].in_atomic_block:
        connector_of(using).run(end_restoring)
