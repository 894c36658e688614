"""Says what applying the schema would do.

The plan and the run ask the same steps whether they are done.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import sqlalchemy as sa

from procrastinate._durations import duration
from procrastinate._text.terminal import ends_of
from procrastinate.alembic import adoption, revisions, upgrades
from procrastinate.alembic.adoption.adopt import SECONDS_A_MILLION
from procrastinate.alembic.adoption.state import State, check
from procrastinate.alembic.adoption.steps import BRIEFLY, NONE, Step
from procrastinate.alembic.adoption.steps import pending as adoption_steps
from procrastinate.alembic.build_ahead import late, left_of, pending
from procrastinate.alembic.locks import QUEUE_TABLES

UP_TO_DATE = "The schema is up to date"


def plan(connection: sa.Connection) -> str:
    """Say what :func:`~procrastinate.schema.SchemaManager.apply_schema` would do to the database, and change nothing.

    Raises
    ------
    SchemaConflict
        It would be refused: the message says why.
    """
    if adoption.is_needed(connection):
        check(connection)
        return "\n".join(_adoption_lines(connection, adoption.look(connection)))
    revisions.refuse_conflicts(connection)
    todo = _steps_from(connection, revisions.current_revision(connection))
    return "\n".join(_numbered(todo)) if todo else UP_TO_DATE


def _steps_from(connection: sa.Connection, current: str | None) -> list[Step]:
    """Return what is done to a database of a revision, or to an empty one."""
    ahead = [step for ahead in pending(current) for step in left_of(connection, ahead)]
    todo = _revisions_after(current)
    if not todo:
        return [*ahead, *late(connection)]
    if current is None:
        how, locks = "", f"{NONE}: the tables are new"
    else:
        how, locks = ", each in a transaction", _locks_of(current)
    return [
        *ahead,
        Step(what=f"apply the revisions {ends_of(todo)}{how}", locks=locks, statements=()),
        *late(connection),
    ]


def _locks_of(current: str) -> str:
    """Return the strongest locks of the revisions after one."""
    script = upgrades.upgrade_sql(current)
    is_strong = re.search(r"\b(LOCK TABLE|ALTER TABLE|DROP INDEX|CREATE TRIGGER)\b", script)
    return f"{BRIEFLY.format(' and '.join(QUEUE_TABLES))} for each" if is_strong else NONE


def _revisions_after(current: str | None) -> tuple[str, ...]:
    known = revisions.known_revisions()
    return known if current is None else known[known.index(current) + 1 :]


def _numbered(todo: Sequence[Step]) -> Iterator[str]:
    for number, step in enumerate(todo, start=1):
        yield f"{number:>3}. {step.what}"
        yield f"     locks: {step.locks}"


def _adoption_lines(connection: sa.Connection, state: State) -> Iterator[str]:
    todo = adoption_steps(connection)
    yield "Upgrade the tables of Procrastinate 3.x. Its workers and writers may go on."
    yield f"About {state.jobs:,} jobs ({state.size}) and {state.events:,} events; {state.workers} workers beat."
    if any(step.index is not None for step in todo):
        seconds = state.jobs / 1_000_000 * SECONDS_A_MILLION
        yield f"Building the indexes takes about {duration(max(round(seconds), 1))}. Nothing is rewritten."
    yield ""
    yield from _numbered([*todo, *_steps_from(connection, adoption.REACHED)])
    yield ""
    yield from _warnings(state)


def _warnings(state: State) -> Iterator[str]:
    if state.orphans:
        total = sum(task.count for task in state.orphans)
        yield f"{total:,} jobs run for workers that are gone, or silent for an hour:"
        for task in state.orphans:
            yield f"    {task.count:,} of {task.task_name}, the oldest since {task.oldest}"
        yield "They stay as they are, unless you say --orphans=retry or --orphans=fail, now or later."
    else:
        yield "No job was left behind by a worker that is gone."
    for transaction in state.transactions:
        yield f"Indexes wait for the end of an open transaction: {transaction}."
    if state.has_policies:
        yield (
            "procrastinate_events has row security policies. procrastinate_results and procrastinate_errors get its "
            "grants, and no policies: write those yourself."
        )
