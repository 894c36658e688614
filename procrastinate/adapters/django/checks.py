"""System checks that report invalid settings at start."""

from __future__ import annotations

import difflib
import functools
import importlib.util
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, cast

from django.apps import apps
from django.conf import settings as django_settings
from django.core.checks import CheckMessage, Error, register
from django.db import connections
from django.utils.module_loading import import_string

from procrastinate import exceptions
from procrastinate.adapters.connections.conninfo import elsewhere
from procrastinate.adapters.django.project_app import app
from procrastinate.adapters.django.settings import (
    NAMES,
    PREFIX,
    DashboardSettings,
    from_dictionary,
    from_names,
    get_settings,
    setting_name,
)
from procrastinate.limits import Limit, read_limits_of_queues
from procrastinate.periodic import PeriodicDefaults, read_max_delay
from procrastinate.worker import Worker, WorkerDefaults, command_settings, worker_options

TAG = "procrastinate"


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_optional_text(value: Any) -> bool:
    return value is None or _is_text(value)


def _is_optional_module(value: Any) -> bool:
    """Return true for a name that a module can have. A file, or nothing, would leave each app without tasks."""
    if value is None:
        return True
    return _is_text(value) and not value.endswith(".py") and all(part.isidentifier() for part in value.split("."))


def _is_list_of_text(value: Any) -> bool:
    return isinstance(value, Sequence) and not _is_text(value) and all(_is_text(item) for item in value)


def _is_list_of_limits(value: Any) -> bool:
    return isinstance(value, Sequence) and not _is_text(value) and all(isinstance(item, Limit) for item in value)


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool)


def _is_bool_or_none(value: Any) -> bool:
    return value is None or isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_connect_args(value: Any) -> bool:
    return value is None or isinstance(value, (str, Mapping))


def _is_mapping(value: Any) -> bool:
    return value is None or isinstance(value, Mapping)


_TYPES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "AUTODISCOVER_MODULE_NAME": (_is_optional_module, "the name of a module, or None"),
    "AUTODISCOVER_EXCLUDE": (_is_list_of_text, "a list of names of installed apps"),
    "IMPORT_PATHS": (_is_list_of_text, "a list of dotted paths"),
    "DATABASE_ALIAS": (_is_text, "a key of DATABASES"),
    "READ_DATABASE_ALIAS": (_is_optional_text, "a key of DATABASES, or None"),
    "WORKER_DEFAULTS": (_is_mapping, "None, or a dict of worker options"),
    "PERIODIC_DEFAULTS": (_is_mapping, "None, or a dict like {'max_delay': 600}"),
    "LIMITS": (_is_list_of_limits, "a list of procrastinate.Limit"),
    "ON_APP_READY": (_is_optional_text, "the dotted path of a function, or None"),
    "LISTEN_CONNECT_ARGS": (_is_connect_args, "None, a connection string, or a dict like {'host': 'db', 'port': 5432}"),
    "CREATE_CONNECTOR": (_is_optional_text, "the dotted path of a function, or None"),
    "DASHBOARD": (_is_mapping, "None, or a dict like {'title': 'Staging', 'read_only': True}"),
    "READONLY_MODELS": (_is_bool, "True or False"),
    "CHECK_ARGUMENTS": (_is_bool, "True or False"),
    "LOG_ARGUMENTS": (_is_bool_or_none, "True, False or None"),
    "MIN_RETENTION_HOURS": (_is_count, "a whole number of hours"),
    "RUN_AT_DEFER": (_is_bool, "True or False"),
}


def _use_worker_defaults(**options: Any) -> None:
    command_settings(options)
    Worker(app, **worker_options(cast("WorkerDefaults", options)))


def _use_dashboard(**options: Any) -> None:
    from procrastinate.adapters.django.dashboard.options import check_options  # most projects set none

    check_options(**options)


_USES: dict[str, tuple[Collection[str], Callable[..., object]]] = {
    "WORKER_DEFAULTS": (WorkerDefaults.__annotations__, _use_worker_defaults),
    "PERIODIC_DEFAULTS": (PeriodicDefaults.__annotations__, read_max_delay),
    "DASHBOARD": (DashboardSettings.__annotations__, _use_dashboard),
}
"""Settings that hold options: the valid names, and the function that takes the options."""

_READS: dict[str, Callable[[Any], object]] = {
    "LIMITS": read_limits_of_queues,
    "LISTEN_CONNECT_ARGS": functools.partial(elsewhere, {}),
}
"""Settings whose value a function reads as a whole."""

_ELSEWHERE = {"trusted_origins": "Set Django's CSRF_TRUSTED_ORIGINS, which the dashboard heeds."}
"""Hints for options that are set in another way."""

_MAY_BE_SECRET = {"LISTEN_CONNECT_ARGS"}
"""Settings whose values must not appear in messages."""


@register(TAG)
def check_settings(app_configs: Any = None, **kwargs: Any) -> list[CheckMessage]:
    """Return all problems of the settings. Paths and the alias are checked once the types are valid."""
    problems = [*_shape_problems()]
    return problems or [*_path_problems(), *_alias_problems()]


