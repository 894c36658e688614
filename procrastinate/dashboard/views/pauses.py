"""Pause and resume a queue."""

from __future__ import annotations

import datetime
import urllib.parse
from typing import Any

from procrastinate import core, exceptions
from procrastinate._checks.names import check_name
from procrastinate.core.inspection import load_system
from procrastinate.dashboard.access import Permission
from procrastinate.dashboard.actions import record
from procrastinate.dashboard.calls import Calls, Loaded, call, change
from procrastinate.dashboard.messages import Response
from procrastinate.dashboard.visit import Visit

LASTS = {"": "until it is resumed", "15": "for 15 minutes", "60": "for an hour", "480": "for 8 hours"}
"""Choices for the length of a pause in minutes."""
_LONGEST_REASON = 500


def pause(visit: Visit) -> Calls[Response]:
    """Pause a queue, by the clock of the database."""
    name = _queue(visit)
    refused = _refusal(visit, name)
    if refused is not None:
        return refused
    until: datetime.datetime | None = None
    failed: Loaded[Any] | None = None
    minutes = visit.request.form.get("minutes", "")
    if minutes in LASTS and minutes:
        system = yield from call(load_system)
        failed = system if system.problem else None
        until = system.value.now + datetime.timedelta(minutes=int(minutes)) if system.value else None
    if failed is None:
        reason = visit.request.form.get("reason", "").replace("\0", "")[:_LONGEST_REASON].strip() or None
        by = visit.request.access.user or None
        paused = yield from change(core.pause_queue, name, reason=reason, until=until, by=by)
        failed = paused if paused.problem else None
    record(visit, "pause", queue=name, outcome="failed" if failed else "pause")
    return visit.go_to("queues", done=failed.failure if failed else "pause")


def resume(visit: Visit) -> Calls[Response]:
    """End the pause of a queue."""
    name = _queue(visit)
    refused = _refusal(visit, name)
    if refused is not None:
        return refused
    answer = yield from change(core.resume_queue, name)
    outcome = "failed" if answer.problem is not None else "resume" if answer.value else "unchanged"
    record(visit, "resume", queue=name, outcome=outcome)
    codes = {"unchanged": "queue_unchanged", "failed": answer.failure}
    return visit.go_to("queues", done=codes.get(outcome, outcome))


def _queue(visit: Visit) -> str:
    """Return the name in the form, which is encoded, because a page holds no control characters."""
    return urllib.parse.unquote(visit.request.form.get("queue", ""))


def _refusal(visit: Visit, name: str) -> Response | None:
    if not visit.may(Permission.PAUSE):
        return visit.refuse(403, "Not allowed", "You may not pause and resume queues.")
    try:
        check_name("queue", name)
    except exceptions.InvalidJob as error:
        return visit.refuse(400, "No such queue", str(error))
    return None
