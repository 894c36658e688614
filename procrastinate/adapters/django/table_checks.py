"""The check of the tables for ``check --database`` and ``migrate``: they must not belong to Procrastinate 3.x."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.core.checks import CheckMessage, Error, Tags, register
from django.db import connections

from procrastinate import exceptions
from procrastinate.adapters.django.databases import connector_of
from procrastinate.adapters.django.settings import get_settings
from procrastinate.alembic.revisions import refuse_3x


@register(Tags.database)
def check_tables(app_configs: Any = None, databases: Sequence[str] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """Report tables of Procrastinate 3.x. Other checks report an unreachable database."""
    settings = get_settings()
    alias = settings.DATABASE_ALIAS
    if settings.CREATE_CONNECTOR is not None or alias not in (databases or ()):
        return []
    if alias not in connections or connections[alias].vendor != "postgresql":
        return []
    try:
        connector_of(alias).run(refuse_3x)
    except exceptions.TablesOf3x as error:
        return [Error(str(error), id="procrastinate.E010")]
    except exceptions.ConnectorException:
        return []
    return []
