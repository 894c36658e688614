"""Actions on all jobs that match a search: preview, start, progress and cancel.

The page of an operation runs its steps: each request works for about a second, and the script asks again until the
operation is over. Workers go on with it after that.
"""

from __future__ import annotations

import time

from procrastinate.core import bulk
from procrastinate.core.inspection import JobState
from procrastinate.dashboard.access import Permission
from procrastinate.dashboard.actions import ACTIONS, Action, record
from procrastinate.dashboard.calls import Calls, call, change
from procrastinate.dashboard.messages import Response
from procrastinate.dashboard.search import Question, read_question
from procrastinate.dashboard.views.forbidden_searches import without_hidden
from procrastinate.dashboard.visit import Visit

_KINDS = ("retry", "cancel", "abort", "delete")
WORK_FOR = 1.0
"""Seconds that a request works."""
ASKS_ABOVE = 1_000
"""Number of jobs above which the visitor must type the number."""


def bulk_actions(visit: Visit, state: JobState | None) -> list[Action]:
    """Return the actions that the visitor may take on all jobs of a state."""
    if state is None or not visit.may(Permission.BULK):
        return []
    return [ACTIONS[kind] for kind in _KINDS if ACTIONS[kind].applies_to(state) and visit.may(ACTIONS[kind].permission)]


def _asked(visit: Visit, fields: dict[str, str]) -> tuple[Action, Question] | Response:
    """Return the action and the search of a form or an address, or the refusal."""
    question = without_hidden(visit, read_question(fields.get("q", ""), fields.get("state")))
    actions = {action.name: action for action in bulk_actions(visit, question.search.state)}
    action = actions.get(fields.get("action", ""))
    if action is None:
        return visit.refuse(403, "Not allowed", "You may not do this to all jobs of this state.")
    if question.job_id is not None or question.problem is not None:
        return visit.refuse(400, "Unclear search", question.problem or "A job id is no search.")
    return action, question


def preview(visit: Visit) -> Calls[Response]:
    """Show how many jobs an operation would change, and ask."""
    asked = _asked(visit, visit.request.parameters)
    if isinstance(asked, Response):
        return asked
    action, question = asked
    count = yield from call(bulk.count_matching_jobs, question.search)
    return visit.page(
        "operation_preview.html",
        f"{action.label} all that match",
        action=action,
        question=question,
        count=count,
        must_type=count.value is not None and (count.value.is_more or count.value.number > ASKS_ABOVE),
    )


def start(visit: Visit) -> Calls[Response]:
    """Start an operation."""
    fields = visit.request.form
    asked = _asked(visit, fields)
    if isinstance(asked, Response):
        return asked
    action, question = asked
    count = yield from call(bulk.count_matching_jobs, question.search)
    if count.value is None:
        return visit.refuse(503, "Not started", count.problem or "")
    is_many = count.value.is_more or count.value.number > ASKS_ABOVE
    if is_many and fields.get("typed", "").strip().lower() != action.name:
        return visit.refuse(
            400, "Not started", f"These are more than {ASKS_ABOVE:,} jobs. To change them, type {action.name}."
        )
    by = visit.request.access.user or None
    started = yield from change(
        bulk.start_bulk_operation, action.name, question.search, requested_by=by, expected=count.value.number
    )
    if started.value is None:
        return visit.refuse(503, "Not started", started.problem or "")
    record(visit, f"bulk_{action.name}", operation=started.value, search=question.text, outcome="started")
    yield from _work(started.value)
    return visit.go_to(f"operations/{started.value}")


def _work(operation_id: int) -> Calls[None]:
    """Run steps for about a second."""
    end = time.monotonic() + WORK_FOR
    while time.monotonic() < end:
        step = yield from change(bulk.step_bulk_operation, operation_id)
        if not step.value:
            return


def operations(visit: Visit) -> Calls[Response]:
    """Show the newest operations."""
    loaded = yield from call(bulk.load_bulk_operations)
    return visit.page("operations.html", "Operations", operations=loaded)


def operation(visit: Visit, operation_id: int) -> Calls[Response]:
    """Show one operation."""
    loaded = yield from call(bulk.load_bulk_operations, operation_id)
    if not loaded.value:
        problem = loaded.problem or "There is no such operation."
        return visit.refuse(503 if loaded.problem else 404, f"Operation {operation_id}", problem)
    return visit.page(
        "operation.html",
        f"Operation {operation_id}",
        operation=loaded.value[0],
        may_continue=visit.may(Permission.BULK) and visit.may(loaded.value[0].kind),
    )


def change_operation(visit: Visit, operation_id: int, name: str) -> Calls[Response]:
    """Continue or cancel an operation."""
    loaded = yield from call(bulk.load_bulk_operations, operation_id)
    if not loaded.value:
        return visit.refuse(404, "No such operation", loaded.problem or "There is no such operation.")
    if not (visit.may(Permission.BULK) and visit.may(loaded.value[0].kind)):
        return visit.refuse(403, "Not allowed", "You may not continue or cancel this operation.")
    if name == "continue":
        yield from _work(operation_id)
    else:
        cancelled = yield from change(bulk.cancel_bulk_operation, operation_id)
        outcome = "failed" if cancelled.problem else "cancelled" if cancelled.value else "unchanged"
        record(visit, "operation_cancel", operation=operation_id, outcome=outcome)
        if cancelled.problem:
            return visit.go_to(f"operations/{operation_id}", done=cancelled.failure)
    return visit.go_to(f"operations/{operation_id}")
