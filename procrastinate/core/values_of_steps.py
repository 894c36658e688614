"""Read the results that a step of a workflow takes as arguments."""

from __future__ import annotations

import dataclasses
from typing import Any

import sqlalchemy as sa

from procrastinate.core.arguments import readable_result
from procrastinate.core.criteria import is_possible
from procrastinate.core.tables import dependencies, jobs, results, workflows
from procrastinate.core.workflow_rows import GroupKind, Rule

_JOB_ID = sa.bindparam("job_id", type_=sa.BigInteger())
_PARENT_ID = sa.bindparam("parent_id", type_=sa.BigInteger())

_REFERENCES = (
    sa.select(
        sa.cast(dependencies.c.argument, sa.Text).label("path"),
        dependencies.c.parent_id,
        dependencies.c.parent_workflow_id,
        dependencies.c.rule,
    )
    .where(dependencies.c.job_id == _JOB_ID, dependencies.c.argument.is_not(None))
    .order_by(dependencies.c.id)
)
_TEXT = readable_result(results.c.value)
_OF_JOB = sa.select(jobs.c.step, _TEXT).outerjoin(results, results.c.job_id == jobs.c.id).where(jobs.c.id == _PARENT_ID)


def _of_group() -> sa.Select[Any]:
    """Select the group of a member. One that adds steps is in a group of its own, which has the member's name."""
    part = workflows.alias("part")
    is_part = sa.and_(
        part.c.parent_id == _PARENT_ID, part.c.kind == GroupKind.EXPANSION.value, jobs.c.step == part.c.name
    )
    root = sa.select(workflows.c.root_id).where(workflows.c.id == _PARENT_ID).scalar_subquery()
    return (
        sa.select(jobs.c.step, _TEXT)
        .join(part, part.c.id == jobs.c.workflow_id)
        .outerjoin(results, results.c.job_id == jobs.c.id)
        .where(part.c.root_id == root, sa.or_(part.c.id == _PARENT_ID, is_part))
        .order_by(jobs.c.id)
    )


_OF_GROUP = _of_group()


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class StepValue:
    """A result for the place ``path`` in the arguments, which is the text of a JSON array.

    ``values`` are JSON texts: one, or one for each member of a group. ``None`` stands for a result that is missing,
    and an empty text for one that cannot be read.
    ``is_needed`` is true if a missing result is an error.
    """

    path: str
    names: tuple[str | None, ...]
    values: tuple[str | None, ...]
    is_list: bool
    is_needed: bool


def read_values(connection: sa.Connection, job_id: int) -> list[StepValue]:
    """Return the results of other steps that a step takes as arguments."""
    found = []
    for row in connection.execute(_REFERENCES, {"job_id": job_id}).all():
        is_list = row.parent_id is None
        statement = _OF_GROUP if is_list else _OF_JOB
        parent = row.parent_workflow_id if is_list else row.parent_id
        rows = connection.execute(statement, {"parent_id": parent}).all()
        found.append(
            StepValue(
                path=row.path,
                names=tuple(name for name, _ in rows),
                values=tuple(value for _, value in rows),
                is_list=is_list,
                is_needed=row.rule == Rule.SUCCESS.value,
            )
        )
    return found


_own, _other = workflows.alias("own"), workflows.alias("other")
_BY_NAME = (
    sa.select(_TEXT)
    .select_from(_own)
    .join(_other, _other.c.root_id == _own.c.root_id)
    .join(jobs, sa.and_(jobs.c.workflow_id == _other.c.id, jobs.c.workflow_id.is_not(None)))
    .join(results, results.c.job_id == jobs.c.id)
    .where(
        _own.c.id == sa.bindparam("group_id", type_=sa.BigInteger()),
        jobs.c.step == sa.bindparam("step", type_=sa.Text()),
    )
    .order_by(jobs.c.id)
    .limit(1)
)


def read_step_value(connection: sa.Connection, group_id: int, step: str) -> str | None:
    """Return the result of the first step with this name in the workflow of a group, as JSON text."""
    if not is_possible(step):
        return None
    return connection.execute(_BY_NAME, {"group_id": group_id, "step": step}).scalar_one_or_none()
