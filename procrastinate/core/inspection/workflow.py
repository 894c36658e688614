"""The loads of the pages of workflows."""

from __future__ import annotations

import dataclasses
import datetime

import sqlalchemy as sa

from procrastinate.core.inspection.bounds import load
from procrastinate.core.operation_marks import may_lag
from procrastinate.core.read_workflows import find_workflow_at, get_workflow, list_workflows, read_graph
from procrastinate.core.workflow_rows import (
    StoredDependency,
    StoredGroup,
    StoredStep,
    StoredWorkflow,
    WorkflowState,
)

LISTED_WORKFLOWS = 50
EXAMINED_WORKFLOWS = 10_000
"""Workflows that are examined for a page of those in a state. No index has the states."""
DRAWN_STEPS = 300
"""Steps that are read for a drawing. Groups are drawn as one node each."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class WorkflowsPage:
    """Workflows, the newest first. ``next_before`` is the ``before`` of the next page, or ``None`` at the end."""

    now: datetime.datetime
    workflows: tuple[StoredWorkflow, ...]
    next_before: int | None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class WorkflowDetails:
    """A workflow with what its drawing needs. ``is_whole`` is false if there are more steps than were read."""

    now: datetime.datetime
    workflow: StoredWorkflow
    groups: tuple[StoredGroup, ...]
    steps: tuple[StoredStep, ...]
    dependencies: tuple[StoredDependency, ...]
    is_whole: bool


@may_lag
@load
def load_workflows(
    connection: sa.Connection, now: datetime.datetime, state: WorkflowState | None = None, before: int | None = None
) -> WorkflowsPage:
    """Return a page of workflows.

    With a state, only a bounded number of them is examined, so the page may have fewer or none.

    Parameters
    ----------
    before:
        Only workflows with a lower id than this one.
    """
    last = None if state is None else find_workflow_at(connection, EXAMINED_WORKFLOWS, before=before)
    found = list_workflows(connection, state=state, before=before, down_to=last, limit=LISTED_WORKFLOWS + 1)
    shown = found[:LISTED_WORKFLOWS]
    next_before = shown[-1].id if len(found) > LISTED_WORKFLOWS else last
    return WorkflowsPage(now=now, workflows=tuple(shown), next_before=next_before)


@may_lag
@load
def load_workflow(connection: sa.Connection, now: datetime.datetime, workflow_id: int) -> WorkflowDetails | None:
    """Return a workflow, or ``None`` if there is none with this id."""
    workflow = get_workflow(connection, workflow_id)
    if workflow is None:
        return None
    groups, steps, dependencies = read_graph(connection, workflow_id, limit=DRAWN_STEPS)
    return WorkflowDetails(
        now=now,
        workflow=workflow,
        groups=tuple(groups),
        steps=tuple(steps),
        dependencies=tuple(dependencies),
        is_whole=len(steps) < DRAWN_STEPS,
    )
