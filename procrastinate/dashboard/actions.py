"""What a visitor can do with a job."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from procrastinate import core
from procrastinate._quoting import described
from procrastinate.core.inspection import JobState, ListedJob
from procrastinate.core.steering import delete_ended_job, run_job_again, run_job_now
from procrastinate.dashboard.access import Permission
from procrastinate.dashboard.calls import Calls, change, logger
from procrastinate.dashboard.visit import Visit


@dataclasses.dataclass(frozen=True, kw_only=True)
class Action:
    """An action on a job.

    ``operation`` takes a connection and the id of a job, and returns something true if it changed the job. ``question``
    asks for confirmation. ``is_of_one`` means that only the page of a job offers it.
    """

    name: str
    label: str
    permission: Permission
    states: frozenset[JobState]
    operation: Callable[..., object]
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    question: str | None = None
    is_of_one: bool = False

    def applies_to(self, state: JobState) -> bool:
        """Return whether a job in this state can be changed so."""
        return state in self.states


_WAITING = frozenset(state for state in JobState if state.is_waiting)
_ENDED = frozenset(state for state in JobState if state.has_ended)

ACTIONS = {
    action.name: action
    for action in (
        Action(
            name="retry",
            label="Retry",
            permission=Permission.RETRY,
            states=frozenset({JobState.FAILED, JobState.RUNNING}),
            operation=core.retry_job_by_id,
            options={"spare_running": True},
        ),
        Action(
            name="rerun",
            label="Run again",
            permission=Permission.RERUN,
            states=_ENDED - {JobState.FAILED},
            operation=run_job_again,
            question="Defer a new job with the same arguments?",
        ),
        Action(
            name="run_now",
            label="Run now",
            permission=Permission.RUN_NOW,
            states=frozenset({JobState.SCHEDULED}),
            operation=run_job_now,
        ),
        Action(
            name="cancel",
            label="Cancel",
            permission=Permission.CANCEL,
            states=_WAITING,
            operation=core.cancel_job,
            question="Cancel this job? It will not run.",
        ),
        Action(
            name="abort",
            label="Abort",
            permission=Permission.ABORT,
            states=frozenset({JobState.RUNNING}),
            operation=core.cancel_job,
            options={"abort": True},
            question="Ask this running job to stop?",
        ),
        Action(
            name="stack",
            label="Show stack",
            permission=Permission.STACK,
            states=frozenset({JobState.RUNNING}),
            operation=core.request_stack,
            is_of_one=True,
        ),
        Action(
            name="delete",
            label="Delete",
            permission=Permission.DELETE,
            states=_ENDED,
            operation=delete_ended_job,
            question="Delete this job with its history?",
        ),
    )
}


def allowed(visit: Visit, job: ListedJob, *, is_lost: bool = False) -> list[Action]:
    """Return the actions that make sense for a job and that the visitor may take.

    Parameters
    ----------
    is_lost:
        True if the worker of the running job is silent or gone. Only then a running job can be retried.
    """
    found = [one for one in ACTIONS.values() if one.applies_to(job.state) and visit.may(one.permission)]
    if job.state is JobState.SCHEDULED and job.scheduled_at is None and not job.never_due:
        found = [one for one in found if one.name != "run_now"]
    if job.state is JobState.RUNNING and not is_lost:
        found = [one for one in found if one.name != "retry"]
    return found


def run_action(visit: Visit, action: Action, job_id: int) -> Calls[str]:
    """Take an action on a job, record it, and return the code of the message to show."""
    answer = yield from change(action.operation, job_id, **action.options)
    outcome = "failed" if answer.problem is not None else action.name if answer.value else "unchanged"
    record(visit, action.name, jobs=[job_id], outcome=outcome)
    return answer.failure if outcome == "failed" else outcome


def _object_of(details: dict[str, Any]) -> str:
    """Return the words by which the log names what an action changes."""
    if details.get("jobs"):
        return str(details["jobs"])
    named = [
        f"{key} {described(details[key])}" for key in ("queue", "limit", "workflow", "operation") if key in details
    ]
    return " ".join(named)


def record(visit: Visit, action: str, **details: Any) -> None:
    """Record an action in the log, and tell the project's own function of it."""
    entry = {"user": visit.request.access.user, "client": visit.request.client, **details}
    logger.info(
        "%s %s by %s: %s",
        action,
        _object_of(details),
        described(entry["user"]) if entry["user"] else "an unnamed user",
        details.get("outcome", ""),
        extra={"action": f"dashboard_{action}", **entry},
    )
    if visit.settings.on_action is None:
        return
    try:
        visit.settings.on_action({"action": action, **entry})
    except Exception:  # the action is taken already, and others of the same request must not be left out
        message = "on_action failed for %s. The action was taken"
        logger.exception(message, action, extra={"action": "on_action_failed"})
