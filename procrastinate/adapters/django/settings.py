"""The Procrastinate settings of a Django project.

A setting is read from ``PROCRASTINATE_<NAME>`` and from the key ``<NAME>`` of the dictionary ``PROCRASTINATE``.
:mod:`procrastinate.adapters.django.checks` reports invalid settings.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypedDict

from django.conf import settings as django_settings

from procrastinate.builtin_tasks import MIN_RETENTION_HOURS as DEFAULT_MIN_RETENTION_HOURS

if TYPE_CHECKING:
    from procrastinate.dashboard import Authorize
    from procrastinate.limits import Limit

PREFIX = "PROCRASTINATE"


class DashboardSettings(TypedDict, total=False):
    """The keys of the setting ``DASHBOARD``. A function may be given by its dotted path.

    Attributes
    ----------
    title:
        Name of the project or environment, shown on each page.
    authorize:
        Who may see and do what, instead of Django's permissions on jobs: an
        :class:`~procrastinate.dashboard.Access` for all visitors, or a function that takes the request and returns an
        ``Access``, a bool or ``None``.
    read_only:
        True if no action is offered or accepted.
    redact:
        Function from the name of a task and a decoded value to the value that the dashboard and the admin show.
    search_arguments:
        True if visitors who see arguments can search in them, with a ``redact`` of your own, too.
    on_action:
        Function that is called with a dict after each action. The admin's log records the action anyway.
    connector:
        Function that returns a connector for the dashboard alone. It is called once in each process.
    """

    title: str | None
    authorize: Authorize | str | None
    read_only: bool | None
    redact: Callable[[str, Any], Any] | str | None
    search_arguments: bool | None
    on_action: Callable[[dict[str, Any]], None] | str | None
    connector: Callable[[], Any] | str | None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """The settings and their defaults.

    Attributes
    ----------
    AUTODISCOVER_MODULE_NAME:
        The task module to import from each installed app. ``None`` imports nothing.
    AUTODISCOVER_EXCLUDE:
        Installed apps, by name or label, whose task module is not imported.
    IMPORT_PATHS:
        Additional modules with tasks.
    DATABASE_ALIAS:
        The key in ``DATABASES`` of the database with the jobs.
    READ_DATABASE_ALIAS:
        The key in ``DATABASES`` of a replica, which lists, statistics and pages are read from. ``None`` for none.
    WORKER_DEFAULTS, PERIODIC_DEFAULTS:
        As for :class:`procrastinate.App`.
    LIMITS:
        A :class:`procrastinate.Limit` for each queue whose jobs are limited unless they have a limit of their own.
    ON_APP_READY:
        The dotted path of a function that is called with the app when the app is ready.
    LISTEN_CONNECT_ARGS:
        Connection parameters that differ for listening connections: a connection string, or arguments of
        :func:`psycopg.connect`. Use them to bypass PgBouncer in transaction mode.
    CREATE_CONNECTOR:
        The dotted path of a function that returns the connector. ``DATABASE_ALIAS`` and ``LISTEN_CONNECT_ARGS`` then
        have no effect on it.
    DASHBOARD:
        The options of the dashboard: the keys of :class:`DashboardSettings`.
    READONLY_MODELS:
        True if the models refuse writes.
    CHECK_ARGUMENTS:
        True if ``defer`` refuses arguments that do not fit the task's function.
    LOG_ARGUMENTS:
        True if log records show the arguments and the results of jobs. ``None`` shows them if ``DEBUG`` is true.
    MIN_RETENTION_HOURS:
        Hours for which the built-in task ``remove_old_jobs`` keeps every finished job.
    RUN_AT_DEFER:
        For tests: True to run jobs when they are deferred.
    """

    AUTODISCOVER_MODULE_NAME: str | None = "tasks"
    AUTODISCOVER_EXCLUDE: Sequence[str] = ()
    IMPORT_PATHS: Sequence[str] = ()
    DATABASE_ALIAS: str = "default"
    READ_DATABASE_ALIAS: str | None = None
    WORKER_DEFAULTS: Mapping[str, Any] | None = None
    PERIODIC_DEFAULTS: Mapping[str, Any] | None = None
    LIMITS: Sequence[Limit] = ()
    ON_APP_READY: str | None = None
    LISTEN_CONNECT_ARGS: Mapping[str, Any] | str | None = None
    CREATE_CONNECTOR: str | None = None
    DASHBOARD: DashboardSettings | None = None
    READONLY_MODELS: bool = True
    CHECK_ARGUMENTS: bool = True
    LOG_ARGUMENTS: bool | None = None
    MIN_RETENTION_HOURS: int = DEFAULT_MIN_RETENTION_HOURS
    RUN_AT_DEFER: bool = False


NAMES = tuple(field.name for field in dataclasses.fields(Settings))


def setting_name(name: str) -> str:
    """Return the name of a setting outside the dictionary."""
    return f"{PREFIX}_{name}"


def from_dictionary() -> dict[str, Any]:
    """Return the keys of ``PROCRASTINATE``, including unknown keys."""
    values = getattr(django_settings, PREFIX, None)
    return dict(values) if isinstance(values, Mapping) else {}


def from_names() -> dict[str, Any]:
    """Return the settings named ``PROCRASTINATE_<NAME>`` by ``<NAME>``, including unknown names."""
    prefix = setting_name("")
    return {
        name.removeprefix(prefix): getattr(django_settings, name)
        for name in dir(django_settings)
        if name.startswith(prefix)
    }


def get_settings() -> Settings:
    """Return the current settings."""
    given = from_dictionary() | {
        name: getattr(django_settings, setting_name(name))
        for name in NAMES
        if hasattr(django_settings, setting_name(name))
    }
    return Settings(**{name: value for name, value in given.items() if name in NAMES})


class _SettingsOfNow:
    """Reads a setting at each attribute access."""

    def __getattr__(self, name: str) -> Any:
        return getattr(get_settings(), name)


settings = _SettingsOfNow()
