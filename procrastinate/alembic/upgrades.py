"""Operations on the schema itself: bring it to a revision, print its SQL."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator

import alembic.context
import alembic.op
import sqlalchemy as sa
from alembic import command

from procrastinate.alembic import adoption
from procrastinate.alembic.revisions import (
    alembic_config,
    current_revision,
    head_revision,
    is_after,
    next_revision,
    refuse_conflicts,
)
from procrastinate.alembic.settings import hold_migration_lock
from procrastinate.core.errors import is_deadlock
from procrastinate.core.operation_marks import atomic


@atomic
def upgrade(connection: sa.Connection, revision: str = "head") -> None:
    """Bring the database to a revision. Safe when several processes do it at once: one does, the others wait.

    Raises
    ------
    SchemaConflict
        It cannot be: the message says why, and what to do.
    """
    hold_migration_lock(connection)
    refuse_conflicts(connection)
    config = alembic_config()
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


@atomic
def upgrade_by_one(connection: sa.Connection) -> bool:
    """Bring the database to its next revision, and return whether there are more. An empty one gets all at once.

    With a transaction for each revision, writers wait for the statements of one revision and not of all.

    Raises
    ------
    SchemaConflict
        As for :func:`upgrade`.
    """
    hold_migration_lock(connection)
    current = current_revision(connection)
    revision = next_revision(current) if current is not None else head_revision()
    upgrade(connection, revision)
    return revision != head_revision()


class Repetitions:
    """Lets a migration be repeated whose transaction waited for a session that waited for it.

    ``CREATE INDEX CONCURRENTLY`` waits for all transactions that began before. Another process that applies the schema
    may run one, and so may a user.
    """

    def __init__(self) -> None:
        self._left = _REPETITIONS

    @contextlib.contextmanager
    def after_deadlock(self) -> Iterator[None]:
        """Pass over a deadlock, and let all other errors through."""
        try:
            yield
        except Exception as error:
            self._left -= 1
            if self._left < 0 or not is_deadlock(error):
                raise


_REPETITIONS = 100
"""Of one migration. Each comes after half a second at least."""


@contextlib.contextmanager
def within_other_migrations() -> Iterator[None]:
    """Let the migrations run within a revision of the user's. Alembic has one ``op`` and one ``context`` at a time."""
    outer = [getattr(module, "_proxy", None) for module in (alembic.op, alembic.context)]
    try:
        yield
    finally:
        for proxy in outer:
            if proxy is not None:
                proxy._install_proxy()


@atomic
def downgrade(connection: sa.Connection, revision: str) -> None:
    """Take the database back to a revision; ``base`` removes everything."""
    hold_migration_lock(connection)
    config = alembic_config()
    config.attributes["connection"] = connection
    command.downgrade(config, revision)


@atomic
def downgrade_to_kept(connection: sa.Connection) -> None:
    """Take back the revisions that a return to Procrastinate 3.x does not leave in place, if there are any.

    Raises
    ------
    SchemaConflict
        The database cannot become one of 3.x again, or a newer release has applied its schema.
    """
    adoption.check_revert(connection)
    refuse_conflicts(connection)
    current = current_revision(connection)
    if current is not None and is_after(current, adoption.KEPT):
        downgrade(connection, adoption.KEPT)


def upgrade_sql(start: str = "base", end: str = "head", *, transactional: bool = True) -> str:
    """Return the SQL that brings a database from one revision to another, as a script.

    Parameters
    ----------
    transactional:
        With ``BEGIN`` and ``COMMIT``; without them, for a caller that opens the transaction.
    """
    return _offline(command.upgrade, f"{start}:{end}", transactional)


def downgrade_sql(start: str, end: str = "base", *, transactional: bool = True) -> str:
    """Return the SQL that takes a database back from one revision to another, as a script."""
    return _offline(command.downgrade, f"{start}:{end}", transactional)


def _offline(run: Callable[..., None], revisions: str, transactional: bool) -> str:
    config = alembic_config()
    config.output_buffer = io.StringIO()
    config.attributes["transactional"] = transactional
    run(config, revisions, sql=True)
    return config.output_buffer.getvalue()
