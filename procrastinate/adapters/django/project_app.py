"""The app of a Django project. A project has one, and modules import it before Django is ready."""

from __future__ import annotations

import contextvars
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol, Unpack, cast

from django.apps import apps
from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string, module_has_submodule

from procrastinate._caller_thread import CallerThread
from procrastinate.adapters.django.caller_thread import DjangoCallerThread
from procrastinate.adapters.django.connector import DjangoConnector
from procrastinate.adapters.django.context_locals import adopt_context
from procrastinate.adapters.django.db_cleanup import close_db_connections, close_db_connections_async
from procrastinate.adapters.django.exceptions import DjangoNotReady
from procrastinate.adapters.django.settings import Settings, get_settings
from procrastinate.app import App
from procrastinate.blueprints import Blueprint
from procrastinate.connector import BaseConnector, as_connector
from procrastinate.jobs import DEFAULT_QUEUE
from procrastinate.limits import add_limit, read_limits_of_queues

if TYPE_CHECKING:
    from procrastinate.jobs import Job
    from procrastinate.limits import Limit
    from procrastinate.middleware import TaskMiddleware
    from procrastinate.periodic import PeriodicDefaults
    from procrastinate.tasks import Task
    from procrastinate.worker import Worker, WorkerDefaults, WorkerOptions

_APP_LABEL = "procrastinate"

_CLEANUP: tuple[TaskMiddleware, ...] = (close_db_connections, close_db_connections_async)


class Elsewhere(Protocol):
    """Finds tasks that are not the app's own."""

    def find(
        self, name: str, arguments: Mapping[str, Any], blueprint: Blueprint, *, loaded_only: bool
    ) -> Task[Any, Any, Any] | None:
        """Return the task of a job with this name and these arguments, or ``None``."""
        ...

    def may_have(self, name: str) -> bool:
        """Return true if the task may be in a module that is not loaded."""
        ...

    def list_limits(self) -> list[Limit]:
        """Return the limits of these tasks."""
        ...


class NotReadyConnector(BaseConnector):
    """The app's connector until Django is ready. Any use raises :class:`DjangoNotReady`."""

    def __init__(self, reason: str | None = None) -> None:
        super().__init__()
        self._reason = reason

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("__"):
            return super().__getattribute__(name)
        raise DjangoNotReady(super().__getattribute__("_reason"))


