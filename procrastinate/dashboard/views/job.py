"""The page of one job, and the actions on it."""

from __future__ import annotations

import dataclasses
import datetime

from procrastinate import core
from procrastinate.alembic.revisions import known_revisions
from procrastinate.core import inspection
from procrastinate.core.enums import EventType
from procrastinate.core.inspection import Event, JobDetails, JobState
from procrastinate.dashboard.access import Permission
from procrastinate.dashboard.actions import ACTIONS, allowed, run_action
from procrastinate.dashboard.calls import Calls, call
from procrastinate.dashboard.messages import Response
from procrastinate.dashboard.redaction import HIDDEN, redacted_text
from procrastinate.dashboard.visit import Visit


@dataclasses.dataclass(frozen=True, kw_only=True)
class Step:
    """A step in the history of a job, with the time since the step before it in seconds."""

    label: str
    kind: str
    at: datetime.datetime | None
    seconds: float | None
    is_future: bool = False


_SHOWN_LOGS = 3
"""Number of runs whose logs are on the page of a job."""
_LABELS = {
    EventType.DEFERRED: ("Deferred", "ready"),
    EventType.STARTED: ("Started", "running"),
    EventType.DEFERRED_FOR_RETRY: ("Returned to the queue", "scheduled"),
    EventType.RETRIED: ("Retried by hand", "scheduled"),
    EventType.SCHEDULED: ("Scheduled for", "scheduled"),
    EventType.SUCCEEDED: ("Succeeded", "succeeded"),
    EventType.FAILED: ("Failed", "failed"),
    EventType.CANCELLED: ("Cancelled", "cancelled"),
    EventType.ABORT_REQUESTED: ("Abort requested", "blocked"),
    EventType.ABORTED: ("Aborted", "aborted"),
}


def timeline(events: tuple[Event, ...], now: datetime.datetime) -> list[Step]:
    """Return the history of a job, oldest first.

    An event "scheduled" has the time of the schedule and not of the event, so it does not count for durations.
    """
    steps: list[Step] = []
    before: datetime.datetime | None = None
    for event in reversed(events):
        label, kind = _LABELS[event.type] if event.type is not None else ("Unknown event", "cancelled")
        is_schedule = event.type is EventType.SCHEDULED
        seconds = None
        if not is_schedule and before is not None and event.at is not None:
            seconds = max((event.at - before).total_seconds(), 0.0)
        is_future = event.at is not None and event.at > now
        steps.append(Step(label=label, kind=kind, at=event.at, seconds=seconds, is_future=is_future))
        if not is_schedule and event.at is not None:
            before = event.at
    return steps


def job(visit: Visit, job_id: int) -> Calls[Response]:
    """Show one job."""
    loaded = yield from call(inspection.load_job, job_id)
    details = loaded.value
    if details is None:
        return (yield from _missing(visit, job_id, loaded.problem))
    why = None
    if not details.job.state.has_ended:
        why = yield from call(inspection.explain_job, job_id, revisions=known_revisions())
    task_name = details.job.task_name
    logs = None
    if visit.may(Permission.VIEW_ERRORS):
        logs = yield from call(inspection.load_job_logs, job_id, runs=_SHOWN_LOGS)
    stack = None
    if visit.may(Permission.STACK):
        stack = yield from call(core.read_job_stack, job_id)
    return visit.page(
        "job.html",
        f"Job {job_id}",
        details=details,
        job=details.job,
        is_lost=is_lost(details),
        why=why,
        steps=timeline(details.events, details.now),
        arguments=visit.arguments_text(task_name, details.job.args),
        arguments_are_hidden=visit.hides_arguments_of(task_name),
        result=visit.arguments_text(task_name, details.result),
        meta=visit.arguments_text(task_name, details.meta),
        logs=logs,
        stack=stack,
        most_logs=_SHOWN_LOGS,
        hidden=HIDDEN,
        is_known=visit.app.knows_task(task_name),
        limit_link=_limit_link(visit, details),
        actions=allowed(visit, details.job, is_lost=is_lost(details)),
        states=JobState,
    )


def _limit_link(visit: Visit, details: JobDetails) -> str | None:
    """Return the address of the key of the job's limit."""
    if details.limit_name is None:
        return None
    return visit.link("limits", name=details.limit_name, key=details.limit_key or "")


def _missing(visit: Visit, job_id: int, problem: str | None) -> Calls[Response]:
    """Say that there is no such job, and why it may be gone."""
    title = f"Job {job_id}"
    if problem is not None:
        return visit.refuse(503, title, problem)
    why = yield from call(inspection.explain_job, job_id, revisions=known_revisions())
    return visit.page("job_missing.html", title, status=404, why=why, limit_link=None)


def is_lost(details: JobDetails) -> bool:
    """Return whether the worker of a running job is gone, or silent for longer than it said that it may be."""
    return details.job.state is JobState.RUNNING and not details.worker_is_alive


def change_job(visit: Visit, job_id: int, name: str) -> Calls[Response]:
    """Take an action on one job."""
    action = ACTIONS.get(name)
    if action is None:
        return visit.refuse(404, "Unknown action", "There is no such action.")
    if not visit.may(action.permission):
        return visit.refuse(403, "Not allowed", f"You may not do this: {action.label.lower()}.")
    outcome = yield from run_action(visit, action, job_id)
    if outcome == "delete":
        return visit.go_to("jobs", done=outcome)
    return visit.go_to(f"jobs/{job_id}", done=outcome)


def arguments(visit: Visit, job_id: int) -> Calls[Response]:
    """Return the arguments of a job as a file, for arguments that are too large for its page."""
    loaded = yield from call(inspection.load_job, job_id)
    if loaded.value is None:
        return (yield from _missing(visit, job_id, loaded.problem))
    task_name = loaded.value.job.task_name
    if visit.hides_arguments_of(task_name):
        return visit.refuse(403, "Not allowed", "The arguments of this job are hidden.")
    whole = yield from call(inspection.load_whole_arguments, job_id)
    if whole.value is None:
        return visit.refuse(503, "Not available", whole.problem or "The job is gone.")
    headers = (
        ("Content-Type", "application/octet-stream"),
        ("Content-Disposition", f'attachment; filename="job-{job_id}-arguments.json"'),
        ("Cache-Control", "no-store"),
        ("X-Content-Type-Options", "nosniff"),
    )
    text = redacted_text(visit.settings.redact, task_name, whole.value)
    return Response(headers=headers, body=text.encode("utf-8", "backslashreplace"))
