"""The pages of workflows, and the actions on one."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

from procrastinate import core
from procrastinate.core import WorkflowState, inspection
from procrastinate.core.inspection import WorkflowDetails
from procrastinate.dashboard.access import Permission
from procrastinate.dashboard.actions import record
from procrastinate.dashboard.calls import Calls, Loaded, call, change
from procrastinate.dashboard.drawing import BOX_HEIGHT, BOX_WIDTH, draw
from procrastinate.dashboard.messages import Response
from procrastinate.dashboard.search import read_job_id
from procrastinate.dashboard.views.operations import WORK_FOR
from procrastinate.dashboard.visit import Visit
from procrastinate.workflows.states import to_graph, to_info


@dataclasses.dataclass(frozen=True, kw_only=True)
class WorkflowAction:
    """An action on a workflow, and the states in which it makes sense."""

    name: str
    label: str
    permission: Permission
    states: frozenset[WorkflowState]
    question: str


_ACTIONS = {
    action.name: action
    for action in (
        WorkflowAction(
            name="retry",
            label="Retry",
            permission=Permission.RETRY,
            states=frozenset(WorkflowState) - {WorkflowState.SUCCEEDED},
            question="Run the steps again that did not succeed, with what waited for them?",
        ),
        WorkflowAction(
            name="cancel",
            label="Cancel",
            permission=Permission.CANCEL,
            states=frozenset({WorkflowState.RUNNING, WorkflowState.HELD}),
            question="Cancel all steps that wait? They will not run.",
        ),
    )
}


def workflows(visit: Visit) -> Calls[Response]:
    """List the workflows, the newest first."""
    wanted = visit.request.parameters.get("state", "")
    state = WorkflowState(wanted) if wanted in list(WorkflowState) else None
    before = read_job_id(visit.request.parameters.get("before", ""))
    loaded = yield from call(inspection.load_workflows, state, before)
    infos = [to_info(one) for one in loaded.value.workflows] if loaded.value else []
    # Of workflows whose steps have not ended, the counts tell which are held.
    shown = [info for info in infos if state in (None, info.state)]
    oldest = loaded.value.next_before if loaded.value else None
    return visit.page(
        "workflows.html",
        "Workflows",
        loaded=loaded,
        workflows=shown,
        state=state,
        states=tuple(WorkflowState),
        oldest=oldest,
    )


def workflow(visit: Visit, workflow_id: int) -> Calls[Response]:
    """Draw one workflow."""
    title = f"Workflow {workflow_id}"
    loaded = yield from call(inspection.load_workflow, workflow_id)
    details = loaded.value
    if details is None:
        return _missing(visit, title, loaded)
    info = to_info(details.workflow)
    graph = to_graph(workflow_id, details.groups, details.steps, details.dependencies)
    actions = [one for one in _ACTIONS.values() if info.state in one.states and visit.may(one.permission)]
    if not info.counts.failed + info.counts.cancelled + info.counts.aborted:
        actions = [one for one in actions if one.name != "retry"]
    return visit.page(
        "workflow.html",
        title,
        details=details,
        info=info,
        graph=graph,
        drawing=draw(graph),
        box=(BOX_WIDTH, BOX_HEIGHT),
        actions=actions,
    )


def _missing(visit: Visit, title: str, loaded: Loaded[WorkflowDetails | None]) -> Response:
    if loaded.problem is not None:
        return visit.refuse(503, title, loaded.problem)
    return visit.refuse(404, title, "There is no such workflow. It was deleted, or its transaction is not committed.")


def change_workflow(visit: Visit, workflow_id: int, name: str) -> Calls[Response]:
    """Take an action on one workflow."""
    action = _ACTIONS[name]
    if not visit.may(action.permission):
        return visit.refuse(403, "Not allowed", f"You may not do this: {action.label.lower()}.")
    outcome = yield from (_retry(workflow_id) if name == "retry" else _cancel(workflow_id))
    recorded = "failed" if outcome.startswith("failed") else outcome
    record(visit, f"workflow_{name}", workflow=workflow_id, outcome=recorded)
    return visit.go_to(f"workflows/{workflow_id}", done=outcome)


def _retry(workflow_id: int) -> Calls[str]:
    answer = yield from change(core.retry_workflow, workflow_id)
    return _outcome("workflow_retry", answer)


def _outcome(name: str, answer: Loaded[Any]) -> str:
    return answer.failure if answer.problem else name if answer.value else "workflow_unchanged"


def _cancel(workflow_id: int) -> Calls[str]:
    """Cancel the steps that wait, some in each transaction, for about a second.

    If steps are left then, the page of the workflow still offers to cancel.
    """
    begun = yield from change(core.begin_cancel, workflow_id)
    if not begun.value:
        return _outcome("workflow_cancel", begun)
    end = time.monotonic() + WORK_FOR
    while True:
        some = yield from change(core.cancel_steps, workflow_id=workflow_id)
        if not some.value:
            return some.failure if some.problem else "workflow_cancel"
        if time.monotonic() > end:
            return "workflow_cancel_some"
