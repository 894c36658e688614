"""From an entry of ``DATABASES`` to the parameters with which psycopg connects to the same database."""

from __future__ import annotations

from typing import Any

from django.db import connections


def connector_params(alias: str = "default") -> dict[str, Any]:
    """The parameters of :func:`psycopg.connect` for a database of the project.

    Those that Django uses itself, with all of ``OPTIONS`` (such as ``sslmode``, ``service`` or ``options``), but
    for Django's cursors and type adapters: psycopg's own are wanted.
    """
    wrapper = connections[alias]
    params = dict(wrapper.get_connection_params())
    for django_only in ("context", "cursor_factory"):
        params.pop(django_only, None)
    role = wrapper.settings_dict["OPTIONS"].get("assume_role")
    if role:
        params["options"] = f"{params.get('options', '')} -c role={_escape(role)}".strip()
    return params


def _escape(value: str) -> str:
    # https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNECT-OPTIONS
    return value.replace("\\", "\\\\").replace(" ", "\\ ")