def _shape_problems() -> Iterator[CheckMessage]:
    dictionary = getattr(django_settings, PREFIX, {})
    if not isinstance(dictionary, Mapping):
        yield Error(f"{PREFIX} must be a dict, not {dictionary!r}.", id="procrastinate.E001")
        return
    by_key, by_name = from_dictionary(), from_names()
    yield from (_unknown(f"{PREFIX}[{key!r}]", key) for key in by_key if key not in NAMES)
    yield from (_unknown(setting_name(name), name) for name in by_name if name not in NAMES)
    for name in NAMES:
        if name in by_key and name in by_name:
            yield Error(
                f"{setting_name(name)} and {PREFIX}[{name!r}] are both set.",
                hint="Keep one of them.",
                id="procrastinate.E003",
            )
        if name in by_key:
            yield from _type_problems(f"{PREFIX}[{name!r}]", name, by_key[name])
        if name in by_name:
            yield from _type_problems(setting_name(name), name, by_name[name])


def _unknown(written: str, name: Any) -> CheckMessage:
    return Error(f"{written} is not a setting of Procrastinate.", hint=_hint(name, NAMES), id="procrastinate.E002")


def _hint(name: Any, known: Collection[str]) -> str:
    similar = difflib.get_close_matches(str(name), known, n=1)
    return f"Do you mean {similar[0]}?" if similar else f"Valid names: {', '.join(known)}."


def _type_problems(written: str, name: str, value: Any) -> Iterator[CheckMessage]:
    is_right, wanted = _TYPES[name]
    if not is_right(value):
        shown = f"of type {type(value).__name__}" if name in _MAY_BE_SECRET else repr(value)
        yield Error(f"{written} must be {wanted}, not {shown}.", id="procrastinate.E004")
    elif value is not None and name in _READS:
        yield from _value_problems(written, value, _READS[name])
    elif value is not None and name in _USES:
        yield from _option_problems(written, value, *_USES[name])


def _option_problems(
    written: str, options: Mapping[Any, Any], known: Collection[str], use: Callable[..., object]
) -> Iterator[CheckMessage]:
    """Check the names of options, then the values by using them as the worker would."""
    unknown = [key for key in options if key not in known]
    for key in unknown:
        hint = _ELSEWHERE.get(key) or _hint(key, known)
        yield Error(f"{written} has the unknown option {key!r}.", hint=hint, id="procrastinate.E008")
    if unknown:
        return
    try:
        use(**options)
    except (TypeError, ValueError, exceptions.ProcrastinateException) as error:
        yield Error(f"{written}: {error}.", id="procrastinate.E009")


def _value_problems(written: str, value: Any, read: Callable[[Any], object]) -> Iterator[CheckMessage]:
    try:
        read(value)
    except (TypeError, ValueError) as error:
        yield Error(f"{written}: {error}.", id="procrastinate.E009")


def _path_problems() -> Iterator[CheckMessage]:
    settings = get_settings()
    for path in settings.IMPORT_PATHS:
        if not _module_exists(path):
            yield _path_error("IMPORT_PATHS", f"there is no module {path!r}")
    known = {name for config in apps.get_app_configs() for name in (config.name, config.label)}
    for name in settings.AUTODISCOVER_EXCLUDE:
        if name not in known:
            yield _path_error("AUTODISCOVER_EXCLUDE", f"no installed app has the name or label {name!r}")
    for name in ("ON_APP_READY", "CREATE_CONNECTOR"):
        path = getattr(settings, name)
        if path is None:
            continue
        try:
            loaded = import_string(path)
        except ImportError as error:
            yield _path_error(name, str(error))
        else:
            if not callable(loaded):
                yield _path_error(name, f"{path!r} is {loaded!r}, not a function")


def _module_exists(path: str) -> bool:
    try:
        return importlib.util.find_spec(path) is not None
    except (ImportError, ValueError):
        return False


def _path_error(name: str, what: str) -> CheckMessage:
    return Error(f"The Procrastinate setting {name} is invalid: {what}.", id="procrastinate.E005")


def _alias_problems() -> Iterator[CheckMessage]:
    settings = get_settings()
    if settings.CREATE_CONNECTOR is None:
        yield from _problems_of_alias("DATABASE_ALIAS", settings.DATABASE_ALIAS)
    if settings.READ_DATABASE_ALIAS is not None:
        yield from _problems_of_alias("READ_DATABASE_ALIAS", settings.READ_DATABASE_ALIAS)


def _problems_of_alias(name: str, alias: str) -> Iterator[CheckMessage]:
    if alias not in connections:
        yield Error(
            f"The Procrastinate setting {name} is {alias!r}, which is not in DATABASES.",
            hint=f"Valid names: {', '.join(connections)}.",
            id="procrastinate.E006",
        )
    elif connections[alias].vendor != "postgresql":
        yield Error(
            f"The database {alias!r} is not PostgreSQL, which Procrastinate needs.",
            hint=f"Add a PostgreSQL database to DATABASES, and name it in the setting {setting_name(name)}.",
            id="procrastinate.E007",
        )
