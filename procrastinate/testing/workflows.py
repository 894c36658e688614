"""The operations on workflows, in memory.

Each function is documented at the function of the same name in :mod:`procrastinate.core`. A look at the arrivals
looks at all groups and all steps that wait: workflows of tests are small.
"""

from __future__ import annotations

import datetime
import math
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from procrastinate import core, exceptions
from procrastinate.core import (
    GroupKind,
    NewDependency,
    NewError,
    NewGraph,
    Readiness,
    Resolution,
    Rule,
    Status,
    StepValue,
    StoredGraph,
    WorkflowState,
    WorkflowSweep,
)
from procrastinate.core.workflow_rows import SIGNAL_TASK
from procrastinate.testing.implementations import Implementations
from procrastinate.testing.rows import DOING, TODO, Dependency, GroupRow, JobRow
from procrastinate.testing.tables import Tables
from procrastinate.testing.workflow_views import UNSUCCESSFUL, is_in, list_workflows, members_of, root_of, steps_of

IMPLEMENTED = Implementations()

NEVER = datetime.datetime.max.replace(tzinfo=datetime.UTC)


# Store


@IMPLEMENTED.of(core.create_workflow)
def create_workflow(tables: Tables, graph: NewGraph) -> StoredGraph:
    ids = [tables.next_group_id() for _ in graph.groups]
    return _store(tables, graph, ids, root_id=ids[0], first=0)


@IMPLEMENTED.of(core.add_to_workflow)
def add_to_workflow(tables: Tables, group_id: int, graph: NewGraph) -> StoredGraph:
    group = tables.groups.get(group_id)
    if group is None or group.finished_at is not None or tables.groups[group.root_id].cancelled_at is not None:
        raise exceptions.WorkflowEnded(
            f"Nothing can be added to group {group_id} of a workflow: it has ended, or the workflow was cancelled"
        )
    ids = [group_id, *(tables.next_group_id() for _ in graph.groups[1:])]
    return _store(tables, graph, ids, root_id=group.root_id, first=1)


def _store(tables: Tables, graph: NewGraph, ids: list[int], *, root_id: int, first: int) -> StoredGraph:
    for place, new in enumerate(graph.groups[first:], first):
        parent = None if new.parent is None else ids[new.parent]
        tables.groups[ids[place]] = GroupRow(
            root_id=root_id,
            parent_id=parent,
            kind=new.kind,
            name=new.name,
            if_failed=graph.if_failed if first == 0 else tables.groups[ids[0]].if_failed,
            created_at=tables.now,
        )
    job_ids = tables.insert([step.job for step in graph.steps])
    for job_id, step in zip(job_ids, graph.steps, strict=True):
        row = tables.jobs[job_id]
        row["workflow_id"], row["step"] = ids[step.group], step.step
        if step.waits:
            tables.hold(job_id, NEVER)
        elif step.delay is not None:
            row["scheduled_at"] = tables.now + datetime.timedelta(seconds=step.delay)
            tables.progress(job_id).readiness = Readiness.UNDECIDED
    for edge in graph.dependencies:
        tables.dependencies.setdefault(job_ids[edge.step], []).append(_dependency(edge, ids, job_ids))
    tables.has_arrivals = True
    tables.notify_waiting(tables.jobs[job_id] for job_id in job_ids)
    return StoredGraph(group_ids=tuple(ids), job_ids=tuple(job_ids))


def _dependency(edge: NewDependency, ids: list[int], job_ids: list[int]) -> Dependency:
    return Dependency(
        parent_id=edge.parent_id if edge.parent_step is None else job_ids[edge.parent_step],
        group_id=edge.parent_workflow_id if edge.parent_group is None else ids[edge.parent_group],
        rule=edge.rule,
        argument=edge.argument,
        delay=edge.delay,
    )


# Let the next steps go


@IMPLEMENTED.of(core.resolve_arrivals)
def resolve_arrivals(tables: Tables, *, in_parts: bool = False) -> Resolution:
    if not tables.has_arrivals:
        return Resolution()
    tables.has_arrivals = False
    finished = _finish_groups(tables)
    verdicts = {row["id"]: _verdict(tables, row) for row in _waiting(tables)}
    released = {job_id: changes for job_id, changes in verdicts.items() if changes and changes["status"] == TODO}
    cancelled = {job_id: changes for job_id, changes in verdicts.items() if changes and changes["status"] != TODO}
    for changes in (released, cancelled):
        errors = {job_id: one.pop("error", None) for job_id, one in changes.items()}
        if changes:
            tables.update(changes)
        for job_id, error in errors.items():
            if error is not None:
                tables.keep_error(job_id, error, None)
    tables.has_arrivals = tables.has_arrivals or bool(finished)
    return Resolution(taken=1, released=len(released), cancelled=len(cancelled), finished=finished)


@IMPLEMENTED.of(core.sweep_workflows)
def sweep_workflows(
    tables: Tables, *, after_step: int | None = None, after_group: int | None = None, limit: int = 200
) -> WorkflowSweep:
    return WorkflowSweep()  # nothing is lost in memory


