"""The settings of a Django project that concern Procrastinate.

Each is looked up as ``PROCRASTINATE_<NAME>`` and as a key of the dictionary ``PROCRASTINATE``.
:mod:`procrastinate.adapters.django.checks` reports what is wrong with them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from django.conf import settings as django_settings

from procrastinate.builtin_tasks import MIN_RETENTION_HOURS as DEFAULT_MIN_RETENTION_HOURS

PREFIX = "PROCRASTINATE"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """The settings, and their defaults.

    Attributes
    ----------
    AUTODISCOVER_MODULE_NAME:
        The module that is imported from each installed app, for its tasks; ``None`` imports nothing.
    AUTODISCOVER_EXCLUDE:
        Installed apps whose module of that name is not imported, by name or label.
    IMPORT_PATHS:
        Further modules with tasks.
    DATABASE_ALIAS:
        The key of ``DATABASES`` where the jobs are.
    WORKER_DEFAULTS, PERIODIC_DEFAULTS:
        As for :class:`procrastinate.App`.
    ON_APP_READY:
        Dotted path of a function that is called with the app when it is ready.
    LISTEN_CONNECT_ARGS:
        What is different for the connections that listen: a connection string, or arguments of
        :func:`psycopg.connect`. Behind PgBouncer in transaction mode, the way past it.
    CREATE_CONNECTOR:
        Dotted path of a function that returns the connector; ``DATABASE_ALIAS`` and ``LISTEN_CONNECT_ARGS`` then have
        no effect on it.
    READONLY_MODELS:
        Whether the models refuse to be written to.
    CHECK_ARGUMENTS:
        Whether ``defer`` refuses arguments that the function of a task cannot be called with.
    MIN_RETENTION_HOURS:
        Hours for which jobs of the built-in task ``remove_old_jobs`` leave every finished job.
    RUN_AT_DEFER:
        For tests: jobs run when they are deferred.
    """

    AUTODISCOVER_MODULE_NAME: str | None = "tasks"
    AUTODISCOVER_EXCLUDE: Sequence[str] = ()
    IMPORT_PATHS: Sequence[str] = ()
    DATABASE_ALIAS: str = "default"
    WORKER_DEFAULTS: Mapping[str, Any] | None = None
    PERIODIC_DEFAULTS: Mapping[str, Any] | None = None
    ON_APP_READY: str | None = None
    LISTEN_CONNECT_ARGS: Mapping[str, Any] | str | None = None
    CREATE_CONNECTOR: str | None = None
    READONLY_MODELS: bool = True
    CHECK_ARGUMENTS: bool = True
    MIN_RETENTION_HOURS: int = DEFAULT_MIN_RETENTION_HOURS
    RUN_AT_DEFER: bool = False


NAMES = tuple(field.name for field in dataclasses.fields(Settings))


def setting_name(name: str) -> str:
    """How a setting is called outside the dictionary."""
    return f"{PREFIX}_{name}"


def from_dictionary() -> dict[str, Any]:
    """The settings given as keys of ``PROCRASTINATE``; unknown keys included."""
    values = getattr(django_settings, PREFIX, None)
    return dict(values) if isinstance(values, Mapping) else {}


def from_names() -> dict[str, Any]:
    """The settings given as ``PROCRASTINATE_<NAME>``, by the ``<NAME>``; unknown names included."""
    prefix = setting_name("")
    return {
        name.removeprefix(prefix): getattr(django_settings, name)
        for name in dir(django_settings)
        if name.startswith(prefix)
    }


def get_settings() -> Settings:
    """The settings as they are now."""
    given = from_dictionary() | {
        name: getattr(django_settings, setting_name(name))
        for name in NAMES
        if hasattr(django_settings, setting_name(name))
    }
    return Settings(**{name: value for name, value in given.items() if name in NAMES})


class _SettingsOfNow:
    """Each attribute is looked up when it is asked for."""

    def __getattr__(self, name: str) -> Any:
        return getattr(get_settings(), name)


settings = _SettingsOfNow()
