"""What is read to explain why a step of a workflow waits. Each function is one bounded query."""

from __future__ import annotations

import dataclasses
from typing import Any

import sqlalchemy as sa

from procrastinate.core.enums import Status
from procrastinate.core.resolve import is_unfinished
from procrastinate.core.tables import dependencies, jobs, status_literal, workflows
from procrastinate.core.workflow_rows import GroupKind, Rule

_MOST = 20


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class StepFacts:
    """The workflow of a step. ``if_failed`` is ``"cancel"`` or ``"hold"``."""

    workflow_id: int
    workflow: str
    if_failed: str
    step: str


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Needed:
    """A job or a group that a step waits for. A group has no job, and its status is ``None``."""

    job_id: int | None
    name: str
    status: Status | None

    def __str__(self) -> str:
        if self.job_id is None:
            return f"the group {self.name!r}"
        return f"{self.name!r} (job {self.job_id}, {'gone' if self.status is None else self.status.value})"


_root = workflows.alias("root")
_STEP = (
    sa.select(
        _root.c.id.label("workflow_id"),
        _root.c.name.label("workflow"),
        workflows.c.if_failed,
        sa.func.coalesce(jobs.c.step, jobs.c.task_name).label("step"),
    )
    .select_from(jobs.join(workflows, workflows.c.id == jobs.c.workflow_id))
    .join(_root, _root.c.id == workflows.c.root_id)
)


def read_step(connection: sa.Connection, job_id: int) -> StepFacts | None:
    """Return the workflow of a job, or ``None`` for a job that is no step."""
    row = connection.execute(_STEP.where(jobs.c.id == job_id)).one_or_none()
    return None if row is None else StepFacts(**row._mapping)


_parent, _group = jobs.alias("parent"), workflows.alias("parent_group")
_IS_UNFINISHED = sa.func.coalesce(is_unfinished(_parent, _group), sa.false())
_HAS_NOT_SUCCEEDED = sa.func.coalesce(_parent.c.status != status_literal(Status.SUCCEEDED), True)
_GROUP_WITHOUT_SUCCESS = _group.c.failed + _group.c.cancelled + _group.c.aborted + _group.c.lost > 0
_IS_UNSUCCESSFUL = sa.case(
    (
        dependencies.c.parent_id.is_not(None),
        sa.func.coalesce(_parent.c.status != status_literal(Status.SUCCEEDED), True),
    ),
    else_=_GROUP_WITHOUT_SUCCESS,
)
_NEEDED = (
    sa.select(
        dependencies.c.parent_id.label("job_id"),
        sa.func.coalesce(
            _parent.c.step,
            _parent.c.task_name,
            sa.case((_group.c.kind == GroupKind.STEPS.value, "all steps"), else_=_group.c.name),
            "a step that is gone",
        ).label("name"),
        _parent.c.status,
    )
    .select_from(dependencies)
    .outerjoin(_parent, _parent.c.id == dependencies.c.parent_id)
    .outerjoin(_group, _group.c.id == dependencies.c.parent_workflow_id)
    .where(sa.or_(dependencies.c.parent_id.is_not(None), dependencies.c.parent_workflow_id.is_not(None)))
    .order_by(dependencies.c.id)
    .limit(_MOST)
)


def read_open(connection: sa.Connection, job_id: int) -> list[Needed]:
    """Return what a step waits for and has not ended, at most 20."""
    return _needed(connection, job_id, ~dependencies.c.is_closed, _IS_UNFINISHED)


def read_broken(connection: sa.Connection, job_id: int) -> list[Needed]:
    """Return what a step needs the success of, and has ended without it, at most 20."""
    return _needed(connection, job_id, dependencies.c.rule == Rule.SUCCESS.value, ~_IS_UNFINISHED, _IS_UNSUCCESSFUL)


def _needed(connection: sa.Connection, job_id: int, *conditions: sa.ColumnElement[bool]) -> list[Needed]:
    rows: Any = connection.execute(_NEEDED.where(dependencies.c.job_id == job_id, *conditions))
    return [
        Needed(job_id=id_, name=name, status=None if status is None else Status(status)) for id_, name, status in rows
    ]
