"""Read which steps of a workflow did not succeed, and why."""

from __future__ import annotations

import dataclasses

import sqlalchemy as sa

from procrastinate import exceptions
from procrastinate.core.enums import Status
from procrastinate.core.tables import errors, jobs, status_literal, workflows
from procrastinate.core.workflow_rows import GroupKind

NOT_REACHED = f"{exceptions.StepNotReached.__module__}.{exceptions.StepNotReached.__qualname__}"
"""The class of the error of a step that was cancelled because it needs another one."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class FailedStep:
    """A step that failed, or was cancelled or aborted.

    ``exception_class`` and ``message`` are those of its last error, and ``None`` if it has none.
    """

    job_id: int
    step: str
    task_name: str
    status: Status
    exception_class: str | None
    message: str | None


_own, _group, _steps = workflows.alias("own"), workflows.alias("member_group"), workflows.alias("steps")
_last = (
    sa.select(errors.c.exception_class, errors.c.message)
    .where(errors.c.job_id == jobs.c.id)
    .order_by((errors.c.id + sa.literal_column("0")).desc())
    .limit(sa.literal_column("1"))
    .lateral("last_error")
)
_HAS_CALLBACKS = (
    sa.select(_steps.c.id).where(_steps.c.root_id == _own.c.root_id, _steps.c.kind == GroupKind.STEPS.value).exists()
)
_FAILED = (
    sa.select(
        jobs.c.id.label("job_id"),
        sa.func.coalesce(jobs.c.step, jobs.c.task_name).label("step"),
        jobs.c.task_name,
        jobs.c.status,
        _last.c.exception_class,
        _last.c.message,
    )
    .select_from(_own)
    .join(_group, _group.c.root_id == _own.c.root_id)
    .join(jobs, sa.and_(jobs.c.workflow_id == _group.c.id, jobs.c.workflow_id.is_not(None)))
    .outerjoin(_last, sa.true())
    .where(
        _own.c.id == sa.bindparam("group_id", type_=sa.BigInteger()),
        jobs.c.status.in_([status_literal(one) for one in (Status.FAILED, Status.CANCELLED, Status.ABORTED)]),
        sa.not_(sa.and_(_group.c.kind == GroupKind.WORKFLOW.value, _HAS_CALLBACKS)),
        sa.func.coalesce(_last.c.exception_class, "") != NOT_REACHED,
    )
    .order_by(jobs.c.id)
    .limit(sa.bindparam("limit", type_=sa.Integer()))
)


def read_failed_steps(connection: sa.Connection, group_id: int, *, limit: int = 100) -> list[FailedStep]:
    """Return the steps without success in the workflow of a group, in the order in which they were added.

    Callbacks and steps that were cancelled only because they need one of these are left out.
    """
    rows = connection.execute(_FAILED, {"group_id": group_id, "limit": limit})
    return [FailedStep(**{**row._mapping, "status": Status(row.status)}) for row in rows]
