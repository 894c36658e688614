"""The steps of the adoption, in order: what each does, what it locks, and what works if it ends there."""

from __future__ import annotations

import dataclasses

import sqlalchemy as sa

from procrastinate.alembic import settings
from procrastinate.alembic.adoption import statements

REACHED = "procrastinate_0006"
"""The revision that the steps lead to. Later ones are applied as to any database."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """A part of the adoption.

    Parameters
    ----------
    what:
        For people.
    locks:
        The strongest lock, and for how long.
    statements:
        Each is atomic, and can be repeated.
    index:
        The name of the index that the statement builds.
    until_done:
        The statement is repeated until it changes no row.
    is_done:
        A condition in SQL that holds if there is nothing left of it to do.
    """

    what: str
    locks: str
    statements: tuple[str, ...]
    index: str | None = None
    until_done: bool = False
    is_done: str = "false"


IS_BUILT = "EXISTS (SELECT FROM pg_index WHERE indexrelid = to_regclass('{name}') AND indisvalid)"
"""A condition in SQL, with a slot for the name of an index."""

BUILDS = "SHARE UPDATE EXCLUSIVE: reads and writes go on"
BRIEFLY = "ACCESS EXCLUSIVE on {}, milliseconds"
NONE = "none that blocks readers or writers"


def _build(name: str, definition: str, *, concurrently: bool) -> Step:
    create = (
        f"CREATE {definition.format(f'CONCURRENTLY IF NOT EXISTS {name}' if concurrently else f'IF NOT EXISTS {name}')}"
    )
    locks = BUILDS if concurrently else "SHARE: writes wait"
    return Step(
        what=f"build the index {name}",
        locks=locks,
        statements=(create,),
        index=name,
        is_done=f"{statements.IS_SWITCHED} OR {IS_BUILT.format(name=name)}",
    )


def steps(*, concurrently: bool = True) -> tuple[Step, ...]:
    """Return all steps.

    Parameters
    ----------
    concurrently:
        Whether indexes are built while writers go on. Within a transaction they cannot be.
    """
    return (
        Step(
            what="keep copies of the functions of 3.x, and let its fetches pause on demand",
            locks=NONE,
            statements=(statements.KEEP_ORIGINALS, statements.GUARD_FETCHES),
            is_done=statements.ARE_FETCHES_GUARDED,
        ),
        Step(
            what="wait for fetches that have begun before, for 5 s at most",
            locks=NONE,
            statements=(statements.AWAIT_FORMER_FETCHES,),
            is_done=statements.HAS_COLUMNS,
        ),
        Step(
            what="add the columns of procrastinate_jobs",
            locks=BRIEFLY.format("procrastinate_jobs"),
            # Within one transaction, the end of it is not known yet.
            statements=(statements.ADD_COLUMNS, *([settings.LET_FETCHES_GO_ON] if concurrently else [])),
            is_done=statements.HAS_COLUMNS,
        ),
        Step(
            what="add the columns of procrastinate_workers",
            locks=BRIEFLY.format("procrastinate_workers"),
            statements=(statements.EXTEND_WORKERS,),
            is_done=statements.ARE_WORKERS_EXTENDED,
        ),
        Step(
            what="create procrastinate_results and procrastinate_errors, with the grants of procrastinate_events",
            locks=NONE,
            statements=(statements.ADD_TABLES,),
            is_done="to_regclass('procrastinate_errors_job_id_idx') IS NOT NULL",
        ),
        *(_build(name, definition, concurrently=concurrently) for name, definition in statements.INDEXES.items()),
        Step(
            what="replace triggers, foreign keys and functions, in one transaction",
            locks=BRIEFLY.format("the four tables"),
            statements=(statements.SWITCH,),
            is_done=statements.IS_SWITCHED,
        ),
        Step(
            what="clear finished_at of jobs that have not ended",
            locks=f"{statements.SETTLE_STEP:,} rows at a time",
            statements=(statements.SETTLE_WAITING,),
            until_done=True,
            is_done=statements.ARE_WAITING_SETTLED,
        ),
        Step(
            what="set finished_at of jobs that ended during the upgrade, and analyse the table",
            locks="those rows",
            statements=(statements.SETTLE_ENDED, statements.ANALYZE),
        ),
        Step(
            what=f"write down the revision {REACHED}",
            locks=NONE,
            statements=(statements.STAMP.format(revision=REACHED),),
        ),
    )


def pending(connection: sa.Connection) -> tuple[Step, ...]:
    """Return the steps that are left, which is a part after a killed run. Indexes are built while writers go on.

    The condition on rows needs the columns. It is looked at if all steps before are done.
    """
    left: list[Step] = []
    for step in steps():
        may_look = not left or not step.until_done
        if not may_look or not is_done(connection, step):
            left.append(step)
    return tuple(left)


def is_done(connection: sa.Connection, step: Step) -> bool:
    """Return true if there is nothing left of a step to do."""
    # Of text, SQLAlchemy reads :names as parameters.
    return bool(connection.execute(sa.text(f"SELECT {step.is_done}".replace(":", r"\:"))).scalar_one())
