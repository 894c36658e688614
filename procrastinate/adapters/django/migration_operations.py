"""The operation used in the emitted migrations."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from django.core.management import CommandError
from django.db import connections, migrations, transaction

from procrastinate import alembic, exceptions
from procrastinate.adapters.django.connector import DjangoConnector
from procrastinate.adapters.django.databases import connector_of
from procrastinate.alembic.revisions import is_after, is_at_least, refuse_conflicts
from procrastinate.alembic.settings import (
    hold_fetches_of_3x,
    hold_late_fetches_of_3x,
    hold_migration_lock,
    let_fetches_of_3x_go_on,
)


class RunPostgreSQL(migrations.RunSQL):
    """The SQL of an Alembic revision, for the database of the queue.

    Where the database has the revision already, nothing is done, and Django records the migration: `procrastinate
    schema --apply` or Alembic was here. A database of another make that is migrated too is passed over.

    ``DATABASE_ROUTERS`` decides which of several PostgreSQL databases gets the tables.
    """

    def __init__(self, sql: Any, reverse_sql: Any, *, revision: str) -> None:
        super().__init__(sql, reverse_sql)
        self.revision = revision

    def deconstruct(self) -> tuple[str, list[Any], dict[str, Any]]:
        """Return what writes this operation down again."""
        return self.__class__.__qualname__, [self.sql, self.reverse_sql], {"revision": self.revision}

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        """Bring the database to the revision.

        Raises
        ------
        CommandError
            It conflicts with existing tables. The message explains it and says what to do.
        """
        alias = schema_editor.connection.alias
        if schema_editor.collect_sql:
            super().database_forwards(app_label, schema_editor, from_state, to_state)
        elif self._is_for(schema_editor) and not self._is_reached(alias):
            _run(connector_of(alias), alembic.build_ahead.build_ahead, self.revision, print)
            tries = alembic.upgrades.Repetitions()
            is_done = False
            while not is_done:
                # Within a transaction of the caller's, a repetition would meet the same locks.
                with contextlib.nullcontext() if connections[alias].in_atomic_block else tries.after_deadlock():
                    with self._alone(schema_editor) as is_reached:
                        if not is_reached:
                            super().database_forwards(app_label, schema_editor, from_state, to_state)
                    is_done = True
            connector_of(alias).run(let_fetches_of_3x_go_on)
            _run(connector_of(alias), alembic.build_ahead.drop_what_came_late, print)

    def database_backwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        """Take the revision back, if the database has it. Tables that were of 3.x become those of 3.x again.

        Raises
        ------
        CommandError
            It cannot be: this says why, and what to do.
        """
        alias = schema_editor.connection.alias
        if schema_editor.collect_sql:
            super().database_backwards(app_label, schema_editor, from_state, to_state)
        elif self._is_for(schema_editor) and connector_of(alias).run(is_at_least, self.revision):
            if not is_after(self.revision, alembic.adoption.KEPT) and connector_of(alias).run(
                alembic.adoption.can_revert
            ):
                _run(connector_of(alias), alembic.upgrades.downgrade_to_kept)
                _run(connector_of(alias), alembic.adoption.revert, print)
                return
            if self.revision == alembic.empty_lines.REVISION:
                _run(connector_of(alias), alembic.empty_lines.empty_lines, print)
            with self._alone(schema_editor) as is_reached:
                if is_reached:
                    super().database_backwards(app_label, schema_editor, from_state, to_state)
            connector_of(alias).run(let_fetches_of_3x_go_on)

    @contextlib.contextmanager
    def _alone(self, schema_editor: Any) -> Iterator[bool]:
        """Run a block in one transaction, in which no other process migrates and 3.x fetches nothing.

        Yields
        ------
        Whether the database has the revision by now. Another process may have been faster.
        """
        connector = connector_of(schema_editor.connection.alias)
        with _one_transaction(schema_editor):
            connector.run(hold_migration_lock)
            columns = connector.run(hold_fetches_of_3x)
            yield connector.run(is_at_least, self.revision)
            connector.run(hold_late_fetches_of_3x, columns)

    def _is_for(self, schema_editor: Any) -> bool:
        return bool(schema_editor.connection.vendor == "postgresql")

    def _is_reached(self, alias: str) -> bool:
        """Return whether the database has the revision, also after tables of 3.x were upgraded."""
        connector = connector_of(alias)
        if connector.run(alembic.adoption.is_needed):
            if connections[alias].in_atomic_block:
                _run(connector, alembic.adoption.adopt_in_transaction, print)
            else:
                _run(connector, alembic.adoption.adopt, print)
        _run(connector, refuse_conflicts)
        return connector.run(is_at_least, self.revision)

    def _run_sql(self, schema_editor: Any, sqls: str | Sequence[str]) -> None:
        if self._is_for(schema_editor):
            super()._run_sql(schema_editor, sqls)  # type: ignore[misc]


_TABLES_OF_3X, _FIRST_AFTER_3X = "procrastinate_0000", "procrastinate_0001"


def check_way_back(*, using: str, plan: Iterable[tuple[migrations.Migration, bool]], **kwargs: Any) -> None:
    """Refuse a way back to 3.x before its first migration is taken back. ``pre_migrate`` calls this.

    Otherwise the refusal comes in the middle, when workers have lost tables that they use. Tables that have nothing of
    3.x would end as those of no release. Only ``migrate procrastinate zero`` takes them back: it drops them.

    Raises
    ------
    CommandError
        Workers of this release are at work, or the tables have nothing of 3.x to go back to.
    """
    operations = (one for migration, is_backward in plan if is_backward for one in migration.operations)
    revisions = [one.revision for one in operations if isinstance(one, RunPostgreSQL)]
    if connections[using].vendor != "postgresql" or all(is_after(one, alembic.adoption.KEPT) for one in revisions):
        return
    connector = connector_of(using)
    ends_with_tables_of_3x = _FIRST_AFTER_3X in revisions and _TABLES_OF_3X not in revisions
    if ends_with_tables_of_3x or connector.run(alembic.adoption.can_revert):
        _run(connector, alembic.adoption.check_revert)


def _run(connector: DjangoConnector, operation: Any, *arguments: Any) -> None:
    try:
        connector.run(operation, *arguments)
    except exceptions.SchemaConflict as error:
        raise CommandError(str(error)) from error


def _one_transaction(schema_editor: Any) -> Any:
    """Open a transaction. A migration has none, because tables of 3.x are upgraded in steps while writers go on."""
    return transaction.atomic(using=schema_editor.connection.alias)
