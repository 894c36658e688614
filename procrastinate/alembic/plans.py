"""Says what applying the schema would do."""

from __future__ import annotations

from collections.abc import Iterator

import sqlalchemy as sa

from procrastinate.alembic import adoption, revisions
from procrastinate.alembic.adoption.run import SECONDS_A_MILLION
from procrastinate.alembic.adoption.state import State, check
from procrastinate.alembic.adoption.steps import steps
from procrastinate.alembic.build_ahead import pending

_UP_TO_DATE = "The schema is up to date"


def plan(connection: sa.Connection) -> str:
    """Say what :func:`~procrastinate.alembic.upgrades.upgrade` would do to the database, and change nothing.

    Raises
    ------
    SchemaConflict
        It would be refused: the message says why.
    """
    if adoption.is_needed(connection):
        check(connection)
        return "\n".join(_adoption_lines(adoption.look(connection)))
    revisions.refuse_conflicts(connection)
    current = revisions.current_revision(connection)
    todo = _revisions_after(current)
    if not todo:
        return _UP_TO_DATE
    return "\n".join([*_lines_ahead(current), f"Apply the revisions {', '.join(todo)}"])


def _lines_ahead(current: str | None) -> Iterator[str]:
    for ahead in pending(current):
        if ahead.columns:
            yield f"Add the columns {', '.join(ahead.columns)}. Locks: ACCESS EXCLUSIVE, milliseconds."
        yield f"Build the indexes {', '.join(ahead.indexes)}. Reads and writes go on."


def _revisions_after(current: str | None) -> tuple[str, ...]:
    known = revisions.known_revisions()
    return known if current is None else known[known.index(current) + 1 :]


def _adoption_lines(state: State) -> Iterator[str]:
    yield "Take over the tables of Procrastinate 3.x. Its workers and writers may go on."
    yield f"About {state.jobs:,} jobs ({state.size}) and {state.events:,} events; {state.workers} workers beat."
    seconds = state.jobs / 1_000_000 * SECONDS_A_MILLION
    yield f"Building the indexes takes about {max(seconds, 1):,.0f} s. Nothing is rewritten."
    yield ""
    todo = steps()
    for number, step in enumerate(todo, start=1):
        yield f"{number:>3}. {step.what}"
        yield f"     locks: {step.locks}"
    after = _revisions_after(adoption.REACHED)
    for line in _lines_ahead(adoption.REACHED):
        yield f"     {line}"
    yield f"{len(todo) + 1:>3}. apply the revisions {', '.join(after)}"
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
