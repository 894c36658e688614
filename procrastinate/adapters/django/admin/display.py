"""Render parts of a job for the admin."""

from __future__ import annotations

import contextlib
import json
from typing import Any

from django.template.loader import render_to_string
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import Truncator

from procrastinate._quoting import LONGEST_VALUE, quoted, quoted_lines
from procrastinate.adapters.django.admin.excerpts import SHORT, whole_text
from procrastinate.adapters.django.models import (
    ProcrastinateError,
    ProcrastinateEvent,
    ProcrastinateJob,
    ProcrastinateResult,
)

_LARGE = "large: open the job"
_UNREADABLE = "Contains numbers that are too long to show."
_NEWEST_EVENTS = 200
_NEWEST_ERRORS = 20


def one_line(text: str | None) -> str | None:
    """Return text of a row as one printable line, cut if it is long. Django escapes it for HTML."""
    return None if text is None else quoted(text, LONGEST_VALUE)


def status_badge(job: ProcrastinateJob) -> SafeString:
    """Return the status as a coloured badge."""
    return format_html('<span class="procrastinate-status procrastinate-{}">{}</span>', job.status, job.status)


def short_task_name(job: ProcrastinateJob) -> SafeString:
    """Return the end of the task's name, with the full name as a tooltip."""
    name = one_line(job.task_name) or ""
    return format_html('<span title="{}">{}</span>', name, ".".join(name.split(".")[-2:]))


def short_arguments(job: Any) -> SafeString:
    """Return the beginning of the arguments in one line."""
    beginning = job.args_beginning
    if beginning is None:
        return format_html("<em>{}</em>", _LARGE)
    return format_html("<code>{}</code>", Truncator(quoted(beginning)).chars(SHORT))


def pretty_arguments(job: ProcrastinateJob) -> SafeString:
    """Return the arguments as indented JSON. Long arguments are cut in the middle."""
    text = ProcrastinateJob.objects.filter(pk=job.pk).values_list(whole_text("args"), flat=True).first()
    return _pretty(text)


def time_or_text(job: ProcrastinateJob, field: str) -> Any:
    """Return the time, or PostgreSQL's text for a time outside Python's range."""
    time = getattr(job, field)
    return getattr(job, f"{field}_text") if time is None else time


def _pretty(text: str | None) -> SafeString:
    """Return indented JSON text, or the unchanged text if Python cannot read or write it."""
    if text is None:
        return format_html("<em>{}</em>", _UNREADABLE)
    with contextlib.suppress(ValueError, RecursionError):  # numbers of more than 4,300 digits, thousands of levels
        text = json.dumps(json.loads(text), ensure_ascii=False, indent=2)
    return format_html('<pre class="procrastinate-args">{}</pre>', quoted_lines(text))


def timeline(job: ProcrastinateJob) -> SafeString:
    """Render the events of the job, newest first, each with the seconds since the previous one."""
    newest = list(ProcrastinateEvent.objects.filter(job_id=job.pk).order_by("-id")[:_NEWEST_EVENTS])
    entries = [
        {"event": event, "seconds": _seconds_between(before, event)}
        for event, before in zip(newest, [*newest[1:], None], strict=True)
    ]
    return render_to_string("procrastinate/admin/timeline.html", {"entries": entries, "limit": _NEWEST_EVENTS})


def result(job: ProcrastinateJob) -> SafeString | None:
    """Return the stored return value as JSON, or ``None``."""
    kept = list(ProcrastinateResult.objects.filter(pk=job.pk).values_list(whole_text("value"), flat=True))
    return _pretty(kept[0]) if kept else None


def errors(job: ProcrastinateJob) -> SafeString | None:
    """Render the stored exceptions of the attempts, newest first, with the newest traceback open."""
    newest = list(ProcrastinateError.objects.filter(job_id=job.pk).order_by("-id")[:_NEWEST_ERRORS])
    if not newest:
        return None
    entries = [
        {
            "error": error,
            "exception_class": one_line(error.exception_class),
            "traceback": quoted_lines(error.traceback),
        }
        for error in newest
    ]
    return render_to_string("procrastinate/admin/errors.html", {"entries": entries, "limit": _NEWEST_ERRORS})


def _seconds_between(before: ProcrastinateEvent | None, event: ProcrastinateEvent) -> float | None:
    if before is None or before.at is None or event.at is None:
        return None
    return float((event.at - before.at).total_seconds())
