"""What revisions build before their transaction, while readers and writers go on.

A revision locks its tables, so an index of a big table cannot be built in it. Such a revision has an :class:`Ahead` by
the name ``AHEAD``. Its columns are added in a transaction of their own, and its indexes are built concurrently. The
revision then finds them. It makes what it does not find, so it also works alone, in the transaction of another program.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from procrastinate.alembic.settings import (
    FETCHES_LOCK_KEY,
    HOLD_LATE_FETCHES,
    LET_FETCHES_GO_ON,
    MIGRATION_LOCK_KEY,
)

_LOCK_TIMEOUT = "200ms"
"""Less than ``deadlock_timeout``, as in :mod:`procrastinate.alembic.locks`."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Ahead:
    """Columns of ``procrastinate_jobs`` that may be NULL, and indexes on them.

    Parameters
    ----------
    columns:
        The type of each, by name.
    indexes:
        What follows ``ON procrastinate_jobs``, by the name of the index.
    """

    columns: Mapping[str, str]
    indexes: Mapping[str, str]

    def within_revision(self) -> tuple[str, ...]:
        """Return the statements by which the revision makes what is not there yet."""
        indexes = (
            f"""DO $do$
BEGIN
IF EXISTS (SELECT FROM pg_index WHERE indexrelid = to_regclass('{name}') AND NOT indisvalid) THEN
    DROP INDEX {name};
END IF;
CREATE INDEX IF NOT EXISTS {name} ON procrastinate_jobs {definition};
END
$do$"""
            for name, definition in self.indexes.items()
        )
        return (*([self._add_columns()] if self.columns else []), *indexes)

    def before_revision(self) -> tuple[str, ...]:
        """Return the statements that add the columns, if any, each a transaction of its own."""
        if not self.columns:
            return ()
        names = ", ".join(f"'{name}'" for name in self.columns)
        add = f"""DO $do$
BEGIN
PERFORM set_config('lock_timeout', '{_LOCK_TIMEOUT}', true);
PERFORM pg_advisory_xact_lock({MIGRATION_LOCK_KEY});
IF (
    SELECT count(*) FROM pg_attribute
    WHERE attrelid = 'procrastinate_jobs'::regclass AND attname IN ({names}) AND NOT attisdropped
) < {len(self.columns)} THEN
    PERFORM pg_advisory_xact_lock({FETCHES_LOCK_KEY});
    {self._add_columns()};
    {HOLD_LATE_FETCHES};
END IF;
END
$do$"""  # noqa: S608
        return (add, LET_FETCHES_GO_ON)

    def concurrently(self) -> Mapping[str, str]:
        """Return the statement that builds each index outside of a transaction, by the name of the index."""
        return {
            name: f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {name} ON procrastinate_jobs {definition}"
            for name, definition in self.indexes.items()
        }

    def _add_columns(self) -> str:
        columns = ", ".join(f"ADD COLUMN IF NOT EXISTS {name} {type_}" for name, type_ in self.columns.items())
        return f"ALTER TABLE procrastinate_jobs {columns}"
