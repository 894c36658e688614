"""Builds what revisions need before their transaction, and writes it as a script."""

from __future__ import annotations

from collections.abc import Iterator

import sqlalchemy as sa
from alembic.script import ScriptDirectory

from procrastinate.alembic.adoption.adopt import Report, report_to_log, with_patience
from procrastinate.alembic.adoption.statements import drop_unfinished
from procrastinate.alembic.adoption.steps import BRIEFLY, BUILDS, IS_BUILT, Step, is_done
from procrastinate.alembic.ahead import Ahead
from procrastinate.alembic.revisions import alembic_config, current_revision, is_at_least, known_revisions
from procrastinate.alembic.versions import p0007_with_3x as with_3x
from procrastinate.alembic.versions import p0017_ended_in_order as ended_in_order
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
    if not todo or is_in_transaction(connection):
        return
    tell = report if connection.execute(_HAS_JOBS).scalar_one() else _tell_nothing
    for ahead in todo:
        for step in left_of(connection, ahead):
            tell(f"{step.what} (locks: {step.locks})")
            for statement in step.statements:
                with_patience(connection, statement, report, index=step.index)
    # Another process may have applied a revision that renames what was built here a moment later.
    drop_what_came_late(connection, report)


def left_of(connection: sa.Connection, ahead: Ahead) -> tuple[Step, ...]:
    """Return the steps that are left to do. After a call that was killed, they are a part."""
    columns = Step(
        what=f"add the columns {', '.join(ahead.columns)} of {jobs.name}",
        locks=BRIEFLY.format(jobs.name),
        statements=ahead.before_revision(),
        is_done=_HAS_COLUMNS.format(number=len(ahead.columns), table=jobs.name, names=",".join(ahead.columns)),
    )
    indexes = (
        Step(
            what=f"build the index {name}",
            locks=BUILDS,
            statements=(statement,),
            index=name,
            is_done=IS_BUILT.format(name=name),
        )
        for name, statement in ahead.concurrently().items()
    )
    return tuple(step for step in (columns, *indexes) if not is_done(connection, step))


_HAS_COLUMNS = (
    "{number} = (SELECT count(*) FROM pg_attribute WHERE attrelid = '{table}'::regclass "
    "AND attname = ANY ('{{{names}}}') AND NOT attisdropped)"
)

RENAMED = {
    with_3x.QUEUEING_LOCK: (with_3x.revision, with_3x.QUEUEING_LOCK_OF_3X),
    ended_in_order.ENDED: (ended_in_order.revision, "procrastinate_jobs_finished_idx"),
}
"""Indexes that are built concurrently, and the revision that gives each another name, with that name."""


def drop_what_came_late(connection: sa.Connection, report: Report = report_to_log) -> None:
    """Drop indexes that a process has built after another one had applied the revision that needs them.

    No lock lasts longer than a transaction behind a pooler, and none may be held while an index is built concurrently.
    So of two processes that apply the schema at once, the slower one may build an index again whose name is free since
    its renaming. It drops the index itself. If it was killed before, the next call does it. In an open transaction
    nothing is done.

    Parameters
    ----------
    report:
        Called with a line for people before each index that is dropped.
    """
    for step in late(connection):
        if not is_in_transaction(connection):
            report(f"{step.what} (locks: {step.locks})")
            with_patience(connection, step.statements[0], report)


def late(connection: sa.Connection) -> tuple[Step, ...]:
    """Return what :func:`drop_what_came_late` does."""
    return tuple(
        Step(
            what=f"drop the index {name}, which was built twice",
            locks=BUILDS,
            statements=(f"DROP INDEX CONCURRENTLY IF EXISTS {name}",),
        )
        for name, (revision, new_name) in RENAMED.items()
        if is_at_least(connection, revision)
        and connection.execute(_IS_BUILT_TWICE, {"names": [name, new_name]}).scalar_one()
    )


# Of one table. The search path may also lead to another schema with tables of 3.x, whose index kept the revision from
# renaming this one.
_IS_BUILT_TWICE = sa.text(
    "SELECT count(*) = 2 FROM pg_index JOIN pg_class AS index ON index.oid = indexrelid "
    "WHERE indrelid = to_regclass('procrastinate_jobs') AND index.relname = ANY (:names)"
)


_HAS_JOBS = sa.select(sa.exists(sa.select(sa.literal(1)).select_from(jobs)))


def _tell_nothing(line: str) -> None:
    pass


_MARK = sa.text("SELECT set_config('procrastinate.in_transaction', 'on', true)")
_IS_MARKED = sa.text("SELECT coalesce(current_setting('procrastinate.in_transaction', true) = 'on', false)")


def is_in_transaction(connection: sa.Connection) -> bool:
    """Return whether two statements are in one transaction. Only the server knows it of every connection."""
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
            *(f"{drop_unfinished(name)};\n{create};" for name, create in ahead.concurrently().items()),
        )
    )
    return "\n\n".join(statements)
