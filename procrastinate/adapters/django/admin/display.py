"""Render parts of a job for the admin."""

from __future__ import annotations

import datetime
from typing import Any

from django.conf import settings
from django.template.loader import render_to_string
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe
from django.utils.text import Truncator

from procrastinate._durations import duration
from procrastinate._quoting import LONGEST_VALUE, quoted, quoted_lines
from procrastinate.adapters.django.admin.excerpts import SHORT, whole_text
from procrastinate.adapters.django.dashboard.options import get_options
from procrastinate.adapters.django.fields import LAST_TIME
from procrastinate.adapters.django.models import (
    ProcrastinateError,
    ProcrastinateEvent,
    ProcrastinateJob,
    ProcrastinateResult,
)
from procrastinate.adapters.django.project_app import app
from procrastinate.core.enums import Readiness, Status
from procrastinate.core.job_states import JobState, label_of, word_of
from procrastinate.dashboard.redaction import HIDDEN, hides_arguments, redacted_beginning, redacted_whole

_SHOW_ERRORS = {Status.TODO.value, Status.FAILED.value, Status.ABORTED.value}
_WITHOUT_A_RUN = {Status.TODO.value, Status.CANCELLED.value}
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


def call(job: Any) -> SafeString:
    """Return the task, the beginning of its arguments and, for a job that failed, its error, each in a line."""
    name = format_html_join(mark_safe(".<wbr>"), "{}", ((part,) for part in (one_line(job.task_name) or "").split(".")))
    lines = [format_html("<strong>{}</strong>", name), short_arguments(job)]
    if job.error_class is not None and job.status in _SHOW_ERRORS:
        text = f"{job.error_class.rpartition('.')[2]}: {job.error_message}"
        lines.append(format_html('<span class="procrastinate-error">{}</span>', Truncator(quoted(text)).chars(SHORT)))
    return format_html_join("", "<div>{}</div>", ((line,) for line in lines))


def time(at: Any) -> SafeString | None:
    """Return a time in one line for its date and one for its time, with the zone."""
    if not isinstance(at, datetime.datetime):
        return None if at is None else format_html("{}", at)
    local = timezone.localtime(at) if settings.USE_TZ else at
    zone = local.tzname() if settings.USE_TZ else ""
    return format_html(
        '<time datetime="{}"><span>{}</span> <span>{} {}</span></time>',
        at.isoformat(),
        f"{local:%Y-%m-%d}",
        f"{local:%H:%M:%S}",
        zone,
    )


def start(job: Any) -> SafeString | None:
    """Return what a step waits for, the scheduled time of a job that waits for it, or the start of the last run."""
    if job.status != Status.TODO.value:
        return time(job.started_at)
    waits_for_others = job.readiness == Readiness.WAITS_FOR_OTHERS.value
    word = word_of(JobState.WAITING_FOR_STEPS if waits_for_others else JobState.SCHEDULED, job.task_name)
    if word != JobState.SCHEDULED.value:
        return format_html("{}", label_of(word))
    if job.scheduled_at_text is not None:
        return format_html("due {}", time_or_text(job, "scheduled_at"))
    return time(job.started_at)


def took(job: Any) -> str | None:
    """Return how long the last run took, or has taken until now."""
    if job.started_at is None or job.status in _WITHOUT_A_RUN:
        return None
    end = timezone.now() if job.status == Status.DOING.value else job.finished_at
    if end is None:
        return None
    return duration(max((end - job.started_at).total_seconds(), 0.0))


def short_arguments(job: Any) -> SafeString:
    """Return the beginning of the arguments in one line, or a mark if the task hides its arguments."""
    if hides_arguments(app, job.task_name):
        return format_html("<code>{}</code>", HIDDEN)
    beginning = job.args_beginning
    if beginning is None:
        return format_html("<em>{}</em>", _LARGE)
    text = redacted_beginning(get_options().redact, job.task_name, beginning)
    return format_html("<code>{}</code>", Truncator(quoted(text)).chars(SHORT))


def pretty_arguments(job: ProcrastinateJob) -> SafeString:
    """Return the arguments as indented JSON, or a mark if the task hides them. Long arguments are cut in the middle."""
    if hides_arguments(app, job.task_name):
        return format_html('<pre class="procrastinate-args">{}</pre>', HIDDEN)
    text = ProcrastinateJob.objects.filter(pk=job.pk).values_list(whole_text("args"), flat=True).first()
    return _pretty(job.task_name, text)


def time_or_text(job: ProcrastinateJob, field: str) -> Any:
    """Return the time, or PostgreSQL's text for a time outside Python's range."""
    at = getattr(job, field)
    return time(getattr(job, f"{field}_text") if at is None or at == LAST_TIME else at)


def _pretty(task_name: str, text: str | None) -> SafeString:
    """Return indented JSON text without secrets. Text that Python cannot read ends before the first secret."""
    if text is None:
        return format_html("<em>{}</em>", _UNREADABLE)
    shown = redacted_whole(get_options().redact, task_name, text)
    return format_html('<pre class="procrastinate-args">{}</pre>', quoted_lines(shown))


def timeline(job: ProcrastinateJob) -> SafeString:
    """Render the events of the job, newest first, each with the time since the previous one."""
    newest = list(ProcrastinateEvent.objects.filter(job_id=job.pk).order_by("-id")[:_NEWEST_EVENTS])
    entries = [
        {"event": event, "since": _since(before, event)}
        for event, before in zip(newest, [*newest[1:], None], strict=True)
    ]
    return render_to_string("procrastinate/admin/timeline.html", {"entries": entries, "limit": _NEWEST_EVENTS})


def result(job: ProcrastinateJob) -> SafeString | None:
    """Return the stored return value as JSON, a mark if the task hides its arguments, or ``None``."""
    kept = list(ProcrastinateResult.objects.filter(pk=job.pk).values_list(whole_text("value"), flat=True))
    if kept and hides_arguments(app, job.task_name):
        return format_html('<pre class="procrastinate-args">{}</pre>', HIDDEN)
    return _pretty(job.task_name, kept[0]) if kept else None


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


def _since(before: ProcrastinateEvent | None, event: ProcrastinateEvent) -> str | None:
    """Return the time since the event before. A schedule may be before it."""
    if before is None or before.at is None or event.at is None or event.at < before.at:
        return None
    return duration((event.at - before.at).total_seconds())
