"""Create the queue's tables in Django's databases. Empty them and restart their ids in tests."""

from __future__ import annotations

import functools
import sys
from collections.abc import Mapping
from types import FrameType
from typing import Any

from django.core.management import CommandError
from django.core.management.commands import migrate
from django.db import connections, router
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.loader import MigrationLoader

from procrastinate import exceptions
from procrastinate.adapters.django.connector import DjangoConnector
from procrastinate.adapters.django.replica import in_tests
from procrastinate.core.health import jobs_table_exists
from procrastinate.core.retention import delete_everything
from procrastinate.core.tables import metadata
from procrastinate.schema import SchemaManager

_APP_LABEL = "procrastinate"


@functools.cache
def connector_of(alias: str) -> DjangoConnector:
    """Return a connector on Django's connection to a database, which need not be the queue's."""
    return DjangoConnector(alias)


def make_tables(*, using: str, **kwargs: Any) -> None:
    """Create the tables before ``migrate`` continues, in a project that has turned our migrations off.

    The models are unmanaged, so Django does not create their tables. This function does so in tests and with
    ``--run-syncdb``, when Django creates the tables of other apps. Other runs of ``migrate`` leave the schema to the
    project.

    Raises
    ------
    CommandError
        Existing objects in the database conflict with the schema.
    """
    if not _has_migrations() and _belongs_in(using) and (in_tests() or _syncs()):
        try:
            SchemaManager(connector_of(using)).apply_schema(report=print)
        except exceptions.SchemaConflict as error:
            raise CommandError(str(error)) from error


def empty_tables(*, using: str, **kwargs: Any) -> None:
    """Empty the tables when a test flushes a database, because ``flush`` skips unmanaged models.

    Django sends one signal after both ``flush`` and ``migrate``, and only ``migrate`` sends a plan with it. Outside
    tests, the function does nothing.
    """
    if "plan" in kwargs or not in_tests() or not _belongs_in(using):
        return
    connector = connector_of(using)
    if connector.run(jobs_table_exists):
        connector.run(delete_everything)


def restart_ids_with_others(*, connection: BaseDatabaseWrapper, **kwargs: Any) -> None:
    """Let ``reset_sequences`` of a test restart the ids of jobs, because Django skips unmanaged models.

    Django sends no signal at that time. It asks the connection for its sequences, and nothing else asks for them.
    """
    introspection = connection.introspection
    if in_tests() and not isinstance(introspection.sequence_list, _WithSequencesOfQueue):
        introspection.sequence_list = _WithSequencesOfQueue(connection)  # type: ignore[method-assign]


class _WithSequencesOfQueue:
    """The sequences of managed models, and those of the queue's tables that are there."""

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self._connection = connection
        self._list_others = connection.introspection.sequence_list

    def __call__(self) -> list[dict[str, Any]]:
        others = self._list_others()
        if not _belongs_in(self._connection.alias):
            return others
        existing = set(self._connection.introspection.table_names())
        return [*others, *(one for one in _sequences_of_queue() if one["table"] in existing)]


def _sequences_of_queue() -> list[dict[str, Any]]:
    columns = (column for table in metadata.sorted_tables for column in table.columns if column.identity is not None)
    return [{"table": column.table.name, "column": column.name} for column in columns]


def _has_migrations() -> bool:
    return MigrationLoader.migrations_module(_APP_LABEL)[0] is not None


def _belongs_in(alias: str) -> bool:
    return connections[alias].vendor == "postgresql" and router.allow_migrate(alias, _APP_LABEL)


def _syncs() -> bool:
    """Return True if ``migrate`` runs with ``--run-syncdb``."""
    options = options_of_migrate()
    return options is not None and bool(options.get("run_syncdb"))


def options_of_migrate() -> Mapping[str, Any] | None:
    """Return the options of the ``migrate`` that runs the calling code, or ``None`` if none does.

    Django's signals and checks are told neither the command nor its options. The frames of the callers have both.
    """
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        command, options = frame.f_locals.get("self"), frame.f_locals.get("options")
        if isinstance(command, migrate.Command) and isinstance(options, dict):
            return options
        frame = frame.f_back
    return None
