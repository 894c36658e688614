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
from procrastinate.adapters.django.dashboard.options import DashboardOptions, get_options
from procrastinate.adapters.django.dashboard.origins import trusted_origins
from procrastinate.adapters.django.models import ProcrastinateJob
from procrastinate.adapters.django.models_of_relations import (
    ProcrastinateOperation,
    ProcrastinatePausedQueue,
    ProcrastinateWorkflow,
)
from procrastinate.adapters.django.project_app import app
from procrastinate.dashboard.access import Access, Permission, to_access
from procrastinate.dashboard.dashboard import Dashboard
from procrastinate.dashboard.messages import HostField, Request, Response

_READING = frozenset({Permission.VIEW, Permission.VIEW_ARGUMENTS, Permission.VIEW_ERRORS})
_CHANGING = frozenset(Permission) - _READING - {Permission.DELETE}

_DJANGO_NAMES = ("view", "change", "delete")


def access_of(request: HttpRequest) -> Access:
    """Return the access of the user by ``authorize`` of the settings, or by Django's permissions on jobs.

    ``view`` shows all pages, ``change`` also allows actions, and ``delete`` allows to delete jobs that have ended.
    """
    decided = _decided(request)
    if decided is not None:
        return decided
    user: Any = getattr(request, "user", None)
    if user is None or not user.is_active:
        return Access.nothing()
    view, change, delete = (user.has_perm(f"procrastinate.{name}_procrastinatejob") for name in _DJANGO_NAMES)
    return _access(user, view=view or change, change=change, delete=delete)


def access_in_admin(request: HttpRequest, model_admin: Any) -> Access:
    """Return the access by ``authorize`` of the settings, or by the methods of the admin, which a project may override.

    Either way, the user has logged in to the admin.
    """
    decided = _decided(request)
    if decided is not None:
        return decided
    user: Any = request.user
    return _access(
        user,
        view=model_admin.has_view_permission(request),
        change=model_admin.has_operate_permission(request),
        delete=user.has_perm("procrastinate.delete_procrastinatejob"),
    )


def _decided(request: HttpRequest) -> Access | None:
    """Return what ``authorize`` of the settings decides, or ``None`` if the project has no such function."""
    authorize = get_options().authorize
    if authorize is None:
        return None
    return to_access(authorize if isinstance(authorize, Access) else authorize(request))


def _access(user: Any, *, view: bool, change: bool, delete: bool) -> Access:
    if not view:
        return Access.nothing()
    changing = _CHANGING if change else frozenset()
    deleting = frozenset({Permission.DELETE}) if delete else frozenset()
    return Access(_READING | changing | deleting, user.get_username())


def answer(request: HttpRequest, path: str, access: Access, *, is_embedded: bool) -> Response:
    """Return the dashboard's response to a request."""
    return _dashboard(request, get_options()).handle(
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


def _dashboard(request: HttpRequest, options: DashboardOptions) -> Dashboard:
    def record(entry: dict[str, Any]) -> None:
        try:
            _log(request, entry)
        finally:
            if options.on_action is not None:
                options.on_action(entry)

    return Dashboard(
        app,
        title=options.title,
        redact=options.redact,
        read_only=options.read_only,
        trusted_origins=trusted_origins(request),
        on_action=record,
        search_arguments=options.searches_arguments,
        connector=options.make_connector(),
    )


def to_django(response: Response) -> HttpResponse:
    """Return a response as Django's."""
    made = HttpResponse(response.body, status=response.status)
    for name, value in response.headers:
        made[name] = value
    return made


def _log(request: HttpRequest, entry: dict[str, Any]) -> None:
    """Write the action to the admin's log, if the project has the admin and the user has logged in."""
    if not apps.is_installed("django.contrib.admin") or entry["outcome"] in _WITHOUT_CHANGE:
        return
    if not hasattr(request, "user") or not request.user.is_authenticated:
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
