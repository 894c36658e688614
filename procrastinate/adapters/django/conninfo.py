"""psycopg's connection parameters for an entry of ``DATABASES``."""

from __future__ import annotations

import functools
from typing import Any

from django.db import connections

from procrastinate._text.logs import get_logger
from procrastinate.adapters.connections.conninfo import is_known

logger = get_logger(__name__)


def connector_params(alias: str = "default") -> dict[str, Any]:
    """Return the parameters of :func:`psycopg.connect` for a database of the project.

    They are Django's own parameters with all of ``OPTIONS`` (such as ``sslmode``, ``service`` or ``options``), except
    Django's cursors and type adapters. Parameters unknown to psycopg belong to the backend, for example the size of its
    pool, and are left out.

    Call this for each new connection: a backend may return a new password each time.
    """
    wrapper = connections[alias]
    params = dict(wrapper.get_connection_params())
    for django_only in ("context", "cursor_factory"):
        params.pop(django_only, None)
    if "prepare_threshold" not in wrapper.settings_dict["OPTIONS"]:
        params.pop("prepare_threshold", None)  # Django prepares nothing by default: workers see for themselves
    _log_left_out(alias, tuple(name for name in params if not is_known(name)))
    params = {name: value for name, value in params.items() if is_known(name)}
    role = wrapper.settings_dict["OPTIONS"].get("assume_role")
    if role:
        params["options"] = f"{params.get('options', '')} -c role={_escape(role)}".strip()
    return params


@functools.cache
def _log_left_out(alias: str, names: tuple[str, ...]) -> None:
    """Log the names, without values, once per process."""
    if names:
        logger.info(
            "Workers connect to the database %r without options that only its Django backend knows: %s",
            alias,
            ", ".join(names),
            extra={"action": "options_left_out", "alias": alias, "options": list(names)},
        )


def _escape(value: str) -> str:
    # https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNECT-OPTIONS
    return value.replace("\\", "\\\\").replace(" ", "\\ ")
