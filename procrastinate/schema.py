"""The schema: apply it, print it, and keep it apart from the user's own migrations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from procrastinate import alembic, core, exceptions
from procrastinate._follow import follow, follow_async
from procrastinate._text.logs import get_logger
from procrastinate.alembic import revisions
from procrastinate.alembic.script_files import script_location
from procrastinate.alembic.settings import VERSION_TABLE, VERSIONS_LOCATION, let_fetches_of_3x_go_on
from procrastinate.connector import BaseConnector
from procrastinate.core.tables import metadata
from procrastinate.core.tries import Tries, Try

if TYPE_CHECKING:
    from procrastinate.alembic.adoption import Report

logger = get_logger(__name__)


class SchemaManager:
    """Applies the schema on an app's connector: ``app.schema_manager``."""

    def __init__(self, connector: BaseConnector) -> None:
        self.connector = connector

    @staticmethod
    def get_schema() -> str:
        """Return the SQL script that brings an empty database to the newest schema.

        It neither begins nor commits: execute it in a transaction, which may be one of your own migrations.
        """
        return alembic.upgrades.upgrade_sql(transactional=False)

    @staticmethod
    def get_migrations_path() -> str:
        """Return the folder of the Alembic revisions, for ``version_locations`` in a configuration of your own.

        If the package lies in an archive or has no sources, this process deletes the folder at its end.
        """
        return str(script_location() / VERSIONS_LOCATION.name)

    def apply_schema(self, *, orphans: str = "keep", report: Report | None = None) -> None:
        """Bring the database to the newest schema: from nothing, from any older revision, or from Procrastinate 3.10.

        It may be called again, and by several processes at once. Programs and workers of 3.10 go on. After a kill, the
        next call continues. Each revision after the first ones is a transaction, so writers wait briefly.

        Parameters
        ----------
        orphans:
            What happens to running jobs of 3.x whose worker is gone: ``"keep"``, ``"retry"`` or ``"fail"``. A later
            call can decide it, too.
        report:
            Called with a line for people before each step that builds an index or upgrades tables of 3.x. The default
            logs it.

        Raises
        ------
        SchemaConflict
            A newer release has applied its schema already, or there are tables without a revision. Or the tables are of
            a release of 3.x before 3.10.
        """
        follow(self.connector.run, _apply(orphans, _or_log(report)))

    async def apply_schema_async(self, *, orphans: str = "keep", report: Report | None = None) -> None:
        """Asynchronous version of :meth:`apply_schema`."""
        await follow_async(self.connector.run_async, _apply(orphans, _or_log(report)))

    def plan(self) -> str:
        """Return what :meth:`apply_schema` would do, what it would lock, and for how long. Change nothing.

        Raises
        ------
        SchemaConflict
            :meth:`apply_schema` would be refused. The message says why.
        """
        return self.connector.run(alembic.plans.plan)

    def count_left_behind(self) -> int:
        """Count the running jobs of 3.x whose worker is gone, and for which nothing is decided yet."""
        return self.connector.run(core.count_left_behind)

    def revert_to_3x(self, *, report: Report | None = None) -> None:
        """Give a database that was upgraded from 3.x its triggers, foreign keys and functions again.

        To install 3.10 again you do not need this. It works on these tables as they are.

        Raises
        ------
        SchemaConflict
            The tables were never of 3.x, or :meth:`contract` was called. Or workers of this release are at work.
        """
        self.connector.run(alembic.adoption.check_revert)
        self.connector.run(alembic.empty_lines.empty_lines, _or_log(report))
        self.connector.run(alembic.upgrades.downgrade_to_kept)
        self.connector.run(alembic.adoption.revert, _or_log(report))

    def contract(self, *, report: Report | None = None) -> None:
        """Drop the indexes that only 3.x uses, and what :meth:`revert_to_3x` needs. You cannot go back after that.

        Raises
        ------
        SchemaConflict
            Workers of 3.x are at work, or were less than an hour ago.
        """
        self.connector.run(alembic.adoption.contract, _or_log(report))

    def check_schema(self) -> None:
        """Check that the schema is not older than this release needs. Log a warning if it is newer.

        A database without a revision, whose tables another tool made, passes if the tables have all columns.

        Raises
        ------
        SchemaNotApplied
            The schema is older, or is not there.
        TablesOf3x
            The tables come from Procrastinate 3.x.
        UnfitSettings
            The role or the database has a setting with which no worker can do its work.
        """
        _compare(self.connector.run(revisions.fit_revision))
        _refuse_settings(self.connector.run(core.list_unfit_settings))

    async def check_schema_async(self) -> None:
        """Asynchronous version of :meth:`check_schema`."""
        _compare(await self.connector.run_async(revisions.fit_revision))
        _refuse_settings(await self.connector.run_async(core.list_unfit_settings))


