"""Triggers count a stored weight below 1 as 1, as admissions do.

Only plain SQL stores such a weight. If the job was next in line, the trigger that hands over a slot divided by zero,
and the outcome of the job before could not be recorded. If it had a slot, the slots of its limit were counted too low,
and more jobs ran than the limit allows.

Revision ID: procrastinate_0025
Revises: procrastinate_0024
"""

from __future__ import annotations

import re

from procrastinate.alembic.replace_functions import execute_as_written, replaced
from procrastinate.alembic.versions import p0020_weights as twentieth
from procrastinate.alembic.versions import p0022_plain_updates as twenty_second
from procrastinate.alembic.versions import p0024_plain_deletes as twenty_fourth

revision = "procrastinate_0025"
down_revision = "procrastinate_0024"
branch_labels = None
depends_on = None

_WEIGHT = re.compile(r"coalesce\(([a-z.]*_?limit_weight), 1\)")


def _at_least_one(function: str) -> str:
    """Return a function with ``greatest`` for each ``coalesce`` of a weight. Both return 1 for NULL."""
    changed, number = _WEIGHT.subn(r"greatest(\1, 1)", replaced(function))
    if not number:
        raise ValueError("The function reads no weight")
    return changed


FORMER = (twentieth.HAND_OVER, twenty_second.JOBS_UPDATED, twenty_fourth.JOBS_DELETED)
HAND_OVER, JOBS_UPDATED, JOBS_DELETED = (_at_least_one(function) for function in FORMER)


def upgrade() -> None:
    for statement in (HAND_OVER, JOBS_UPDATED, JOBS_DELETED):
        execute_as_written(statement)


def downgrade() -> None:
    for statement in FORMER:
        execute_as_written(replaced(statement))
