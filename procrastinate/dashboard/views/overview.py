"""The first page: what needs attention, the counts of all states, and the last hour."""

from __future__ import annotations

import dataclasses
from typing import Any

from procrastinate.core import inspection
from procrastinate.core.defaults import without_builtin
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
    queues = yield from call(inspection.load_queues, without_builtin(visit.app.queues_of_tasks()))
    failures = yield from call(inspection.load_failures)
    chart = minutes_chart(loaded.value.minutes) if loaded.value else None
    return visit.page(
        "overview.html",
        "Overview",
        overview=loaded,
        queues=queues,
        failures=failures,
        chart=chart,
        attention=find_attention(loaded.value, queues.value),
        unread=_problems(loaded, queues, failures),
        states=JobState,
    )


def _problems(*loads: Loaded[Any]) -> list[str]:
    """Return why loads failed, each reason once. Without one of them, no page says that all is well."""
    return list(dict.fromkeys(one.problem for one in loads if one.problem is not None))


def find_attention(overview: Overview | None, queues: Queues | None) -> list[Attention]:
    """Return what needs attention, the most urgent first."""
    found = [*(_of_overview(overview) if overview else []), *(_of_queues(queues) if queues else [])]
    return sorted(found, key=lambda one: not one.is_urgent)


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


def _of_queues(queues: Queues) -> list[Attention]:
    waits = [
        (duration((queues.now - queue.oldest_ready_at).total_seconds()), queue.name)
        for queue in queues.queues
        if not queue.pause
        and queue.oldest_ready_at
        and (queues.now - queue.oldest_ready_at).total_seconds() > _LONG_WAIT
    ]
    paused = [queue for queue in queues.queues if queue.pause and (queue.ready.number or queue.blocked.number)]
    return [
        *(_of_pause(queue) for queue in paused[:5]),
        *_of_waits(waits[:5]),
    ]


def _of_pause(queue: QueueState) -> Attention:
    ready, blocked = queue.ready, queue.blocked
    waiting = Count(number=ready.number + blocked.number, is_more=ready.is_more or blocked.is_more)
    return Attention(
        is_urgent=False,
        text=f"The queue {queue.name} is paused, and jobs wait in it: {_jobs(waiting)}.",
        advice="They count as ready or blocked, and no worker starts them before the queue is resumed.",
        path="queues",
    )


def _of_waits(waits: list[tuple[str, str]]) -> list[Attention]:
    return [
        Attention(
            is_urgent=False,
            text=f"A ready job waits for {wait} in the queue {name}.",
            advice="No worker serves this queue, or its workers are busy.",
            path="jobs",
            parameters={"state": "ready", "q": write_term("queue", name)},
        )
        for wait, name in waits
    ]
