"""From an entry of ``DATABASES`` to the parameters with which psycopg connects to the same database."""

from __future__ import annotations

import functools
from typing import Any

from django.db import connections

from procrastinate.adapters.connection_parameters import is_known
from procrastinate.logs import get_logger

logger = get_logger(__name__)


def connector_params(alias: str = "default") -> dict[str, Any]:
    """The parameters of :func:`psycopg.connect` for a database of the project.

    Those that Django uses itself, with all of ``OPTIONS`` (such as ``sslmode``, ``service`` or ``options``), but
    for Django's cursors and type adapters: psycopg's own are wanted. What psycopg does not know is the backend's own
    (the size of its pool, say), and is left out.

    A backend may give another password each time: ask whenever a connection is made.
    """
    wrapper = connections[alias]
    params = dict(wrapper.get_connection_params())
    for django_only in ("context", "cursor_factory"):
        params.pop(django_only, None)
    _log_left_out(alias, tuple(name for name in params if not is_known(name)))
    params = {name: value for name, value in params.items() if is_known(name)}
    role = wrapper.settings_dict["OPTIONS"].get("assume_role")
    if role:
        params["options"] = f"{params.get('options', '')} -c role={_escape(role)}".strip()
    return params


@functools.cache
def _log_left_out(alias: str, names: tuple[str, ...]) -> None:
    """Say it once, by the names alone."""
    if names:
        logger.info(
            "Workers connect to the database %r without what only its Django backend knows: %s",
            alias,
            ", ".join(names),
            extra={"action": "options_left_out", "alias": alias, "options": list(names)},
        )


def _escape(value: str) -> str:
    # https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNECT-OPTIONS
    return value.replace("\\", "\\\\").replace(" ", "\\ ")
