"""Operations that cancel and retry workflows and send them signals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from procrastinate.core.arrays import array_param, is_not_set_aside, is_one_of
from procrastinate.core.create_workflows import NEVER, append_arrivals, call_workers
from procrastinate.core.criteria import is_possible
from procrastinate.core.enums import Status
from procrastinate.core.operation_marks import atomic, finds_first_row_of
from procrastinate.core.tables import (
    DOING,
    TODO,
    UNDECIDED,
    WAITS_FOR_OTHERS,
    dependencies,
    jobs,
    results,
    status_literal,
    workflows,
)
from procrastinate.core.workflow_rows import SIGNAL_TASK, GroupKind, Rule

_ID = sa.bindparam("of_workflow", type_=sa.BigInteger())
_IDS = array_param("ids", sa.BigInteger())


def _has_callbacks() -> sa.ColumnElement[bool]:
    """Return the condition "the callbacks are members of the workflow itself, and its steps are in another group"."""
    steps = workflows.alias("steps")
    return sa.select(steps.c.id).where(steps.c.root_id == _ID, steps.c.kind == GroupKind.STEPS.value).exists()


_IS_CALLBACK = sa.and_(workflows.c.kind == GroupKind.WORKFLOW.value, _has_callbacks())


def _members(*statuses: sa.ColumnElement[Any]) -> sa.Select[Any]:
    """Select the steps of the workflow, without its callbacks."""
    return (
        sa.select(jobs.c.id)
        .join(workflows, workflows.c.id == jobs.c.workflow_id)
        .where(workflows.c.root_id == _ID, ~_IS_CALLBACK, jobs.c.status.in_(statuses))
    )


_BEGIN_CANCEL = (
    sa.update(workflows)
    .where(workflows.c.id == _ID, workflows.c.kind == GroupKind.WORKFLOW.value, workflows.c.finished_at.is_(None))
    .values(cancelled_at=sa.func.coalesce(workflows.c.cancelled_at, sa.func.now()))
    .returning(workflows.c.id)
)


def _some(members: sa.Select[Any]) -> sa.Select[Any]:
    """Lock the first of these steps that are not set aside. A row that others only refer to counts as free."""
    chosen = members.where(is_not_set_aside(jobs.c.id)).order_by(jobs.c.id)
    some = chosen.limit(sa.bindparam("limit", type_=sa.Integer()))
    return some.with_for_update(of=jobs, key_share=True, skip_locked=True)


_WAITING = _some(_members(TODO))
_RUNNING = _some(_members(DOING).where(~jobs.c.abort_requested))
_CANCEL = (
    sa.update(jobs)
    .where(is_one_of(jobs.c.id, _WAITING))
    .values(status=status_literal(Status.CANCELLED), finished_at=sa.func.now(), readiness=UNDECIDED)
    .returning(jobs.c.id)
)
_ABORT = sa.update(jobs).where(is_one_of(jobs.c.id, _RUNNING)).values(abort_requested=True).returning(jobs.c.id)


def begin_cancel(connection: sa.Connection, workflow_id: int) -> bool:
    """Mark a workflow that has not ended as cancelled, so that nothing can be added to it.

    Returns
    -------
    False if there is no such workflow, or it has ended.
    """
    return connection.execute(_BEGIN_CANCEL, {"of_workflow": workflow_id}).scalar_one_or_none() is not None


def cancel_steps(
    connection: sa.Connection, *, workflow_id: int, limit: int = 1000, set_aside: Sequence[int] = ()
) -> list[int]:
    """Cancel some steps that wait, in one short statement. Repeat it until it cancels none. Return their ids."""
    return list(connection.execute(_CANCEL, _of_some(workflow_id, limit, set_aside)).scalars())


@finds_first_row_of(cancel_steps)
def first_waiting_step(connection: sa.Connection, *, workflow_id: int, set_aside: Sequence[int] = ()) -> int | None:
    """Return the id of the step that :func:`cancel_steps` would cancel first, or ``None``."""
    return connection.execute(_WAITING, _of_some(workflow_id, 1, set_aside)).scalars().first()


def abort_steps(
    connection: sa.Connection, *, workflow_id: int, limit: int = 1000, set_aside: Sequence[int] = ()
) -> list[int]:
    """Request the abort of some steps that run, as :func:`cancel_steps` cancels those that wait. Return their ids."""
    return list(connection.execute(_ABORT, _of_some(workflow_id, limit, set_aside)).scalars())


@finds_first_row_of(abort_steps)
def first_running_step(connection: sa.Connection, *, workflow_id: int, set_aside: Sequence[int] = ()) -> int | None:
    """Return the id of the step whose abort :func:`abort_steps` would request first, or ``None``."""
    return connection.execute(_RUNNING, _of_some(workflow_id, 1, set_aside)).scalars().first()


def _of_some(workflow_id: int, limit: int, set_aside: Sequence[int]) -> dict[str, Any]:
    return {"of_workflow": workflow_id, "limit": limit, "set_aside": list(set_aside)}


_LOCK_GROUPS = (
    sa.select(workflows.c.id).where(workflows.c.root_id == _ID).order_by(workflows.c.id).with_for_update(key_share=True)
)
_UNSUCCESSFUL = [status_literal(status) for status in (Status.FAILED, Status.CANCELLED, Status.ABORTED)]


def _send_back_statement() -> Any:
    always = (
        sa.select(dependencies.c.id).where(dependencies.c.job_id == jobs.c.id, dependencies.c.rule == Rule.END.value)
    ).exists()
    chosen = (
        sa.select(jobs.c.id)
        .join(workflows, workflows.c.id == jobs.c.workflow_id)
        .where(
            workflows.c.root_id == _ID,
            sa.or_(
                jobs.c.status.in_(_UNSUCCESSFUL),
                sa.and_(jobs.c.status == status_literal(Status.SUCCEEDED), _IS_CALLBACK, always),
            ),
        )
    )
    return (
        sa.update(jobs)
        .where(is_one_of(jobs.c.id, chosen))
        .values(
            status=TODO,
            readiness=WAITS_FOR_OTHERS,
            scheduled_at=NEVER,
            finished_at=None,
            abort_requested=False,
            worker_id=None,
            rescues=0,
        )
        .returning(jobs.c.id, jobs.c.workflow_id)
    )


_SEND_BACK = _send_back_statement()
_HAS_UNSUCCESSFUL = _members(*_UNSUCCESSFUL).limit(1)
_REOPEN = (
    sa.update(workflows)
    .where(workflows.c.root_id == _ID)
    .values(finished_at=None, cancelled_at=None, succeeded=0, failed=0, cancelled=0, aborted=0, lost=0)
    .returning(workflows.c.id)
)


@atomic
def retry_workflow(connection: sa.Connection, workflow_id: int) -> list[int] | None:
    """Send the steps that did not succeed back to wait, in a workflow that is open or has ended.

    The groups are locked first, so that no worker finishes one of them, or cancels a step, for what is sent back here.
    A callback that has run runs again only if it runs at every end.

    Returns
    -------
    The ids of the jobs that were sent back, or ``None`` if there is no such workflow.
    """
    groups = list(connection.execute(_LOCK_GROUPS, {"of_workflow": workflow_id}).scalars())
    if workflow_id not in groups:
        return None
    if connection.execute(_HAS_UNSUCCESSFUL, {"of_workflow": workflow_id}).first() is None:
        return []
    sent_back = sorted(row.id for row in connection.execute(_SEND_BACK, {"of_workflow": workflow_id}))
    connection.execute(_REOPEN, {"of_workflow": workflow_id})
    append_arrivals(connection, groups=groups, waiting=sent_back)
    call_workers(connection, sent_back)
    return sent_back


def _is_signal(job: sa.FromClause) -> sa.ColumnElement[bool]:
    """Return the condition "this job is the signal of this name in the workflow"."""
    return sa.and_(
        workflows.c.root_id == _ID,
        job.c.step == sa.bindparam("name", type_=sa.Text()),
        job.c.task_name == SIGNAL_TASK,
    )


def _signal_statement() -> Any:
    signal = jobs.alias("signal")
    chosen = (
        sa.select(signal.c.id)
        .join(workflows, workflows.c.id == signal.c.workflow_id)
        .where(_is_signal(signal), signal.c.status == TODO)
        .order_by(signal.c.id)
        .limit(1)
    )
    ended = (
        sa.update(jobs)
        .where(is_one_of(jobs.c.id, chosen), jobs.c.status == TODO)
        .values(status=status_literal(Status.SUCCEEDED), finished_at=sa.func.now(), readiness=UNDECIDED)
        .returning(jobs.c.id)
        .cte("ended")
    )
    value = sa.cast(sa.bindparam("payload", type_=sa.Text()), postgresql.JSONB)
    insert = postgresql.insert(results).from_select(["job_id", "value"], sa.select(ended.c.id, value))
    kept = insert.on_conflict_do_update(index_elements=["job_id"], set_={"value": insert.excluded.value}).cte("kept")
    return sa.select(ended.c.id).add_cte(kept)


_SIGNAL = _signal_statement()
_HAS_SIGNAL = (
    sa.select(jobs.c.id).join(workflows, workflows.c.id == jobs.c.workflow_id).where(_is_signal(jobs)).limit(1)
)


def send_signal(connection: sa.Connection, workflow_id: int, name: str, *, payload: str) -> bool:
    """End a signal of a workflow with a payload, the text of a JSON value. The first one wins.

    Returns
    -------
    False if the signal has come already, its time is over, or it does not exist.
    """
    if not is_possible(name):
        return False
    values = {"of_workflow": workflow_id, "name": name, "payload": payload}
    return connection.execute(_SIGNAL, values).scalar_one_or_none() is not None


def has_signal(connection: sa.Connection, workflow_id: int, name: str) -> bool:
    """Return true if the workflow has a signal of this name, in whatever state."""
    values = {"of_workflow": workflow_id, "name": name}
    return is_possible(name) and connection.execute(_HAS_SIGNAL, values).first() is not None
