"""The first page: what needs attention, the counts of all states, and the last hour."""

from __future__ import annotations

import dataclasses
from collections.abc import Set
from typing import Any

from procrastinate.alembic.revisions import known_revisions
from procrastinate.core import inspection
from procrastinate.core.defaults import without_builtin
from procrastinate.core.doctor import Diagnosis, Finding, Severity, diagnose
from procrastinate.core.inspection import Count, JobState, Overview, Queues, QueueState
from procrastinate.dashboard.calls import Calls, Loaded, call
from procrastinate.dashboard.charts import minutes_chart
from procrastinate.dashboard.formatting import duration
from procrastinate.dashboard.messages import Response
from procrastinate.dashboard.search import write_term
from procrastinate.dashboard.visit import Visit

_LONG_WAIT = 300.0
"""Seconds after which a ready job that still waits needs attention."""
_MANY_FAILURES = 0.1
"""Part of the jobs of the last hour whose failure needs attention."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Attention:
    """Something that an operator should look at, and the page that shows it."""

    is_urgent: bool
    text: str
    advice: str
    path: str
    parameters: dict[str, str] = dataclasses.field(default_factory=dict)


def overview(visit: Visit) -> Calls[Response]:
    """Show the queue at a glance."""
    loaded = yield from call(inspection.load_overview)
    known = without_builtin(visit.app.queues_of_tasks())
    queues = yield from call(inspection.load_queues, known)
    doctor = yield from call(diagnose, revisions=known_revisions(), queues=known, loaded_queues=queues.value)
    failures = yield from call(inspection.load_failures)
    chart = minutes_chart(loaded.value.minutes) if loaded.value else None
    return visit.page(
        "overview.html",
        "Overview",
        overview=loaded,
        queues=queues,
        failures=failures,
        chart=chart,
        attention=find_attention(loaded.value, queues.value, doctor.value),
        unread=_problems(loaded, queues, doctor, failures),
        states=JobState,
    )


def _problems(*loads: Loaded[Any]) -> list[str]:
    """Return why loads failed, each reason once. Without one of them, no page says that all is well."""
    return list(dict.fromkeys(one.problem for one in loads if one.problem is not None))


def find_attention(
    overview: Overview | None, queues: Queues | None, doctor: Diagnosis | None = None
) -> list[Attention]:
    """Return what needs attention, the most urgent first."""
    faults = _faults(doctor) if doctor else []
    explained = {fault.subject for fault in faults if fault.code in _ABOUT_QUEUES}
    found = [
        *(_of_overview(overview) if overview else []),
        *_of_faults(faults),
        *(_of_queues(queues, explained) if queues else []),
    ]
    return sorted(found, key=lambda one: not one.is_urgent)


_ABOUT_QUEUES = ("queue-unserved", "jobs-left-alone")
"""Faults of the doctor that say why ready jobs of a queue wait."""
_NOT_OF_THE_QUEUE = ("no-worker", "jobs-orphaned", "right-missing", "standby")
"""Faults of the doctor that the overview leaves out. It tells the first two in its own words, and only if jobs wait.
The others are about the role and the server of the dashboard, which may be chosen on purpose."""
_MOST_FAULTS = 5


def _faults(doctor: Diagnosis) -> list[Finding]:
    return [one for one in doctor.findings if one.severity is Severity.FAULT and one.code not in _NOT_OF_THE_QUEUE]


def _of_faults(faults: list[Finding]) -> list[Attention]:
    """Return one line for all faults with the same code."""
    alike: dict[str, list[Finding]] = {}
    for fault in faults:
        alike.setdefault(fault.code, []).append(fault)
    lines = [
        Attention(
            is_urgent=True,
            text=f"{first.text}." + (f" There are {len(others)} more such faults." if others else ""),
            advice=f"{first.advice}.",
            path="doctor",
        )
        for first, *others in alike.values()
    ]
    if len(lines) > _MOST_FAULTS:
        rest = len(lines) - _MOST_FAULTS
        more = Attention(
            is_urgent=True, text=f"The doctor finds {rest} more kinds of faults.", advice="", path="doctor"
        )
        return [*lines[:_MOST_FAULTS], more]
    return lines


def _of_overview(overview: Overview) -> list[Attention]:
    found = []
    waiting = sum(count.number for state, count in overview.waiting.items() if state is not JobState.SCHEDULED)
    if not overview.workers_alive and (waiting or overview.overdue.number):
        found.append(
            Attention(
                is_urgent=True,
                text="No worker is alive, and jobs wait.",
                advice="Start a worker. Without one, nothing runs and scheduled jobs do not become ready.",
                path="workers",
            )
        )
    if overview.stalled.number:
        found.append(
            Attention(
                is_urgent=True,
                text=f"Lost with their workers: {_jobs(overview.stalled)}.",
                advice="A live worker rescues such jobs within a minute.",
                path="workers",
            )
        )
    if overview.overdue.number and overview.workers_alive:
        found.append(
            Attention(
                is_urgent=False,
                text=f"Due for more than 15 seconds, and not made ready by a worker: {_jobs(overview.overdue)}.",
                advice="All workers may be busy: a worker makes jobs ready while it has a free slot.",
                path="jobs",
                parameters={"state": "scheduled"},
            )
        )
    failed, succeeded = overview.ended[JobState.FAILED].number, overview.ended[JobState.SUCCEEDED].number
    if failed and failed > _MANY_FAILURES * (failed + succeeded):
        found.append(
            Attention(
                is_urgent=False,
                text=f"{failed / (failed + succeeded):.0%} of the jobs of the last hour failed ({failed:,}).",
                advice="The failures are grouped by their error.",
                path="failures",
            )
        )
    return found


def _jobs(count: Count) -> str:
    return "1 job" if str(count) == "1" else f"{count} jobs"


def _of_queues(queues: Queues, explained: Set[str]) -> list[Attention]:
    """Return the paused queues in which jobs wait, and the queues in which ready jobs wait for long.

    ``explained`` has the names of queues whose wait a fault explains.
    """
    waits = [
        queue
        for queue in queues.queues
        if not queue.pause
        and queue.name not in explained
        and queue.oldest_ready_at
        and (queues.now - queue.oldest_ready_at).total_seconds() > _LONG_WAIT
    ]
    paused = [queue for queue in queues.queues if queue.pause and (queue.ready.number or queue.blocked.number)]
    return [*map(_of_pause, paused[:5]), *(_of_wait(queue, queues) for queue in waits[:5])]


def _of_pause(queue: QueueState) -> Attention:
    ready, blocked = queue.ready, queue.blocked
    waiting = Count(number=ready.number + blocked.number, is_more=ready.is_more or blocked.is_more)
    return Attention(
        is_urgent=False,
        text=f"The queue {queue.name} is paused, and jobs wait in it: {_jobs(waiting)}.",
        advice="They count as ready or blocked, and no worker starts them before the queue is resumed.",
        path="queues",
    )


def _of_wait(queue: QueueState, queues: Queues) -> Attention:
    waited = duration((queues.now - queue.oldest_ready_at).total_seconds()) if queue.oldest_ready_at else ""
    if queue.served_by:
        advice = "The workers of this queue are busy, or run jobs of other queues first."
    elif queues.silent_on_queues:
        advice = "No worker serves this queue, or its workers are busy."
    else:
        advice = "No worker serves this queue."
    return Attention(
        is_urgent=False,
        text=f"A ready job waits for {waited} in the queue {queue.name}.",
        advice=advice,
        path="jobs",
        parameters={"state": "ready", "q": write_term("queue", queue.name)},
    )