def _apply(orphans: str, report: Report) -> Tries[None]:
    """Yield the operations of :meth:`SchemaManager.apply_schema` in their order."""
    decide = _decision(alembic.adoption.Orphans(orphans))
    if (yield Try(alembic.adoption.is_needed)):
        yield Try(alembic.adoption.adopt, (report,))
    yield Try(alembic.build_ahead.build_ahead, (), {"report": report})
    repetitions = alembic.upgrades.Repetitions()
    is_behind = True
    while is_behind:
        with repetitions.after_deadlock():
            is_behind = yield Try(alembic.upgrades.upgrade_by_one)
        yield Try(let_fetches_of_3x_go_on)
    yield Try(alembic.build_ahead.drop_what_came_late, (report,))
    if decide is not None:
        count: int = yield Try(decide)
        report(_decided(orphans, count))


def adopt(connection: sa.Connection, *, concurrently: bool = False) -> None:
    """Bring a database to the newest schema in a revision of your own Alembic: from nothing, an older one, or 3.10.

    A database that has the newest schema already is left alone, so the revision works on fresh databases, too.

    Parameters
    ----------
    connection:
        ``op.get_bind()``.
    concurrently:
        Whether the connection is in autocommit (``op.get_context().autocommit_block()``). Indexes are built while
        writers go on, then. Otherwise all is one transaction, and writers wait until it ends.

    Raises
    ------
    SchemaConflict
        As :meth:`SchemaManager.apply_schema`.
    """
    if alembic.adoption.is_needed(connection):
        run = alembic.adoption.adopt if concurrently else alembic.adoption.adopt_in_transaction
        run(connection)
    alembic.build_ahead.build_ahead(connection)
    with alembic.upgrades.within_other_migrations():
        alembic.upgrades.upgrade(connection)
    alembic.build_ahead.drop_what_came_late(connection)


def _or_log(report: Report | None) -> Report:
    return alembic.adoption.report_to_log if report is None else report


def _compare(current: str | None) -> None:
    """Compare a revision with those of this release. During a roll-out, workers of the old release see a newer one."""
    known = revisions.known_revisions()
    if current in known[:-1]:
        raise exceptions.SchemaNotApplied(
            f"The schema is at revision {current}, and this release needs {known[-1]}: "
            "run `procrastinate schema --apply` (or `manage.py migrate` in Django)"
        )
    if current is not None and current != known[-1]:
        logger.warning(
            "The schema is at revision %s, which this release does not know: a newer release has applied it",
            current,
            extra={"action": "schema_is_newer", "revision": current, "known": known[-1]},
        )


def _refuse_settings(unfit: Sequence[str]) -> None:
    if unfit:
        names = ", ".join(setting.partition(" ")[0] for setting in unfit)
        raise exceptions.UnfitSettings(
            f"No worker can do its work with {', '.join(unfit)}, which the role or the database has: "
            f"set it otherwise for the workers' role (ALTER ROLE ... RESET {names}, or SET it to its default)"
        )


def include_object(object_: Any, name: str | None, type_: str, reflected: bool, compare_to: Any | None) -> bool:
    """Alembic's ``include_object`` hook that leaves this project's tables and indexes out of your autogenerate.

    In your ``env.py``::

        context.configure(..., include_object=procrastinate.schema.include_object)

    If you have a hook already, call this one from it.
    """
    table = object_ if type_ == "table" else getattr(object_, "table", None)
    table_name = name if table is None else table.name
    return table_name not in _OWN_TABLES


def _decision(orphans: str) -> Callable[[sa.Connection], int] | None:
    """Return the operation for a member of ``Orphans``. A health check needs none, and loads none."""
    if orphans == "keep":
        return None
    return core.retry_left_behind if orphans == "retry" else core.fail_left_behind


def _decided(orphans: str, count: int) -> str:
    if not count:
        return "No running job was left behind by 3.x. A worker of 3.x counts as gone after an hour of silence"
    return f"{count:,} running jobs that 3.x had left behind {'wait again' if orphans == 'retry' else 'failed'}"


_OWN_TABLES = {table.name for table in metadata.tables.values()} | {VERSION_TABLE}
