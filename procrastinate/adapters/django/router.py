"""The router for ``DATABASE_ROUTERS`` of projects with several databases."""

from __future__ import annotations

from typing import Any

from procrastinate.adapters.django.exceptions import ReadOnlyModel
from procrastinate.adapters.django.settings import get_settings

_APP_LABEL = "procrastinate"


class ProcrastinateReadOnlyRouter:
    """Reads the queue's models from ``PROCRASTINATE_DATABASE_ALIAS``, migrates them only there, refuses writes.

    It has no opinion on models of other apps. With ``PROCRASTINATE_READONLY_MODELS = False`` writes go to
    ``PROCRASTINATE_DATABASE_ALIAS`` too.
    """

    def db_for_read(self, model: Any, **hints: Any) -> str | None:
        """The database of the queue, for its models."""
        return get_settings().DATABASE_ALIAS if _is_ours(model) else None

    def db_for_write(self, model: Any, **hints: Any) -> str | None:
        """None: the queue's models are not to be written to.

        Raises
        ------
        ReadOnlyModel
            The model is one of the queue's.
        """
        if not _is_ours(model):
            return None
        settings = get_settings()
        if settings.READONLY_MODELS:
            raise ReadOnlyModel
        return settings.DATABASE_ALIAS

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool | None:
        """The queue's tables are wanted in one database only."""
        return db == get_settings().DATABASE_ALIAS if app_label == _APP_LABEL else None


def _is_ours(model: Any) -> bool:
    return bool(model._meta.app_label == _APP_LABEL)
