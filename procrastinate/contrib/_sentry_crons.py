"""Check-ins with Sentry Crons: each tick of a periodic task, and the end of its job.

The job carries the id of its check-in in its headers, so any worker can end it. A retry leaves it in progress.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import time
import uuid
from collections.abc import Iterator
from typing import Any

from sentry_sdk.crons import capture_checkin

from procrastinate.defer_hooks import Defer, note_deferred_at, read_deferred_at
from procrastinate.jobs import Job, Status

_HEADER = "sentry-monitor"
_LONGEST_SLUG = 50


def monitor_slug(task_name: str, periodic_id: str) -> str:
    """Return the name of the monitor of a schedule, in the letters and the length that Sentry allows."""
    name = f"{task_name}-{periodic_id}" if periodic_id else task_name
    slug = re.sub(r"[^a-z0-9_]+", "-", name.lower()).strip("-")
    if slug and len(slug) <= _LONGEST_SLUG:
        return slug
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{slug[: _LONGEST_SLUG - 9]}-{digest}".lstrip("-")


@contextlib.contextmanager
def check_in(defer: Defer) -> Iterator[None]:
    """Check in if the block defers the job of a tick."""
    config = _config(defer)
    if defer.tick is None or defer.task_name is None or config is None:
        yield
        return
    slug, check_in_id = monitor_slug(defer.task_name, defer.tick.periodic_id), uuid.uuid4().hex
    defer.trace_context[_HEADER] = f"{check_in_id} {slug}"
    note_deferred_at(defer.trace_context)
    yield
    if defer.job_ids:  # no other worker was faster
        capture_checkin(monitor_slug=slug, check_in_id=check_in_id, status="in_progress", monitor_config=config)


def _config(defer: Defer) -> Any:
    """Return the schedule for Sentry, or ``None`` if it knows no such schedules: those of seconds, and of offsets."""
    tick = defer.tick
    if tick is None or tick.timezone is None or not (tick.cron.startswith("@") or len(tick.cron.split()) == 5):
        return None
    return {"schedule": {"type": "crontab", "value": tick.cron}, "timezone": tick.timezone}


def check_out(job: Job, status: Status) -> None:
    """Say how the job of a tick ended. A retry is no end, nor is the end of a run that the job outlives."""
    headers = job.trace_context or {}
    check_in_id, _, slug = headers.get(_HEADER, "").partition(" ")
    if not slug or status in (Status.TODO, Status.DOING):
        return
    deferred_at = read_deferred_at(headers)
    capture_checkin(
        monitor_slug=slug,
        check_in_id=check_in_id,
        status="ok" if status is Status.SUCCEEDED else "error",
        duration=None if deferred_at is None else max(time.time() - deferred_at, 0.0),
    )
