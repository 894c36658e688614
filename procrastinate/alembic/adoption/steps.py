"""The steps of the adoption, in order: what each does, what it locks, and what works if it ends there."""

from __future__ import annotations

import dataclasses

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
    """

    what: str
    locks: str
    statements: tuple[str, ...]
    index: str | None = None
    until_done: bool = False


_BRIEFLY = "ACCESS EXCLUSIVE on {}, milliseconds"
_NONE = "none that blocks readers or writers"


def _build(name: str, definition: str, *, concurrently: bool) -> Step:
    create = (
        f"CREATE {definition.format(f'CONCURRENTLY IF NOT EXISTS {name}' if concurrently else f'IF NOT EXISTS {name}')}"
    )
    locks = "SHARE UPDATE EXCLUSIVE: reads and writes go on" if concurrently else "SHARE: writes wait"
    return Step(what=f"build the index {name}", locks=locks, statements=(create,), index=name)


def steps(*, concurrently: bool = True) -> tuple[Step, ...]:
    """All steps.

    Parameters
    ----------
    concurrently:
        Whether indexes are built while writers go on. Within a transaction they cannot be.
    """
    return (
        Step(
            what="keep copies of the functions of 3.x, and let its fetches pause on demand",
            locks=_NONE,
            statements=(statements.KEEP_ORIGINALS, statements.GUARD_FETCHES),
        ),
        Step(
            what="wait for fetches that have begun before, for 5 s at most",
            locks=_NONE,
            statements=(statements.AWAIT_FORMER_FETCHES,),
        ),
        Step(
            what="add the columns of procrastinate_jobs",
            locks=_BRIEFLY.format("procrastinate_jobs"),
            # Within one transaction, the end of it is not known yet.
            statements=(statements.ADD_COLUMNS, *([settings.LET_FETCHES_GO_ON] if concurrently else [])),
        ),
        Step(
            what="add the columns of procrastinate_workers",
            locks=_BRIEFLY.format("procrastinate_workers"),
            statements=(statements.EXTEND_WORKERS,),
        ),
        Step(
            what="create procrastinate_results and procrastinate_errors, with the grants of procrastinate_events",
            locks=_NONE,
            statements=(statements.ADD_TABLES,),
        ),
        *(_build(name, definition, concurrently=concurrently) for name, definition in statements.INDEXES.items()),
        Step(
            what="replace triggers, foreign keys and functions, in one transaction",
            locks=_BRIEFLY.format("the four tables"),
            statements=(statements.SWITCH,),
        ),
        Step(
            what="clear finished_at of jobs that have not ended",
            locks=f"{statements.SETTLE_STEP:,} rows at a time",
            statements=(statements.SETTLE_WAITING,),
            until_done=True,
        ),
        Step(
            what="set finished_at of jobs that ended during the takeover, and analyse the table",
            locks="those rows",
            statements=(statements.SETTLE_ENDED, statements.ANALYZE),
        ),
        Step(
            what=f"write down the revision {REACHED}",
            locks=_NONE,
            statements=(statements.STAMP.format(revision=REACHED),),
        ),
    )
