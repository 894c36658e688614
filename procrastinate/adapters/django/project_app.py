"""The app of a Django project: there is one, and modules import it before Django is ready."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias, Unpack, cast

from django.apps import apps
from django.conf import settings as django_settings
from django.utils.module_loading import import_string, module_has_submodule

from procrastinate.adapters.django.caller_thread import DjangoCallerThread
from procrastinate.adapters.django.connector import DjangoConnector
from procrastinate.adapters.django.context_locals import adopt_context
from procrastinate.adapters.django.db_cleanup import close_db_connections, close_db_connections_async
from procrastinate.adapters.django.exceptions import DjangoNotReady
from procrastinate.app import App
from procrastinate.caller_thread import CallerThread
from procrastinate.connector import BaseConnector, as_connector
from procrastinate.jobs import DEFAULT_QUEUE

if TYPE_CHECKING:
    from procrastinate.adapters.django.settings import Settings
    from procrastinate.jobs import Job
    from procrastinate.middleware import TaskMiddleware
    from procrastinate.periodic import PeriodicDefaults
    from procrastinate.tasks import Task
    from procrastinate.worker import Worker, WorkerDefaults, WorkerOptions

FindTask: TypeAlias = "Callable[[str, Mapping[str, Any], DjangoApp], Task[Any, Any, Any] | None]"

_APP_LABEL = "procrastinate"

_CLEANUP: tuple[TaskMiddleware, ...] = (close_db_connections, close_db_connections_async)


class NotReadyConnector(BaseConnector):
    """What the app has for a connector until Django is ready: any use of it raises :class:`DjangoNotReady`."""

    def __init__(self, reason: str | None = None) -> None:
        super().__init__()
        self._reason = reason

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("__"):
            return super().__getattribute__(name)
        raise DjangoNotReady(super().__getattribute__("_reason"))


class DjangoApp(App):
    """An app for a Django project: its workers look after Django's connections around each task."""

    _find_elsewhere: FindTask | None = None
    _discovered: Mapping[str, str] = MappingProxyType({})

    @property
    def is_bound(self) -> bool:
        """Whether jobs can be deferred: Django is ready, and the settings are right."""
        return not isinstance(self.connector, NotReadyConnector)

    def bind(self, settings: Settings, *, find_elsewhere: FindTask | None = None) -> None:
        """Give the app what the settings say.

        Parameters
        ----------
        find_elsewhere:
            Asked for a task that is not the app's own, with its name and the arguments of the job.
        """
        self._find_elsewhere = find_elsewhere
        self._discovered = dict(discovered_modules(settings))
        self.import_paths = [*self._discovered, *settings.IMPORT_PATHS]
        self.worker_defaults = cast("WorkerDefaults", dict(settings.WORKER_DEFAULTS or {}))
        self.periodic_defaults = cast("PeriodicDefaults", dict(settings.PERIODIC_DEFAULTS or {}))
        self.check_arguments = settings.CHECK_ARGUMENTS
        self.min_retention_hours = settings.MIN_RETENTION_HOURS
        self._set_connector(create_connector(settings))
        if settings.RUN_AT_DEFER:
            from procrastinate.testing import RunAtDefer

            RunAtDefer(self)

    def _why_imported(self, path: str) -> str:
        """Why this module is imported, for the note of an error."""
        name = self._discovered.get(path)
        if name is None:
            return "It is in the setting PROCRASTINATE_IMPORT_PATHS"
        return (
            f"Each installed app's module of the name in PROCRASTINATE_AUTODISCOVER_MODULE_NAME is. To leave this app "
            f"out, add {name!r} to PROCRASTINATE_AUTODISCOVER_EXCLUDE"
        )

    def explain(self, reason: str) -> None:
        """Why the app could not be bound, for whoever tries to use it."""
        self._set_connector(NotReadyConnector(reason))

    def queues_of_tasks(self) -> set[str] | None:
        """Also those of ``django.tasks``: ``QUEUES`` of its backends, which are any where it is empty."""
        queues = super().queues_of_tasks()
        for backend in getattr(django_settings, "TASKS", {}).values():
            named = backend.get("QUEUES", [DEFAULT_QUEUE])
            if not named:
                return None
            queues = queues and queues | set(named)
        return queues

    def find_task(self, name: str) -> Task[Any, Any, Any] | None:
        """Also one of ``django.tasks``."""
        return self._find_task(name, {})

    def find_task_of(self, job: Job) -> Task[Any, Any, Any] | None:
        """As :meth:`find_task`; a task of ``django.tasks`` comes with the options of the job's backend."""
        return self._find_task(job.task_name, job.task_kwargs)

    def _find_task(self, name: str, arguments: Mapping[str, Any]) -> Task[Any, Any, Any] | None:
        task = super().find_task(name)
        if task is None and self._find_elsewhere is not None:
            task = self._find_elsewhere(name, arguments, self)
        return task

    def make_worker(self, **options: Unpack[WorkerOptions]) -> Worker:
        """As every app's, with care for Django's connections around each task."""
        given = options.get("task_middleware", self.worker_defaults.get("task_middleware"))
        options["task_middleware"] = [*_CLEANUP, *(given or ())]
        return super().make_worker(**options)

    def adopt_context(self, context: contextvars.Context) -> None:
        """As every app's. Django's language and time zone are made this thread's, which asgiref asks for."""
        adopt_context(context)

    def caller_thread(self) -> CallerThread:
        """The thread on whose connections Django's asynchronous ORM runs."""
        return DjangoCallerThread()


def create_connector(settings: Settings) -> BaseConnector:
    """The connector that the settings name."""
    if settings.CREATE_CONNECTOR is not None:
        return as_connector(import_string(settings.CREATE_CONNECTOR)())
    return DjangoConnector(alias=settings.DATABASE_ALIAS, listen_connect_args=settings.LISTEN_CONNECT_ARGS)


def discovered_modules(settings: Settings) -> Iterator[tuple[str, str]]:
    """The module with tasks of each installed app that has one, and the name of the app.

    The queue's own app has none: ``procrastinate.contrib.django.tasks`` is the backend of ``django.tasks``.
    """
    name, excluded = settings.AUTODISCOVER_MODULE_NAME, {_APP_LABEL, *settings.AUTODISCOVER_EXCLUDE}
    if name is None:
        return
    for app_config in apps.get_app_configs():
        if excluded.isdisjoint((app_config.name, app_config.label)) and module_has_submodule(app_config.module, name):
            yield f"{app_config.name}.{name}", app_config.name


app = DjangoApp(connector=NotReadyConnector())
"""The project's app. Declare tasks on it anywhere; defer jobs once Django is ready."""
