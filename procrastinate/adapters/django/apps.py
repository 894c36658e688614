"""The Django application. Projects install :mod:`procrastinate.contrib.django.apps`, which gives it its name."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig, apps
from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.db.backends.signals import connection_created
from django.db.models import signals
from django.utils.module_loading import import_string

from procrastinate._running_loop import outside_of_running_loop, running_loop
from procrastinate._text.logs import get_logger
from procrastinate.adapters.django import project_app
from procrastinate.adapters.django.project_app import DjangoApp
from procrastinate.adapters.django.settings import get_settings
from procrastinate.adapters.django.task_lookup import TaskLookup

logger = get_logger(__name__)


_LABEL = "procrastinate"
_NAMES = ("procrastinate.contrib.django", "procrastinate.adapters.django")


class ProcrastinateConfig(AppConfig):
    """Binds the project's app when Django is ready, and imports the tasks of the installed apps.

    Raises
    ------
    ImproperlyConfigured
        ``INSTALLED_APPS`` lists Procrastinate under two names, or a subclass with a name or label of its own, under
        which Django finds neither models nor migrations.
    """

    name = "procrastinate.adapters.django"
    label = _LABEL
    verbose_name = "Procrastinate"
    default_auto_field = "django.db.models.BigAutoField"

    def __init__(self, app_name: str, app_module: Any) -> None:
        other = apps.app_configs.get(_LABEL)
        if isinstance(other, ProcrastinateConfig):
            raise ImproperlyConfigured(
                f"INSTALLED_APPS lists Procrastinate twice, as {other.name!r} and as {app_name!r}: "
                "keep only 'procrastinate.contrib.django'"
            )
        if app_name not in _NAMES or self.label != _LABEL:
            raise ImproperlyConfigured(
                f"{type(self).__name__} has the name {app_name!r} and the label {self.label!r}, under which Django "
                f"finds no tables of the queue: write name = {_NAMES[0]!r}, and no label"
            )
        super().__init__(app_name, app_module)

    @property
    def app(self) -> DjangoApp:
        """The project's app."""
        return project_app.app

    def ready(self) -> None:
        """Bind the app. With invalid settings it stays unbound, and the system check reports the problems."""
        from procrastinate.adapters.django import checks, deploy_checks, table_checks  # noqa: F401

        self._connect_signals()
        if self.app.is_bound:
            return
        problems = checks.check_settings()
        if problems:
            reason = "The settings of Procrastinate are invalid: " + " ".join(str(one.msg) for one in problems)
            logger.error(reason)  # a web server runs no system checks
            self.app.explain(reason)
            return
        settings = get_settings()
        self.app.bind(settings, elsewhere=TaskLookup())
        self._import_tasks()
        if settings.ON_APP_READY is not None:
            import_string(settings.ON_APP_READY)(self.app)

    def _import_tasks(self) -> None:
        """Import the modules as sync code. An ASGI server loads the project in its event loop."""
        is_in_loop = running_loop() is not None
        with outside_of_running_loop():
            try:
                self.app.perform_import_paths()
            finally:
                if is_in_loop:
                    connections.close_all()  # no request of such a server uses those of this thread

    def _connect_signals(self) -> None:
        """Connect each receiver only once, because a project may call ``django.setup()`` again."""
        from procrastinate.adapters.django import databases, fixtures

        signals.pre_migrate.connect(_check_way_back, sender=self, dispatch_uid="procrastinate.check_way_back")
        signals.pre_migrate.connect(databases.make_tables, sender=self, dispatch_uid="procrastinate.make_tables")
        signals.post_migrate.connect(databases.empty_tables, sender=self, dispatch_uid="procrastinate.empty_tables")
        connection_created.connect(databases.restart_ids_with_others, dispatch_uid="procrastinate.restart_ids")
        for model in self.get_models():
            signals.pre_save.connect(fixtures.before_row, sender=model)
            signals.post_save.connect(fixtures.after_row, sender=model)


def _check_way_back(*, plan: Any, **kwargs: Any) -> None:
    """Load the migrations' operations only if a migration is taken back: they bring Alembic along."""
    if any(is_backward for _, is_backward in plan):
        from procrastinate.adapters.django.migration_operations import check_way_back

        check_way_back(plan=plan, **kwargs)
