"""The check of the tables for ``check --database`` and ``migrate``: they must not belong to Procrastinate 3.x."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.db import connections

from procrastinate import alembic, exceptions
from procrastinate.adapters.django import apps
from procrastinate.adapters.django.databases import connector_of, options_of_migrate
from procrastinate.adapters.django.settings import get_settings


@register(Tags.database)
def check_tables(app_configs: Any = None, databases: Sequence[str] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """Report tables of Procrastinate 3.x. Other checks report an unreachable database.

    Tables of 3.10 are a warning, except to a ``migrate`` that is about to upgrade them. Older ones are an error.
    """
    alias = alias_to_check(databases)
    if alias is None:
        return []
    try:
        is_of_3x = connector_of(alias).run(_is_of_3x)
    except exceptions.SchemaConflict as error:
        return [Error(str(error), id="procrastinate.E010")]
    except exceptions.ConnectorException:
        return []
    if not is_of_3x or _are_about_to_be_upgraded():
        return []
    return [Warning(str(exceptions.TablesOf3x()), id="procrastinate.W001")]


def alias_to_check(databases: Sequence[str] | None) -> str | None:
    """Return the alias of the queue's database if it is one of these, and is Django's own connection to PostgreSQL."""
    settings = get_settings()
    alias = settings.DATABASE_ALIAS
    if settings.CREATE_CONNECTOR is not None or alias not in (databases or ()):
        return None
    return alias if alias in connections and connections[alias].vendor == "postgresql" else None


def _are_about_to_be_upgraded() -> bool:
    """Return whether the caller is a ``migrate`` that applies the migrations of the queue."""
    options = options_of_migrate()
    if options is None:
        return False
    is_applied = options["app_label"] in (None, apps.ProcrastinateConfig.label)
    return is_applied and not (options["plan"] or options["check_unapplied"])


def _is_of_3x(connection: sa.Connection) -> bool:
    if not alembic.adoption.is_needed(connection):
        return False
    alembic.adoption.check(connection)
    return True