class DjangoApp(App):
    """An app for a Django project, whose workers manage Django's connections around each task."""

    _elsewhere: Elsewhere | None = None
    _discovered: Mapping[str, str] = MappingProxyType({})

    @property
    def is_bound(self) -> bool:
        """True if Django is ready and the settings are valid, so that jobs can be deferred."""
        return not isinstance(self.connector, NotReadyConnector)

    def bind(self, settings: Settings, *, elsewhere: Elsewhere | None = None) -> None:
        """Apply the settings to the app.

        Parameters
        ----------
        elsewhere:
            Finds tasks that are not the app's own, and lists their limits.

        Raises
        ------
        ValueError
            A limit of ``LIMITS`` has the name of a task's limit and other numbers.
        """
        self._elsewhere = elsewhere
        self._discovered = dict(discovered_modules(settings))
        self.import_paths = [*self._discovered, *settings.IMPORT_PATHS]
        self.worker_defaults = self._worker_defaults_of(settings)
        self.periodic_defaults = cast("PeriodicDefaults", dict(settings.PERIODIC_DEFAULTS or {}))
        self._use_limits(settings)
        self.check_arguments = settings.CHECK_ARGUMENTS
        self.log_arguments = settings.LOG_ARGUMENTS
        if self.log_arguments is None and django_settings.DEBUG:
            self.log_arguments = True
        self.min_retention_hours = settings.MIN_RETENTION_HOURS
        self.use_connector(create_connector(settings))
        if settings.RUN_AT_DEFER:
            from procrastinate.testing import RunAtDefer

            RunAtDefer(self)

    def _worker_defaults_of(self, settings: Settings) -> WorkerDefaults:
        """Return the defaults of the settings. Middleware that an earlier ``instrument(app)`` has set stays first."""
        defaults = dict(settings.WORKER_DEFAULTS or {})
        earlier = self.worker_defaults.get("worker_middleware") or ()
        if earlier:
            own = defaults.get("worker_middleware") or ()
            defaults["worker_middleware"] = [*earlier, *(one for one in own if one not in earlier)]
        return cast("WorkerDefaults", defaults)

    def _use_limits(self, settings: Settings) -> None:
        of_tasks = {limit.name: limit for limit in Blueprint.list_limits(self)}
        self._limits_of_queues = read_limits_of_queues(settings.LIMITS)
        for limit in self._limits_of_queues.values():
            add_limit(of_tasks, limit)

    def find_limit_of_queue(self, queue: str | None) -> Limit | None:
        """Return the limit of the queue, also for a pattern that is made before Django is ready."""
        if self.is_bound or queue is None:
            return super().find_limit_of_queue(queue)
        try:
            return read_limits_of_queues(get_settings().LIMITS).get(queue)
        except (ImproperlyConfigured, ImportError, TypeError, ValueError):  # django.setup() or the check reports it
            return None

    def _why_imported(self, path: str) -> str:
        """Return why the module is imported, for the note on an import error."""
        name = self._discovered.get(path)
        if name is None:
            return "The setting PROCRASTINATE_IMPORT_PATHS names it"
        return (
            f"Procrastinate imports the module PROCRASTINATE_AUTODISCOVER_MODULE_NAME of each installed app. "
            f"To leave this app out, add {name!r} to PROCRASTINATE_AUTODISCOVER_EXCLUDE"
        )

    def explain(self, reason: str) -> None:
        """Store why the app could not be bound. Any use of the app raises it."""
        self.use_connector(NotReadyConnector(reason))

    def queues_of_tasks(self) -> set[str] | None:
        """Return the tasks' queues and ``QUEUES`` of ``django.tasks`` backends, or None if any queue is allowed."""
        queues = super().queues_of_tasks()
        for backend in getattr(django_settings, "TASKS", {}).values():
            named = backend.get("QUEUES", [DEFAULT_QUEUE])
            if not named:
                return None
            queues = queues and queues | set(named)
        return queues

    def list_limits(self) -> list[Limit]:
        """Return the limits of the app's tasks and of ``django.tasks``, one for each name.

        Raises
        ------
        ValueError
            Two limits of one name have different numbers.
        """
        by_name = {limit.name: limit for limit in super().list_limits()}
        for limit in self._elsewhere.list_limits() if self._elsewhere is not None else ():
            add_limit(by_name, limit)
        return list(by_name.values())

    def find_task(self, name: str) -> Task[Any, Any, Any] | None:
        """Find a task of the app, or of ``django.tasks`` in a loaded module.

        Pages and checks ask with names from rows. Only a worker that runs a job imports the module of its task.
        """
        return self._find_task(name, {}, loaded_only=True)

    def knows_task(self, name: str) -> bool:
        """Return true also if the name leads to a module of the project that is not loaded. It is not imported."""
        return super().knows_task(name) or (self._elsewhere is not None and self._elsewhere.may_have(name))

    def find_task_of(self, job: Job) -> Task[Any, Any, Any] | None:
        """Find a job's task. A ``django.tasks`` task comes with the options of the job's backend."""
        return self._find_task(job.task_name, job.task_kwargs)

    def _find_task(
        self, name: str, arguments: Mapping[str, Any], *, loaded_only: bool = False
    ) -> Task[Any, Any, Any] | None:
        task = super().find_task(name)
        if task is None and self._elsewhere is not None:
            task = self._elsewhere.find(name, arguments, self, loaded_only=loaded_only)
        return task

    def make_worker(self, **options: Unpack[WorkerOptions]) -> Worker:
        """Make a worker that manages Django's connections around each task."""
        given = options.get("task_middleware", self.worker_defaults.get("task_middleware"))
        options["task_middleware"] = [*_CLEANUP, *(given or ())]
        return super().make_worker(**options)

    def adopt_context(self, context: contextvars.Context) -> None:
        """Adopt a context in this thread. Without this, asgiref hides Django's language and time zone from it."""
        adopt_context(context)

    def caller_thread(self) -> CallerThread:
        """Return the thread whose connections Django's asynchronous ORM uses."""
        return DjangoCallerThread()


def create_connector(settings: Settings) -> BaseConnector:
    """Make the connector that the settings name."""
    primary = _create_primary(settings)
    if settings.READ_DATABASE_ALIAS is None:
        return primary
    from procrastinate.adapters.django.replica import ReplicaConnector  # most projects read from no replica
    from procrastinate.replicas import with_replica

    return with_replica(primary, ReplicaConnector(settings.READ_DATABASE_ALIAS, settings.DATABASE_ALIAS))


def _create_primary(settings: Settings) -> BaseConnector:
    if settings.CREATE_CONNECTOR is not None:
        return as_connector(import_string(settings.CREATE_CONNECTOR)())
    return DjangoConnector(alias=settings.DATABASE_ALIAS, listen_connect_args=settings.LISTEN_CONNECT_ARGS)


def discovered_modules(settings: Settings) -> Iterator[tuple[str, str]]:
    """Yield the task module of each installed app that has one, with the app's name.

    The queue's own app is left out: ``procrastinate.contrib.django.tasks`` is the ``django.tasks`` backend.
    """
    name, excluded = settings.AUTODISCOVER_MODULE_NAME, {_APP_LABEL, *settings.AUTODISCOVER_EXCLUDE}
    if name is None:
        return
    for app_config in apps.get_app_configs():
        if excluded.isdisjoint((app_config.name, app_config.label)) and module_has_submodule(app_config.module, name):
            yield f"{app_config.name}.{name}", app_config.name


app = DjangoApp(connector=NotReadyConnector())
"""The project's app. Declare tasks on it anywhere, and defer jobs once Django is ready."""
