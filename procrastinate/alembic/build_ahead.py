"""Builds what revisions need before their transaction, and writes it as a script."""

from __future__ import annotations

from collections.abc import Iterator

import sqlalchemy as sa
from alembic.script import ScriptDirectory

from procrastinate.alembic.adoption.run import Report, report_to_log, with_patience
from procrastinate.alembic.adoption.script import DROP_UNFINISHED
from procrastinate.alembic.ahead import Ahead
from procrastinate.alembic.revisions import alembic_config, current_revision, known_revisions
from procrastinate.core.tables import jobs


def build_ahead(connection: sa.Connection, revision: str = "head", report: Report = report_to_log) -> None:
    """Build what the revisions up to this one need, while readers and writers go on.

    A call that was killed may be repeated, and the next one goes on. A database without tables is left alone. In an
    open transaction nothing is done: no index can be built concurrently there, and the revisions build it.

    Parameters
    ----------
    report:
        Called with a line for people before each step, unless there are no jobs, whose readers and writers could wait.

    Raises
    ------
    ConnectorException
        A lock was not to be had in ten minutes. What was done stays.
    """
    todo = list(pending(current_revision(connection), revision))
    if not todo or _is_in_transaction(connection):
        return
    tell = report if connection.execute(_HAS_JOBS).scalar_one() else _tell_nothing
    for ahead in todo:
        if ahead.columns:
            tell(f"add the columns {', '.join(ahead.columns)} (locks: ACCESS EXCLUSIVE, milliseconds)")
        for statement in ahead.before_revision():
            with_patience(connection, statement, report)
        for name, statement in ahead.concurrently().items():
            tell(f"build the index {name} (locks: SHARE UPDATE EXCLUSIVE: reads and writes go on)")
            with_patience(connection, statement, report, index=name)


_HAS_JOBS = sa.select(sa.exists(sa.select(sa.literal(1)).select_from(jobs)))


def _tell_nothing(line: str) -> None:
    pass


_MARK = sa.text("SELECT set_config('procrastinate.in_transaction', 'on', true)")
_IS_MARKED = sa.text("SELECT coalesce(current_setting('procrastinate.in_transaction', true) = 'on', false)")


def _is_in_transaction(connection: sa.Connection) -> bool:
    """Whether two statements are in one transaction. Only the server knows it of every connection."""
    connection.execute(_MARK)
    return bool(connection.execute(_IS_MARKED).scalar_one())


def pending(current: str | None, revision: str = "head") -> Iterator[Ahead]:
    """Yield what the revisions after the current one build before. A database without a revision has no big tables."""
    known = known_revisions()
    if current not in known:
        return
    end = len(known) if revision == "head" else known.index(revision) + 1
    script = ScriptDirectory.from_config(alembic_config())
    for name in known[known.index(current) + 1 : end]:
        ahead = getattr(script.get_revision(name).module, "AHEAD", None)
        if ahead is not None:
            yield ahead


def script_ahead(current: str) -> str:
    """Return what is built before the revisions after the current one, for psql outside of a transaction."""
    statements = (
        statement
        for ahead in pending(current)
        for statement in (
            *(f"{statement};" for statement in ahead.before_revision()),
            *(f"{DROP_UNFINISHED.format(name=name)}\n{create};" for name, create in ahead.concurrently().items()),
        )
    )
    return "\n\n".join(statements)