def _waiting(tables: Tables) -> list[JobRow]:
    return tables.where(tables.waits_for_others)


def _members(tables: Tables, group_id: int) -> list[JobRow]:
    return tables.where(lambda row: row.get("workflow_id") == group_id)


def _finish_groups(tables: Tables) -> int:
    count = 0
    for group_id, group in sorted(tables.groups.items(), reverse=True):  # parts come after what they are parts of
        parts = [part for part in tables.groups.values() if part.parent_id == group_id]
        statuses = Counter(row["status"] for row in _members(tables, group_id))
        if (
            group.finished_at is None
            and all(part.finished_at for part in parts)
            and not statuses.keys() & {TODO, DOING}
        ):
            group.finished_at = tables.now
            group.is_successful = not group.lost and set(statuses) <= {Status.SUCCEEDED.value}
            group.is_successful = group.is_successful and all(part.is_successful for part in parts)
            count += 1
    return count


def _verdict(tables: Tables, row: JobRow) -> dict[str, Any] | None:
    edges = tables.dependencies.get(row["id"], [])
    if any(_is_open(tables, edge) for edge in edges):
        return None
    broken = [edge for edge in edges if _is_broken(tables, edge)]
    callbacks = [edge for edge in broken if edge.rule >= Rule.ON_SUCCESS]
    if broken and (callbacks or tables.groups[row["workflow_id"]].if_failed == "cancel"):
        names = ", ".join(_name(tables, edge) for edge in broken if edge not in callbacks)
        return {
            "status": Status.CANCELLED.value,
            "finished_at": tables.now,
            "readiness": Readiness.UNDECIDED,
            "error": _error(names) if names else None,
        }
    delays = [edge.delay for edge in edges if edge.delay is not None]
    if broken or math.inf in delays:
        return None
    at = tables.now + datetime.timedelta(seconds=max(delays)) if delays else None
    if at is None and tables.progress(row["id"]).limit_name is not None:
        # Without a time, a fetch would take it without a slot.
        return {"status": TODO, "readiness": Readiness.IN_LINE, "scheduled_at": tables.now}
    return {"status": TODO, "readiness": Readiness.UNDECIDED, "scheduled_at": at}


def _is_open(tables: Tables, edge: Dependency) -> bool:
    if edge.group_id is not None:
        return tables.groups[edge.group_id].finished_at is None
    return edge.parent_id in tables.jobs and tables.jobs[edge.parent_id]["status"] in (TODO, DOING)


def _is_broken(tables: Tables, edge: Dependency) -> bool:
    if edge.rule == Rule.END:
        return False
    if edge.group_id is not None:
        group = tables.groups[edge.group_id]
        has_succeeded, is_cancelled = group.is_successful, tables.groups[group.root_id].cancelled_at is not None
    else:
        parent = tables.jobs.get(edge.parent_id) if edge.parent_id is not None else None
        has_succeeded, is_cancelled = parent is not None and parent["status"] == Status.SUCCEEDED.value, False
    return (has_succeeded or is_cancelled) if edge.rule == Rule.ON_FAILURE else not has_succeeded


def _name(tables: Tables, edge: Dependency) -> str:
    if edge.group_id is not None:
        return tables.groups[edge.group_id].name
    parent = tables.jobs.get(edge.parent_id) if edge.parent_id is not None else None
    return "a step that is gone" if parent is None else str(parent.get("step"))


def _error(names: str) -> NewError:
    error = exceptions.StepNotReached(f"This step needs the success of {names}, which did not succeed")
    path = f"{type(error).__module__}.{type(error).__qualname__}"
    return NewError(exception_class=path, message=str(error), traceback=f"{path}: {error}\n")


@IMPLEMENTED.of(core.read_values)
def read_values(tables: Tables, job_id: int) -> list[StepValue]:
    return [
        _value(tables, edge, edge.argument) for edge in tables.dependencies.get(job_id, []) if edge.argument is not None
    ]


@IMPLEMENTED.of(core.read_step_value)
def read_step_value(tables: Tables, group_id: int, step: str) -> str | None:
    root_id = tables.groups[group_id].root_id
    groups = {id_ for id_, group in tables.groups.items() if group.root_id == root_id}
    found = [row["id"] for row in members_of(tables, groups) if row.get("step") == step and row["id"] in tables.results]
    return tables.results[min(found)] if found else None


def _value(tables: Tables, edge: Dependency, path: str) -> StepValue:
    if edge.group_id is None:
        rows = [tables.jobs[edge.parent_id]] if edge.parent_id in tables.jobs else []
    else:
        rows = tables.where(lambda row: _is_part(tables, row, edge.group_id))
    return StepValue(
        path=path,
        names=tuple(row.get("step") for row in rows),
        values=tuple(tables.results.get(row["id"]) for row in rows),
        is_list=edge.group_id is not None,
        is_needed=edge.rule == Rule.SUCCESS,
    )


