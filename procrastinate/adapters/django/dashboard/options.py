"""Read the setting ``PROCRASTINATE_DASHBOARD``."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

from django.utils.module_loading import import_string

from procrastinate._functions.signature import check_hook
from procrastinate.adapters.django.settings import DashboardSettings, get_settings, setting_name
from procrastinate.connector import BaseConnector, as_connector
from procrastinate.dashboard.access import Access, Authorize
from procrastinate.dashboard.redaction import Redact, hide_keys, hides_keys_only

_TYPES: dict[str, type] = {"title": str, "read_only": bool, "search_arguments": bool}
"""The options that are no functions."""
_ARGUMENTS = {
    "authorize": ("request",),
    "redact": ("task_name", "value"),
    "on_action": ("entry",),
    "connector": (),
}
"""What the functions are called with."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DashboardOptions:
    """The options of the dashboard, with functions in place of their dotted paths.

    The parameters are the keys of :class:`~procrastinate.adapters.django.settings.DashboardSettings`.
    """

    title: str = "Procrastinate"
    redact: Redact = dataclasses.field(default_factory=hide_keys)
    read_only: bool = False
    search_arguments: bool | None = None
    on_action: Callable[[dict[str, Any]], None] | None = None
    connector: Callable[[], Any] | None = None
    authorize: Authorize | None = None

    @property
    def searches_arguments(self) -> bool:
        """True if a search may look at arguments. With a function of the project, a hit could tell what it hides."""
        return hides_keys_only(self.redact) if self.search_arguments is None else self.search_arguments

    def make_connector(self) -> BaseConnector | None:
        """Return the connector of the dashboard, made once in each process, or ``None`` for the app's."""
        return None if self.connector is None else _make_once(self.connector)


def get_options() -> DashboardOptions:
    """Return the options of the project.

    Raises
    ------
    TypeError
        The setting has an unknown option, or one of a wrong type.
    ValueError
        A dotted path leads nowhere.
    """
    return read_options(**(get_settings().DASHBOARD or {}))


def read_options(**given: Any) -> DashboardOptions:
    """Return the options for those of the setting. ``None`` means the default. It raises as :func:`get_options`."""
    known = DashboardSettings.__annotations__
    unknown = [name for name in given if name not in known]
    if unknown:
        raise TypeError(
            f"{setting_name('DASHBOARD')} has the unknown option {unknown[0]!r}. Valid options: {', '.join(known)}"
        )
    return DashboardOptions(**{name: _read(name, value) for name, value in given.items() if value is not None})


def check_options(**given: Any) -> None:
    """Refuse options as :func:`read_options`, and a function that no request can call. Requests do not check again.

    Raises
    ------
    TypeError, ValueError
        It raises as :func:`get_options`, and if a function is async or takes other arguments.
    """
    options = read_options(**given)
    for name, arguments in _ARGUMENTS.items():
        function = getattr(options, name)
        if function is not None and not isinstance(function, Access):
            check_hook(name, function, *arguments)


def _read(name: str, value: Any) -> Any:
    wanted = _TYPES.get(name)
    if wanted is None:
        return _function(name, value)
    if not isinstance(value, wanted):
        raise TypeError(f"{name} must be {'text' if wanted is str else 'True or False'}, not {value!r}")
    return value


def _function(name: str, value: Any) -> Any:
    """Return a function that is given as such or by its dotted path."""
    found = value
    if isinstance(value, str):
        try:
            found = import_string(value)
        except ImportError as error:
            raise ValueError(f"{name} is {value!r}: {error}") from error
    if callable(found) or (name == "authorize" and isinstance(found, Access)):
        return found
    raise TypeError(f"{name} must be a function or the dotted path of one, not {value!r}")


@functools.cache
def _make_once(create: Callable[[], Any]) -> BaseConnector:
    return as_connector(create())
