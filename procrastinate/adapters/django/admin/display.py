"""How parts of a job are shown."""

from __future__ import annotations

import json
from typing import Any

from django.template.loader import render_to_string
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import Truncator

from procrastinate.adapters.django.models import (
    ProcrastinateError,
    ProcrastinateEvent,
    ProcrastinateJob,
    ProcrastinateResult,
)

_SHORT_ARGUMENTS = 80
_NEWEST_EVENTS = 200
_NEWEST_ERRORS = 20


def status_badge(job: ProcrastinateJob) -> SafeString:
    """The status, coloured."""
    return format_html('<span class="procrastinate-status procrastinate-{}">{}</span>', job.status, job.status)


def short_task_name(job: ProcrastinateJob) -> SafeString:
    """The end of the task's name; the whole under the pointer."""
    return format_html('<span title="{}">{}</span>', job.task_name, ".".join(job.task_name.split(".")[-2:]))


def short_arguments(job: ProcrastinateJob) -> SafeString:
    """The arguments in one line."""
    arguments = _json(job.args)
    if isinstance(job.args, dict):  # anything else was not deferred by an app
        arguments = ", ".join(f"{name}={_json(value)}" for name, value in job.args.items())
    return format_html("<code>{}</code>", Truncator(arguments).chars(_SHORT_ARGUMENTS))


def pretty_arguments(job: ProcrastinateJob) -> SafeString:
    """The arguments as JSON, in full."""
    return format_html('<pre class="procrastinate-args">{}</pre>', _json(job.args, indent=2))


def _json(value: Any, **options: Any) -> str:
    return json.dumps(value, ensure_ascii=False, **options)


def timeline(job: ProcrastinateJob) -> SafeString:
    """What happened to the job, newest first, each with the seconds since what happened before."""
    newest = list(ProcrastinateEvent.objects.filter(job_id=job.pk).order_by("-id")[:_NEWEST_EVENTS])
    entries = [
        {"event": event, "seconds": _seconds_between(before, event)}
        for event, before in zip(newest, [*newest[1:], None], strict=True)
    ]
    return render_to_string("procrastinate/admin/timeline.html", {"entries": entries, "limit": _NEWEST_EVENTS})


def result(job: ProcrastinateJob) -> SafeString | None:
    """What the job returned, as JSON, where that is kept."""
    kept = ProcrastinateResult.objects.filter(pk=job.pk).first()
    return (
        None if kept is None else format_html('<pre class="procrastinate-args">{}</pre>', _json(kept.value, indent=2))
    )


def errors(job: ProcrastinateJob) -> SafeString | None:
    """The exceptions that ended attempts, newest first; the traceback of the newest is open."""
    newest = list(ProcrastinateError.objects.filter(job_id=job.pk).order_by("-id")[:_NEWEST_ERRORS])
    if not newest:
        return None
    return render_to_string("procrastinate/admin/errors.html", {"errors": newest, "limit": _NEWEST_ERRORS})


def _seconds_between(before: ProcrastinateEvent | None, event: ProcrastinateEvent) -> float | None:
    if before is None or before.at is None or event.at is None:
        return None
    return float((event.at - before.at).total_seconds())
