"""Answer a Django request with a page of the dashboard."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.apps import apps
from django.db import router, transaction
from django.db.models import Model
from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import get_token

from procrastinate._quoting import quoted
from procrastinate.adapters.django.models import ProcrastinateJob
from procrastinate.adapters.django.models_of_relations import (
    ProcrastinateOperation,
    ProcrastinatePausedQueue,
    ProcrastinateWorkflow,
)
from procrastinate.adapters.django.project_app import app
from procrastinate.dashboard.access import Access, Permission
from procrastinate.dashboard.dashboard import Dashboard
from procrastinate.dashboard.messages import HostField, Request, Response

_READING = frozenset({Permission.VIEW, Permission.VIEW_ARGUMENTS, Permission.VIEW_ERRORS})
_CHANGING = frozenset(Permission) - _READING - {Permission.DELETE}

_DJANGO_NAMES = ("view", "change", "delete")


def access_of(request: HttpRequest) -> Access:
    """Return the access of the user by Django's permissions on jobs.

    ``view`` shows all pages, ``change`` also allows actions, and ``delete`` allows to delete jobs that have ended.
    """
    user: Any = getattr(request, "user", None)
    if user is None or not user.is_active:
        return Access.nothing()
    view, change, delete = (user.has_perm(f"procrastinate.{name}_procrastinatejob") for name in _DJANGO_NAMES)
    return _access(user, view=view or change, change=change, delete=delete)


def access_in_admin(request: HttpRequest, model_admin: Any) -> Access:
    """Return the access of the user by the methods of the admin of jobs, which a project may override."""
    user: Any = request.user
    return _access(
        user,
        view=model_admin.has_view_permission(request),
        change=model_admin.has_operate_permission(request),
        delete=user.has_perm("procrastinate.delete_procrastinatejob"),
    )


def _access(user: Any, *, view: bool, change: bool, delete: bool) -> Access:
    if not view:
        return Access.nothing()
    changing = _CHANGING if change else frozenset()
    deleting = frozenset({Permission.DELETE}) if delete else frozenset()
    return Access(_READING | changing | deleting, user.get_username())


def answer(request: HttpRequest, path: str, access: Access, *, is_embedded: bool) -> Response:
    """Return the dashboard's response to a request."""
    dashboard = Dashboard(app, on_action=lambda entry: _log(request, entry))
    return dashboard.handle(
        Request(
            method=request.method or "GET",
            path=path,
            query=request.META.get("QUERY_STRING", ""),
            headers={name.lower(): value for name, value in request.headers.items()},
            # Not request.body: Django's middleware for CSRF has read a multipart form before, and others may read any.
            body=request.POST.urlencode().encode() if request.method == "POST" else b"",
            access=access,
            client=request.META.get("REMOTE_ADDR", ""),
            host_field=HostField(name="csrfmiddlewaretoken", value=get_token(request)),
            is_embedded=is_embedded,
        )
    )


def to_django(response: Response) -> HttpResponse:
    """Return a response as Django's."""
    made = HttpResponse(response.body, status=response.status)
    for name, value in response.headers:
        made[name] = value
    return made


def _log(request: HttpRequest, entry: dict[str, Any]) -> None:
    """Write the action to the admin's log, if the project has the admin."""
    if not apps.is_installed("django.contrib.admin") or entry["outcome"] in _WITHOUT_CHANGE:
        return
    from django.contrib.admin.models import CHANGE, LogEntry
    from django.contrib.contenttypes.models import ContentType

    # A savepoint: with ATOMIC_REQUESTS, an error here would undo what the action has changed.
    with transaction.atomic(using=router.db_for_write(LogEntry)):
        for model, object_id, shown in _changed(entry):
            LogEntry.objects.create(
                user_id=request.user.pk,
                content_type_id=ContentType.objects.get_for_model(model).pk,
                object_id=str(object_id),
                object_repr=shown,
                action_flag=CHANGE,
                change_message=f"{entry['action']} on the dashboard",
            )


_WITHOUT_CHANGE = ("failed", "unchanged", "workflow_unchanged")


def _changed(entry: dict[str, Any]) -> Iterator[tuple[type[Model], object, str]]:
    """Yield what an action changed, with the text by which the log shows it."""
    for job_id in entry.get("jobs", ()):
        yield ProcrastinateJob, job_id, f"job {job_id}"
    for key, model in _OTHER_MODELS.items():
        if key in entry:
            yield model, entry[key], f"{key} {quoted(str(entry[key]))}"[:_LONGEST_SHOWN]


_OTHER_MODELS: dict[str, type[Model]] = {
    "queue": ProcrastinatePausedQueue,
    "workflow": ProcrastinateWorkflow,
    "operation": ProcrastinateOperation,
}
_LONGEST_SHOWN = 200
"""Characters that the admin's log takes of what it shows of an object."""
