"""The adoption as a script for psql."""

from __future__ import annotations

from procrastinate.alembic.adoption.own_objects import REFUSE_OWN_OBJECTS
from procrastinate.alembic.adoption.statements import drop_unfinished
from procrastinate.alembic.adoption.steps import Step, steps

_HEAD = """\
-- Upgrades tables of Procrastinate 3.10. For psql, outside a transaction: psql -X -v ON_ERROR_STOP=1 -f this.sql
-- It may be repeated. Where a lock is not to be had in half a second, it ends: run it again."""


def script() -> str:
    """Return all steps, as SQL that can be repeated."""
    return "\n\n".join([_HEAD, f"{REFUSE_OWN_OBJECTS};", *(f"-- {step.what}\n{_sql(step)}" for step in steps())])


def _sql(step: Step) -> str:
    parts = [_in_steps(statement) if step.until_done else f"{statement.strip()};" for statement in step.statements]
    if step.index is not None:
        parts.insert(0, f"{drop_unfinished(step.index)};")
    return "\n".join(parts)


def _in_steps(statement: str) -> str:
    return f"""DO $do$
BEGIN
LOOP
    {statement.strip()};
    EXIT WHEN NOT FOUND;
    COMMIT;
END LOOP;
END
$do$;"""
