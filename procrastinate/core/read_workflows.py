"""Operations that look at workflows and change nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa

from procrastinate.core.arrays import array_param
from procrastinate.core.criteria import equals
from procrastinate.core.enums import Status
from procrastinate.core.fetch import from_microseconds, microseconds
from procrastinate.core.finish_groups import lacks_success
from procrastinate.core.job_states import ENDED, WORD
from procrastinate.core.tables import HAS_KNOWN_STATUS, dependencies, jobs, status_literal, waits_for_others, workflows
from procrastinate.core.workflow_rows import (
    Counts,
    GroupKind,
    Rule,
    StoredDependency,
    StoredGroup,
    StoredStep,
    StoredWorkflow,
    WorkflowState,
)

_ID = sa.bindparam("workflow_id", type_=sa.BigInteger())
_IDS = array_param("ids", sa.BigInteger())
_part = workflows.alias("part")
# Plain SQL may have stored a row of this kind that is part of another workflow, or of none.
_IS_WORKFLOW = sa.and_(workflows.c.kind == GroupKind.WORKFLOW.value, workflows.c.root_id == workflows.c.id)

_ENDED = [status_literal(status) for status in ENDED.values()]
_COLUMNS = (
    workflows.c.id,
    workflows.c.name,
    workflows.c.if_failed,
    microseconds(workflows.c.created_at).label("created_at"),
    microseconds(workflows.c.finished_at).label("finished_at"),
    microseconds(workflows.c.cancelled_at).label("cancelled_at"),
)
_COUNTS = (
    sa.select(
        workflows.c.id.label("group_id"),
        workflows.c.root_id,
        workflows.c.kind,
        workflows.c.finished_at.is_not(None).label("is_finished"),
        sa.func.max(workflows.c.lost).label("lost"),
        WORD.label("word"),
        sa.and_(jobs.c.status.not_in(_ENDED), ~waits_for_others()).label("goes_on"),
        sa.func.count(jobs.c.id).label("jobs"),
    )
    .select_from(workflows.outerjoin(jobs, jobs.c.workflow_id == workflows.c.id))
    .where(workflows.c.root_id == sa.any_(_IDS))
    .group_by(workflows.c.id, "word", "goes_on")
)


def get_workflow(connection: sa.Connection, workflow_id: int) -> StoredWorkflow | None:
    """Return a workflow with the counts of its steps, or ``None`` if it does not exist."""
    statement = sa.select(*_COLUMNS).where(workflows.c.id == _ID, _IS_WORKFLOW)
    row = connection.execute(statement, {"workflow_id": workflow_id}).one_or_none()
    return None if row is None else _with_counts(connection, [row])[0]


_main = workflows.alias("main")
_IS_MAIN = sa.or_(
    sa.and_(_main.c.parent_id == workflows.c.id, _main.c.kind == GroupKind.STEPS.value),
    sa.and_(
        _main.c.id == workflows.c.id,
        ~sa.select(_part.c.id).where(_part.c.root_id == workflows.c.id, _part.c.kind == GroupKind.STEPS.value).exists(),
    ),
)
_LACKS_SUCCESS = lacks_success(_main)
_IN_STATE = {
    WorkflowState.RUNNING: _main.c.finished_at.is_(None),
    WorkflowState.SUCCEEDED: sa.and_(_main.c.finished_at.is_not(None), ~_LACKS_SUCCESS),
    WorkflowState.CANCELLED: sa.and_(
        _main.c.finished_at.is_not(None), _LACKS_SUCCESS, workflows.c.cancelled_at.is_not(None)
    ),
    WorkflowState.FAILED: sa.and_(_main.c.finished_at.is_not(None), _LACKS_SUCCESS, workflows.c.cancelled_at.is_(None)),
}
_IN_STATE[WorkflowState.HELD] = _IN_STATE[WorkflowState.RUNNING]


def state_of_main(state: WorkflowState) -> sa.ColumnElement[bool]:
    """Return the condition "the steps of this workflow are in this state". Of open ones it does not tell who is held.

    The steps are the members of the workflow itself, or of the group of all steps if the workflow has callbacks.
    """
    return (
        sa.select(_main.c.id)
        .where(_main.c.root_id == workflows.c.id, _IS_MAIN, _IN_STATE[state])
        .correlate(workflows)
        .exists()
    )


def list_workflows(
    connection: sa.Connection,
    *,
    name: str | None = None,
    state: WorkflowState | None = None,
    limit: int = 100,
    before: int | None = None,
    down_to: int | None = None,
) -> list[StoredWorkflow]:
    """Return workflows with the counts of their steps, the newest first.

    Parameters
    ----------
    before:
        Only workflows with a lower id than this one, for the next page.
    down_to:
        Only workflows with this id or a higher one. No index has the names and states.
    """
    statement = (
        sa.select(*_COLUMNS).select_from(workflows).where(_IS_WORKFLOW).order_by(workflows.c.id.desc()).limit(limit)
    )
    if name is not None:
        statement = statement.where(equals(workflows.c.name, name))
    if before is not None:
        statement = statement.where(workflows.c.id < before)
    if down_to is not None:
        statement = statement.where(workflows.c.id >= down_to)
    if state is not None:
        statement = statement.where(state_of_main(state))
    return _with_counts(connection, connection.execute(statement).all())


def find_workflow_at(connection: sa.Connection, place: int, *, before: int | None = None) -> int | None:
    """Return the id of the workflow at a place in the list of all, from 1, or ``None`` if there are fewer."""
    statement: Any = sa.select(workflows.c.id).where(_IS_WORKFLOW).order_by(workflows.c.id.desc())
    if before is not None:
        statement = statement.where(workflows.c.id < before)
    statement = statement.offset(sa.literal_column(str(place - 1))).limit(sa.literal_column("1"))
    found: int | None = connection.execute(statement).scalar_one_or_none()
    return found


def _with_counts(connection: sa.Connection, rows: Sequence[sa.Row[Any]]) -> list[StoredWorkflow]:
    counted = connection.execute(_COUNTS, {"ids": [row.id for row in rows]}).all() if rows else []
    return [_workflow(row, [count for count in counted if count.root_id == row.id]) for row in rows]


def _workflow(row: sa.Row[Any], counts: list[sa.Row[Any]]) -> StoredWorkflow:
    """Count the steps. The callbacks of a workflow are members of the workflow itself, and its steps of another group.

    A finished group has the lost members of its parts among its own.
    """
    steps = [count for count in counts if count.kind == GroupKind.STEPS.value]
    has_callbacks = bool(steps)
    members = [count for count in counts if not has_callbacks or count.kind != GroupKind.WORKFLOW.value]
    main = steps[0] if steps else next(count for count in counts if count.kind == GroupKind.WORKFLOW.value)
    numbers = _no_numbers()
    _add_to(numbers, members)
    numbers["lost"] = main.lost if main.is_finished else sum({id(one): one.lost for one in members}.values())
    return StoredWorkflow(
        id=row.id,
        name=row.name,
        if_failed=row.if_failed,
        created_at=from_microseconds(row.created_at),
        finished_at=from_microseconds(row.finished_at),
        cancelled_at=from_microseconds(row.cancelled_at),
        steps_ended=main.is_finished,
        goes_on=any(count.goes_on for count in members),
        counts=Counts(**numbers),
    )


def _no_numbers() -> dict[str, int]:
    return dict.fromkeys((field.name for field in dataclasses.fields(Counts)), 0)


def _add_to(numbers: dict[str, int], counts: Iterable[sa.Row[Any]]) -> None:
    for count in counts:
        if count.jobs and count.word in numbers:  # a later release may have words of its own
            numbers[count.word] += count.jobs


_GROUPS = (
    sa.select(
        workflows.c.id, workflows.c.parent_id, workflows.c.kind, workflows.c.name, workflows.c.finished_at.is_not(None)
    )
    .where(workflows.c.root_id == _ID)
    .order_by(workflows.c.id)
)
FOLDED = 20
"""Steps that are read of a group, which is drawn as one node. Its counts say how many there are."""
_LIMIT = sa.bindparam("limit", type_=sa.Integer())
_IS_FOLDED = workflows.c.kind.in_([GroupKind.GROUP.value, GroupKind.EXPANSION.value])
_row = jobs.alias("row")
_member = (
    sa.select(_row.c.id)
    .where(_row.c.workflow_id == workflows.c.id)
    .order_by(_row.c.id)
    .limit(sa.case((_IS_FOLDED, FOLDED), else_=_LIMIT))
    .correlate(workflows)
    .lateral("member")
)
_STEPS = (
    sa.select(
        jobs.c.id,
        jobs.c.workflow_id,
        sa.func.coalesce(jobs.c.step, jobs.c.task_name),
        jobs.c.task_name,
        jobs.c.queue_name,
        jobs.c.status,
        WORD,
        jobs.c.attempts,
    )
    .select_from(workflows.join(_member, sa.true()).join(jobs, jobs.c.id == _member.c.id))
    .where(workflows.c.root_id == _ID, HAS_KNOWN_STATUS)
    .order_by(jobs.c.id)
    .limit(_LIMIT)
)
_DEPENDENCIES = (
    sa.select(
        dependencies.c.job_id,
        dependencies.c.parent_id,
        dependencies.c.parent_workflow_id,
        dependencies.c.rule,
    )
    .where(dependencies.c.job_id == sa.any_(_IDS))
    .order_by(dependencies.c.id)
)


def _members_of(group_id: int, counted: Sequence[sa.Row[Any]]) -> Counts:
    numbers = _no_numbers()
    _add_to(numbers, (count for count in counted if count.group_id == group_id))
    return Counts(**numbers)


def _kind(stored: str) -> GroupKind:
    """Return the kind of a group. A kind that only a later release knows is shown as a group."""
    return GroupKind(stored) if stored in list(GroupKind) else GroupKind.GROUP


def _rule(stored: int) -> Rule:
    """Return the rule of a dependency. One that only a later release knows is shown as an order alone."""
    return Rule(stored) if stored in list(Rule) else Rule.END


def read_graph(
    connection: sa.Connection, workflow_id: int, *, limit: int = 10_000
) -> tuple[list[StoredGroup], list[StoredStep], list[StoredDependency]]:
    """Return the groups with their counts, steps, and the dependencies of these steps.

    Of each group the first 20 steps are read, and of the rest the first ``limit``. There are at most ``limit`` in all.
    """
    groups = connection.execute(_GROUPS, {"workflow_id": workflow_id}).all()
    steps = connection.execute(_STEPS, {"workflow_id": workflow_id, "limit": limit}).all()
    counted = connection.execute(_COUNTS, {"ids": [workflow_id]}).all()
    edges = connection.execute(_DEPENDENCIES, {"ids": [step[0] for step in steps]}).all()
    return (
        [
            StoredGroup(
                id=id_,
                parent_id=parent,
                kind=_kind(kind),
                name=name,
                is_finished=finished,
                counts=_members_of(id_, counted),
            )
            for id_, parent, kind, name, finished in groups
        ],
        [
            StoredStep(
                job_id=job_id,
                group_id=group_id,
                step=step,
                task_name=task,
                queue_name=queue,
                status=Status(status),
                word=word,
                attempts=attempts,
            )
            for job_id, group_id, step, task, queue, status, word, attempts in steps
        ],
        [
            StoredDependency(job_id=job_id, parent_id=parent, parent_group_id=group, rule=_rule(rule))
            for job_id, parent, group, rule in edges
        ],
    )
