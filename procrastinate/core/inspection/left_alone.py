"""The reason that is a fault of the queue: a worker is free for a ready job, and does not take it."""

from __future__ import annotations

from procrastinate._durations import duration
from procrastinate.core.inspection.case import Case
from procrastinate.core.inspection.explanation_types import Reason, ReasonKind
from procrastinate.core.inspection.facts import POLL

NO_EXCUSES = frozenset({"line-in-front", "overtaken", "not-listening", "bloated"})
"""Codes of reasons for which a free worker may leave a ready job alone until its next poll, and no longer."""


def left_alone(case: Case) -> Reason | None:
    """Do free workers take it. Jobs that come first are left alone too, if none of them has started since a poll."""
    job, since = case.row, case.ready_since
    if since is None or not any(worker.was_free_after(since, POLL, job.queue_name) for worker in case.alive):
        return None
    if case.movement.moves(job.queue_name, job.priority, job.id):
        return None
    waited = duration((case.now - since).total_seconds())
    return Reason(
        code="left-alone",
        kind=ReasonKind.BLOCKED,
        text=f"The job has been ready for {waited} at least, a worker is free for it, and none takes it",
        advice=(
            "Wait if the workers poll less often than every 5 s. Otherwise this is a fault of the queue. "
            "Report it with the output of this command"
        ),
    )
