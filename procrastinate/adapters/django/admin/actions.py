"""Admin actions on jobs: retry, cancel, abort."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from django.contrib import admin, messages
from django.contrib.admin.templatetags.admin_urls import admin_urlname
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponseRedirect
from django.urls import reverse
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from django.utils.translation import ngettext

from procrastinate import core, exceptions
from procrastinate.adapters.django.models import ProcrastinateJob
from procrastinate.adapters.django.project_app import app
from procrastinate.core.defaults import LARGEST_ID
from procrastinate.core.enums import Status
from procrastinate.core.errors import is_lock_timeout
from procrastinate.core.steering import run_job_again

R = TypeVar("R")

LIMIT = 1000
"""Maximum number of jobs that one click can change."""

MOST_LOCKED = 10
"""Number of locked rows after which an action gives up. Each of them takes half a second."""

ENDED = (Status.SUCCEEDED, Status.FAILED, Status.CANCELLED, Status.ABORTED)

FROM_JOB_PAGE = "_from_job_page"

_LONGEST_ID = len(str(LARGEST_ID))


@dataclasses.dataclass(frozen=True, kw_only=True)
class JobAction:
    """An action, the statuses that it applies to, and its function.

    The function takes a job id and returns True if it changed the job.
    """

    name: str
    done: str
    statuses: tuple[Status, ...]
    run: Callable[[int], bool]

    @property
    def identifier(self) -> str:
        """The name as an identifier, for forms."""
        return self.name.replace(" ", "_")

    def applies_to(self, job: ProcrastinateJob) -> bool:
        """Return True if the action applies to the job's status."""
        return Status(job.status) in self.statuses


def _change(operation: Callable[..., R], job_id: int, **options: Any) -> R:
    """Change a job, and wait only briefly if another session has locked its row: a person waits for the answer."""
    changed: R = app.job_manager._change_one(None, core.briefly, operation, job_id, **options)
    return changed


def _retry(job_id: int) -> bool:
    return _change(core.retry_job_by_id, job_id, spare_running=True)


def _run_again(job_id: int) -> bool:
    return _change(run_job_again, job_id) is not None


def _cancel(job_id: int) -> bool:
    return _change(core.cancel_job, job_id)


def _abort(job_id: int) -> bool:
    return _change(core.cancel_job, job_id, abort=True)


ACTIONS = (
    JobAction(name="retry", done="returned to the queue", statuses=(Status.FAILED, Status.DOING), run=_retry),
    JobAction(name="run again", done="deferred again as a new job", statuses=ENDED, run=_run_again),
    JobAction(name="cancel", done="cancelled", statuses=(Status.TODO,), run=_cancel),
    JobAction(name="abort", done="cancelled or asked to stop", statuses=(Status.TODO, Status.DOING), run=_abort),
)


def is_job_id(text: str) -> bool:
    """Return True if the text is a valid job id."""
    return text.isdecimal() and len(text) <= _LONGEST_ID and int(text) <= LARGEST_ID


def admin_action(action: JobAction) -> Callable[..., Any]:
    """Return the action as a function for the admin's list of jobs."""

    @admin.action(description=f"{capfirst(action.name)} selected jobs", permissions=["operate"])
    def run(
        model_admin: Any, request: HttpRequest, queryset: QuerySet[ProcrastinateJob]
    ) -> HttpResponseRedirect | None:
        jobs = list(queryset.order_by("id")[: LIMIT + 1])
        changed, locked = _run_on(action, jobs[:LIMIT])
        for job in changed:
            model_admin.log_change(request, job, f"{capfirst(action.name)}: {action.done}.")
        _report(model_admin, request, action, len(changed), len(locked), len(jobs))
        if FROM_JOB_PAGE in request.POST and jobs:
            page = admin_urlname(model_admin.opts, SafeString("change"))
            site = model_admin.admin_site.name
            return HttpResponseRedirect(reverse(page, args=[jobs[0].pk], current_app=site))
        return None

    run.__name__ = action.identifier
    return run


def _run_on(
    action: JobAction, jobs: Sequence[ProcrastinateJob]
) -> tuple[list[ProcrastinateJob], list[ProcrastinateJob]]:
    """Take the action on jobs, and return those that it has changed and those that another session keeps locked."""
    changed, locked = [], []
    for number, job in enumerate(jobs):
        try:
            if action.run(job.pk):
                changed.append(job)
        except exceptions.ConnectorException as error:
            if not is_lock_timeout(error):
                raise
            locked.append(job)
            if len(locked) == MOST_LOCKED:
                return changed, [*locked, *jobs[number + 1 :]]
    return changed, locked


def _report(
    model_admin: Any, request: HttpRequest, action: JobAction, changed: int, locked: int, selected: int
) -> None:
    if changed:
        text = ngettext("%(count)d job was %(done)s.", "%(count)d jobs were %(done)s.", changed)
        model_admin.message_user(request, text % {"count": changed, "done": action.done}, messages.SUCCESS)
    if locked:
        text = ngettext(
            "%(count)d job was skipped: another session has locked its row. Repeat the action later.",
            "%(count)d jobs were skipped: another session has locked rows of them. Repeat the action later.",
            locked,
        )
        model_admin.message_user(request, text % {"count": locked}, messages.WARNING)
    unchanged = min(selected, LIMIT) - changed - locked
    if unchanged:
        text = ngettext(
            "%(count)d job was skipped: its status is not %(statuses)s.",
            "%(count)d jobs were skipped: their status is not %(statuses)s.",
            unchanged,
        )
        statuses = " or ".join(status.value for status in action.statuses)
        model_admin.message_user(request, text % {"count": unchanged, "statuses": statuses}, messages.WARNING)
    if selected > LIMIT:
        text = f"Only the {LIMIT} oldest selected jobs were processed: repeat the action for the others."
        model_admin.message_user(request, text, messages.WARNING)