def _is_part(tables: Tables, row: JobRow, group_id: int | None) -> bool:
    own_id = row.get("workflow_id")
    own = None if own_id is None else tables.groups[own_id]
    is_expansion = own is not None and own.kind is GroupKind.EXPANSION and own.name == row.get("step")
    return own_id == group_id or (is_expansion and own is not None and own.parent_id == group_id)


# Cancel, retry, signal


@IMPLEMENTED.of(core.begin_cancel)
def begin_cancel(tables: Tables, workflow_id: int) -> bool:
    root = root_of(tables, workflow_id)
    if root is None or root.finished_at is not None:
        return False
    root.cancelled_at = root.cancelled_at or tables.now
    return True


@IMPLEMENTED.of(core.cancel_steps)
def cancel_steps(tables: Tables, *, workflow_id: int, limit: int = 1000, set_aside: Sequence[int] = ()) -> list[int]:
    rows = steps_of(tables, workflow_id, TODO)[:limit]
    cancelled = {"status": Status.CANCELLED.value, "finished_at": tables.now, "readiness": Readiness.UNDECIDED}
    tables.update({row["id"]: dict(cancelled) for row in rows})
    return [row["id"] for row in rows]


@IMPLEMENTED.of(core.abort_steps)
def abort_steps(tables: Tables, *, workflow_id: int, limit: int = 1000, set_aside: Sequence[int] = ()) -> list[int]:
    rows = [row for row in steps_of(tables, workflow_id, DOING) if not row["abort_requested"]][:limit]
    tables.update({row["id"]: {"abort_requested": True} for row in rows})
    return [row["id"] for row in rows]


@IMPLEMENTED.of(core.retry_workflow)
def retry_workflow(tables: Tables, workflow_id: int) -> list[int] | None:
    if root_of(tables, workflow_id) is None:
        return None
    if not steps_of(tables, workflow_id, *UNSUCCESSFUL):
        return []
    of_steps = {row["id"] for row in steps_of(tables, workflow_id, *(status.value for status in Status))}
    groups = {id_ for id_, group in tables.groups.items() if group.root_id == workflow_id}
    sent_back = [
        row["id"]
        for row in tables.where(lambda row: row.get("workflow_id") in groups)
        if row["status"] in UNSUCCESSFUL
        or (
            row["id"] not in of_steps
            and row["status"] == Status.SUCCEEDED.value
            and any(edge.rule == Rule.END for edge in tables.dependencies.get(row["id"], []))
        )
    ]
    back = {"status": TODO, "scheduled_at": NEVER, "readiness": Readiness.WAITS_FOR_OTHERS, "finished_at": None}
    tables.update({job_id: {**back, "worker_id": None, "rescues": 0} for job_id in sent_back})
    for group_id in groups:
        group = tables.groups[group_id]
        group.finished_at = group.cancelled_at = None
        group.lost = 0
    tables.has_arrivals = True
    tables.notify_waiting(tables.jobs[job_id] for job_id in sent_back)
    return sent_back


def _signals(tables: Tables, workflow_id: int, name: str) -> Iterator[JobRow]:
    groups = {id_ for id_, group in tables.groups.items() if group.root_id == workflow_id}
    for row in tables.where(lambda row: row["task_name"] == SIGNAL_TASK and row.get("workflow_id") in groups):
        if row.get("step") == name:
            yield row


@IMPLEMENTED.of(core.send_signal)
def send_signal(tables: Tables, workflow_id: int, name: str, *, payload: str) -> bool:
    row = next((row for row in _signals(tables, workflow_id, name) if row["status"] == TODO), None)
    if row is None:
        return False
    tables.results[row["id"]] = payload
    ended = {"status": Status.SUCCEEDED.value, "finished_at": tables.now, "readiness": Readiness.UNDECIDED}
    tables.update({row["id"]: ended})
    return True


@IMPLEMENTED.of(core.has_signal)
def has_signal(tables: Tables, workflow_id: int, name: str) -> bool:
    return any(True for _ in _signals(tables, workflow_id, name))


@IMPLEMENTED.of(core.delete_old_workflows)
def delete_old_workflows(
    tables: Tables,
    *,
    older_than: datetime.timedelta,
    statuses: Collection[Status],
    queue_name: str | None = None,
    limit: int = 20,
    set_aside: Sequence[int] = (),
) -> int:
    """Delete all of them at once: ``limit`` saves no work in memory."""
    before = tables.now - older_than
    states = [WorkflowState(status.value) for status in statuses if status.value in list(WorkflowState)]
    deleted = 0
    for stored in list_workflows(tables, limit=len(tables.groups) or 1):
        groups = {id_ for id_, group in tables.groups.items() if group.root_id == stored.id}
        rows = members_of(tables, groups)
        is_old = stored.finished_at is not None and stored.finished_at < before
        is_chosen = any(is_in(stored, state) for state in states)
        is_in_queue = queue_name is None or all(row["queue_name"] == queue_name for row in rows)
        if is_old and is_chosen and is_in_queue and not any(row["status"] in (TODO, DOING) for row in rows):
            tables.delete({row["id"] for row in rows})
            for id_ in groups:
                del tables.groups[id_]
            deleted += len(rows) + len(groups)
    return deleted
