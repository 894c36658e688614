"""The operations that look at workflows, in memory.

Each function is documented at the function of the same name in :mod:`procrastinate.core`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

from procrastinate import core
from procrastinate.core import (
    Counts,
    FailedStep,
    GroupKind,
    Status,
    StoredDependency,
    StoredGroup,
    StoredStep,
    StoredWorkflow,
    WorkflowState,
)
from procrastinate.core.failed_steps import NOT_REACHED
from procrastinate.core.job_states import JobState, word_of
from procrastinate.testing.implementations import Implementations
from procrastinate.testing.rows import DOING, TODO, GroupRow, JobRow
from procrastinate.testing.tables import Tables

IMPLEMENTED = Implementations()

OPEN = (TODO, DOING, Status.ABORTING.value)
UNSUCCESSFUL = (Status.FAILED.value, Status.CANCELLED.value, Status.ABORTED.value)


def steps_of(tables: Tables, workflow_id: int, *statuses: str) -> list[JobRow]:
    """Return the steps of a workflow with one of these statuses, without the callbacks."""
    groups = {id_: group for id_, group in tables.groups.items() if group.root_id == workflow_id}
    if any(group.kind is GroupKind.STEPS for group in groups.values()):
        del groups[workflow_id]
    return tables.where(lambda row: row.get("workflow_id") in groups and row["status"] in statuses)


def root_of(tables: Tables, workflow_id: int) -> GroupRow | None:
    group = tables.groups.get(workflow_id)
    return group if group is not None and group.kind is GroupKind.WORKFLOW else None


def members_of(tables: Tables, groups: Collection[int]) -> list[JobRow]:
    return tables.where(lambda row: row.get("workflow_id") in groups)


@IMPLEMENTED.of(core.list_cancelled_groups)
def list_cancelled_groups(tables: Tables, group_ids: Sequence[int]) -> list[int]:
    return [id_ for id_ in group_ids if id_ in tables.groups and _is_stopped(tables, id_)]


def _is_stopped(tables: Tables, group_id: int) -> bool:
    group = tables.groups[group_id]
    root = tables.groups[group.root_id]
    if root.cancelled_at is None or root.finished_at is not None:
        return False
    if group.kind is not GroupKind.WORKFLOW:
        return True
    return all(one.kind is not GroupKind.STEPS for one in tables.groups.values() if one.root_id == group_id)


@IMPLEMENTED.of(core.get_workflow)
def get_workflow(tables: Tables, workflow_id: int) -> StoredWorkflow | None:
    root = root_of(tables, workflow_id)
    if root is None:
        return None
    steps = steps_of(tables, workflow_id, *(status.value for status in Status))
    numbers = Counter(_word(tables, row) for row in steps)
    parts = [group for group in tables.groups.values() if group.root_id == workflow_id]
    numbers["lost"] = sum(group.lost for group in parts)
    main = next((group for group in parts if group.kind is GroupKind.STEPS), root)
    return StoredWorkflow(
        id=workflow_id,
        name=root.name,
        if_failed=root.if_failed,
        created_at=root.created_at,
        finished_at=root.finished_at,
        cancelled_at=root.cancelled_at,
        steps_ended=main.finished_at is not None,
        goes_on=any(_goes_on(tables, row) for row in steps),
        counts=Counts(**numbers),
    )


def _word(tables: Tables, row: JobRow) -> str:
    return word_of(_state(tables, row), row["task_name"])


def _state(tables: Tables, row: JobRow) -> JobState:
    if row["status"] in (DOING, Status.ABORTING.value):
        return JobState.RUNNING
    if row["status"] != TODO:
        return JobState(row["status"])
    if tables.waits_for_others(row):
        return JobState.WAITING_FOR_STEPS
    if tables.is_parked(row):
        return JobState.BLOCKED
    if tables.is_in_line(row):
        return JobState.LIMITED
    return JobState.READY if tables.is_ready(row) else JobState.SCHEDULED


def _goes_on(tables: Tables, row: JobRow) -> bool:
    return row["status"] in OPEN and not tables.waits_for_others(row)


@IMPLEMENTED.of(core.list_workflows)
def list_workflows(
    tables: Tables,
    *,
    name: str | None = None,
    state: WorkflowState | None = None,
    limit: int = 100,
    before: int | None = None,
    down_to: int | None = None,
) -> list[StoredWorkflow]:
    ids = sorted((id_ for id_ in tables.groups if root_of(tables, id_) is not None), reverse=True)
    of_page = [id_ for id_ in ids if (before is None or id_ < before) and (down_to is None or id_ >= down_to)]
    found = [get_workflow(tables, id_) for id_ in of_page]
    chosen = [one for one in found if one is not None and name in (None, one.name)]
    return [one for one in chosen if state is None or is_in(one, state)][:limit]


def is_in(stored: StoredWorkflow, state: WorkflowState) -> bool:
    if not stored.steps_ended:
        return state in (WorkflowState.RUNNING, WorkflowState.HELD)
    counts = stored.counts
    if not counts.failed + counts.cancelled + counts.aborted + counts.lost:
        return state is WorkflowState.SUCCEEDED
    return state is (WorkflowState.FAILED if stored.cancelled_at is None else WorkflowState.CANCELLED)


@IMPLEMENTED.of(core.read_graph)
def read_graph(
    tables: Tables, workflow_id: int, *, limit: int = 10_000
) -> tuple[list[StoredGroup], list[StoredStep], list[StoredDependency]]:
    groups = {id_: group for id_, group in sorted(tables.groups.items()) if group.root_id == workflow_id}
    rows = tables.where(lambda row: row.get("workflow_id") in groups)[:limit]
    return (
        [
            StoredGroup(
                id=id_,
                parent_id=one.parent_id,
                kind=one.kind,
                name=one.name,
                is_finished=bool(one.finished_at),
                counts=Counts(**Counter(_word(tables, row) for row in members_of(tables, {id_}))),
            )
            for id_, one in groups.items()
        ],
        [
            StoredStep(
                job_id=row["id"],
                group_id=row["workflow_id"],
                step=row["step"] or row["task_name"],
                task_name=row["task_name"],
                queue_name=row["queue_name"],
                status=Status(row["status"]),
                word=_word(tables, row),
                attempts=row["attempts"],
            )
            for row in rows
        ],
        [
            StoredDependency(job_id=row["id"], parent_id=edge.parent_id, parent_group_id=edge.group_id, rule=edge.rule)
            for row in rows
            for edge in tables.dependencies.get(row["id"], [])
        ],
    )


@IMPLEMENTED.of(core.read_failed_steps)
def read_failed_steps(tables: Tables, group_id: int, *, limit: int = 100) -> list[FailedStep]:
    found = []
    for row in steps_of(tables, tables.groups[group_id].root_id, *UNSUCCESSFUL):
        error = tables.errors[row["id"]][-1] if tables.errors.get(row["id"]) else None
        if error is None or error.exception_class != NOT_REACHED:
            step = FailedStep(
                job_id=row["id"],
                step=row["step"] or row["task_name"],
                task_name=row["task_name"],
                status=Status(row["status"]),
                exception_class=None if error is None else error.exception_class,
                message=None if error is None else error.message,
            )
            found.append(step)
    return found[:limit]
