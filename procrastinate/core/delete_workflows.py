"""The operation that deletes old workflows, each as a whole."""

from __future__ import annotations

import datetime
from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sa

from procrastinate.core.arrays import array_param, is_not_set_aside, is_one_of
from procrastinate.core.criteria import is_possible
from procrastinate.core.enums import Status
from procrastinate.core.operation_marks import atomic, finds_first_row_of
from procrastinate.core.read_workflows import state_of_main
from procrastinate.core.tables import DOING, TODO, jobs, workflows
from procrastinate.core.workflow_rows import GroupKind, WorkflowState

_JOBS_AT_ONCE = 1000
"""Jobs of one call."""
_IDS = array_param("ids", sa.BigInteger())
_STATES = {
    Status.SUCCEEDED: WorkflowState.SUCCEEDED,
    Status.FAILED: WorkflowState.FAILED,
    Status.CANCELLED: WorkflowState.CANCELLED,
}
_group = workflows.alias("any_group")


def _has_member(condition: sa.ColumnElement[bool]) -> sa.ColumnElement[bool]:
    """Return the condition "some job of this workflow meets the condition"."""
    member = sa.select(jobs.c.id).join(_group, _group.c.id == jobs.c.workflow_id)
    return member.where(_group.c.root_id == workflows.c.id, jobs.c.workflow_id.is_not(None), condition).exists()


def _old(
    older_than: datetime.timedelta,
    statuses: Collection[Status],
    queue_name: str | None,
    limit: int,
    set_aside: Sequence[int],
) -> sa.Select[Any]:
    """Select the oldest workflows that ended with one of these statuses, and lock them."""
    states = [_STATES[status] for status in statuses if status in _STATES]
    is_chosen = sa.or_(sa.false(), *(state_of_main(state) for state in states))
    statement = (
        sa.select(workflows.c.id)
        .where(
            workflows.c.parent_id.is_(None),
            workflows.c.kind == GroupKind.WORKFLOW.value,
            workflows.c.finished_at < sa.func.now() - older_than,
            is_chosen,
            is_not_set_aside(workflows.c.id),
            ~_has_member(sa.or_(jobs.c.status == TODO, jobs.c.status == DOING)),
        )
        .order_by(workflows.c.finished_at, workflows.c.id)
        .limit(limit)
        .with_for_update(of=workflows, skip_locked=True)
        .params(set_aside=list(set_aside))
    )
    if queue_name is None:
        return statement
    is_whole = ~_has_member(jobs.c.queue_name != queue_name) if is_possible(queue_name) else sa.false()
    return statement.where(is_whole)


_MEMBERS = (
    sa.select(jobs.c.id)
    .join(workflows, workflows.c.id == jobs.c.workflow_id)
    .where(workflows.c.root_id == sa.any_(_IDS))
    .limit(sa.literal_column(str(_JOBS_AT_ONCE)))
)
_DELETE_JOBS = sa.delete(jobs).where(is_one_of(jobs.c.id, _MEMBERS)).returning(jobs.c.id)
_DELETE_GROUPS = sa.delete(workflows).where(workflows.c.root_id == sa.any_(_IDS)).returning(workflows.c.id)


@atomic
def delete_old_workflows(
    connection: sa.Connection,
    *,
    older_than: datetime.timedelta,
    statuses: Collection[Status],
    queue_name: str | None = None,
    limit: int = 20,
    set_aside: Sequence[int] = (),
) -> int:
    """Delete up to a thousand jobs of workflows that ended longer ago than ``older_than``, and the empty workflows.

    Repeat it until it deletes nothing. A workflow with a job that has not ended is left alone.

    Parameters
    ----------
    statuses:
        Delete workflows that succeeded, failed or were cancelled, by the statuses of the same names.
    queue_name:
        Delete only workflows whose jobs are all in this queue.
    limit:
        The number of workflows.
    set_aside:
        Ids of workflows to keep.

    Returns
    -------
    The number of deleted rows.
    """
    ids = list(connection.execute(_old(older_than, statuses, queue_name, limit, set_aside)).scalars())
    if not ids:
        return 0
    deleted = len(connection.execute(_DELETE_JOBS, {"ids": ids}).all())
    if deleted < _JOBS_AT_ONCE:
        deleted += len(connection.execute(_DELETE_GROUPS, {"ids": ids}).all())
    return deleted


@finds_first_row_of(delete_old_workflows)
def first_old_workflow(
    connection: sa.Connection,
    *,
    older_than: datetime.timedelta,
    statuses: Collection[Status],
    queue_name: str | None = None,
    set_aside: Sequence[int] = (),
) -> int | None:
    """Return the id of the workflow that :func:`delete_old_workflows` would delete first, or ``None``."""
    return connection.execute(_old(older_than, statuses, queue_name, 1, set_aside)).scalars().first()
