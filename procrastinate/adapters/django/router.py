"""A database router for projects with several databases."""

from __future__ import annotations

from typing import Any

from procrastinate.adapters.django.exceptions import ReadOnlyModel
from procrastinate.adapters.django.settings import get_settings

_APP_LABEL = "procrastinate"


class ProcrastinateReadOnlyRouter:
    """Reads the queue's models from ``PROCRASTINATE_DATABASE_ALIAS``, migrates them only there, and refuses writes.

    It ignores models of other apps. With ``PROCRASTINATE_READONLY_MODELS = False`` it sends writes to
    ``PROCRASTINATE_DATABASE_ALIAS`` too.
    """

    def db_for_read(self, model: Any, **hints: Any) -> str | None:
        """Return the queue's database for the queue's models."""
        return get_settings().DATABASE_ALIAS if _is_ours(model) else None

    def db_for_write(self, model: Any, **hints: Any) -> str | None:
        """Return None for other models, and the queue's database if the queue's models are writable.

        Raises
        ------
        ReadOnlyModel
            The model belongs to the queue, and the queue's models are read-only.
        """
        if not _is_ours(model):
            return None
        settings = get_settings()
        if settings.READONLY_MODELS:
            raise ReadOnlyModel
        return settings.DATABASE_ALIAS

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool | None:
        """Allow the queue's tables in the queue's database only."""
        return db == get_settings().DATABASE_ALIAS if app_label == _APP_LABEL else None


def _is_ours(model: Any) -> bool:
    return bool(model._meta.app_label == _APP_LABEL)
