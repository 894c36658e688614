"""The Django application, installed as ``procrastinate.contrib.django`` or as ``procrastinate.adapters.django``."""

from __future__ import annotations

import logging

from django.apps import AppConfig
from django.utils.module_loading import import_string

from procrastinate.adapters.django import project_app
from procrastinate.adapters.django.project_app import DjangoApp
from procrastinate.adapters.django.settings import get_settings
from procrastinate.adapters.django.task_lookup import find_task

logger = logging.getLogger(__name__)


class ProcrastinateConfig(AppConfig):
    """Binds the project's app when Django is ready, and imports the tasks of the installed apps."""

    name = "procrastinate.adapters.django"
    label = "procrastinate"
    verbose_name = "Procrastinate"
    default_auto_field = "django.db.models.BigAutoField"

    @property
    def app(self) -> DjangoApp:
        """The project's app."""
        return project_app.app

    def ready(self) -> None:
        """Bind the app. With settings that are wrong it stays unbound: the system check says what is wrong."""
        from procrastinate.adapters.django import checks

        if self.app.is_bound:
            return
        problems = checks.check_settings()
        if problems:
            reason = "The settings of Procrastinate are wrong: " + " ".join(str(one.msg) for one in problems)
            logger.error(reason)  # a web server runs no system checks
            self.app.explain(reason)
            return
        settings = get_settings()
        self.app.bind(settings, find_elsewhere=find_task)
        self.app.perform_import_paths()
        if settings.ON_APP_READY is not None:
            import_string(settings.ON_APP_READY)(self.app)
