"""The app of a Django project: there is one, and modules import it before Django is ready."""

from __future__ import annotations

import contextvars
import importlib.util
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeAlias, Unpack, cast

from django.apps import apps
from django.conf import settings as django_settings
from django.utils.module_loading import import_string

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
    from procrastinate.middleware import TaskMiddleware
    from procrastinate.periodic import PeriodicDefaults
    from procrastinate.tasks import Task
    from procrastinate.worker import Worker, WorkerDefaults, WorkerOptions

FindTask: TypeAlias = "Callable[[str, DjangoApp], Task[Any, Any, Any] | None]"

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

    @property
    def is_bound(self) -> bool:
        """Whether jobs can be deferred: Django is ready, and the settings are right."""
        return not isinstance(self.connector, NotReadyConnector)

    def bind(self, settings: Settings, *, find_elsewhere: FindTask | None = None) -> None:
        """Give the app what the settings say.

        Parameters
        ----------
        find_elsewhere:
            Asked for a task that is not the app's own.
        """
        self._find_elsewhere = find_elsewhere
        self.import_paths = [*_discovered_modules(settings.AUTODISCOVER_MODULE_NAME), *settings.IMPORT_PATHS]
        self.worker_defaults = cast("WorkerDefaults", dict(settings.WORKER_DEFAULTS or {}))
        self.periodic_defaults = cast("PeriodicDefaults", dict(settings.PERIODIC_DEFAULTS or {}))
        self.check_arguments = settings.CHECK_ARGUMENTS
        self._set_connector(create_connector(settings))
        if settings.RUN_AT_DEFER:
            from procrastinate.testing import RunAtDefer

            RunAtDefer(self)

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
        """Also one of ``django.tasks``: it is taken in when its first job comes."""
        task = super().find_task(name)
        if task is None and self._find_elsewhere is not None:
            task = self._find_elsewhere(name, self)
            if task is not None:
                self.tasks[name] = task
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


def _discovered_modules(name: str | None) -> Iterator[str]:
    """That module of each installed app that has it."""
    if name is None:
        return
    for app_config in apps.get_app_configs():
        path = f"{app_config.name}.{name}"
        if importlib.util.find_spec(path) is not None:
            yield path


app = DjangoApp(connector=NotReadyConnector())
"""The project's app. Declare tasks on it anywhere; defer jobs once Django is ready."""
