"""The list of jobs, with its search, and actions on selected jobs."""

from __future__ import annotations

from procrastinate.core import inspection
from procrastinate.core.inspection import JobState
from procrastinate.core.workflow_rows import SIGNAL_TASK
from procrastinate.dashboard.actions import ACTIONS, run_action
from procrastinate.dashboard.calls import Calls, call
from procrastinate.dashboard.messages import Response
from procrastinate.dashboard.search import Question, read_job_id, read_place, read_question, write_place, write_term
from procrastinate.dashboard.views.forbidden_searches import without_hidden
from procrastinate.dashboard.views.operations import bulk_actions
from procrastinate.dashboard.visit import Visit

_MOST_SELECTED = 100


def jobs(visit: Visit) -> Calls[Response]:
    """Show a page of jobs. An id in the search box leads to the job."""
    parameters = visit.request.parameters
    question = without_hidden(visit, read_question(parameters.get("q", ""), parameters.get("state")))
    if question.job_id is not None:
        return visit.go_to(f"jobs/{question.job_id}")
    place = read_place(parameters.get("after"))
    if place is not None and len(place) != len(question.search.walk.keys):
        place = None
    page = yield from call(inspection.list_jobs_page, question.search, after=place)
    # The counts are of all jobs of a state, and say nothing of a search.
    counts = None if question.text else (yield from call(inspection.count_states)).value
    return visit.page(
        "jobs.html",
        "Jobs",
        counts=counts or {},
        page=page,
        question=question,
        state=question.search.state,
        states=JobState,
        question_of_signals=_question_of_signals(question),
        is_first=place is None,
        next_place=write_place(page.value.next_place) if page.value else None,
        selectable=[
            action
            for action in ACTIONS.values()
            if visit.may(action.permission)
            and not action.is_of_one
            and (question.search.state is None or action.applies_to(question.search.state))
        ],
        bulk_actions=bulk_actions(visit, question.search.state),
    )


def _question_of_signals(question: Question) -> str | None:
    """Return the search box that finds the signals among jobs that wait for steps, or ``None`` elsewhere.

    Signals have no state of their own, and so no index. The search examines a bounded number of jobs.
    """
    if question.search.state is not JobState.WAITING_FOR_STEPS or question.search.task is not None:
        return None
    return f"{question.text} {write_term('task', SIGNAL_TASK)}".strip()


def change_selected(visit: Visit) -> Calls[Response]:
    """Take an action on each selected job."""
    form = visit.request.form
    action = ACTIONS.get(form.get("action", ""))
    chosen = [job_id for one in visit.request.all_of("job") if (job_id := read_job_id(one)) is not None]
    back = {"q": form.get("q") or None, "state": form.get("state") or None}
    if action is None or action.is_of_one:
        return visit.refuse(400, "Unknown action", "The form names no action of this page.")
    if not visit.may(action.permission):
        return visit.refuse(403, "Not allowed", f"You may not do this: {action.label.lower()}.")
    if not chosen:
        return visit.go_to("jobs", done="none", **back)
    outcomes = set()
    for job_id in chosen[:_MOST_SELECTED]:
        outcomes.add((yield from run_action(visit, action, job_id)))
    if outcomes == {action.name}:
        return visit.go_to("jobs", done="selected", **back)
    return visit.go_to("jobs", done="some" if action.name in outcomes else outcomes.pop(), **back)
