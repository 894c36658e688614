"""The dashboard of an app: it answers requests, whichever web framework brings them."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any, TypeAlias

from procrastinate._functions.signature import check_hook
from procrastinate.app import App
from procrastinate.connector import BaseConnector
from procrastinate.dashboard import assets
from procrastinate.dashboard.access import Permission
from procrastinate.dashboard.calls import Calls, drive, drive_async
from procrastinate.dashboard.head import with_head
from procrastinate.dashboard.messages import LONGEST_BODY, Request, Response, plain, quoted_name, redirect
from procrastinate.dashboard.origin import read_origins, refusal
from procrastinate.dashboard.redaction import Redact, hide_keys, hides_keys_only
from procrastinate.dashboard.views import job, jobs, limits, lists, operations, overview, pauses, periodic, workflows
from procrastinate.dashboard.visit import Settings, Visit

View: TypeAlias = "Callable[..., Calls[Response]]"

_PAGES: dict[str, View] = {
    "": overview.overview,
    "jobs": jobs.jobs,
    "workflows": workflows.workflows,
    "queues": lists.queues,
    "tasks": lists.tasks,
    "failures": lists.failures,
    "locks": lists.locks,
    "limits": limits.limits,
    "periodic": periodic.periodic,
    "workers": lists.workers,
    "system": lists.system,
    "doctor": lists.doctor,
    "operations": operations.operations,
    "operations/new": operations.preview,
}
_CHANGES: dict[str, View] = {
    "jobs/selected": jobs.change_selected,
    "operations/start": operations.start,
    "queues/pause": pauses.pause,
    "queues/resume": pauses.resume,
    "limits/set": limits.set_numbers,
    "limits/reset": limits.reset_numbers,
    "periodic/run": periodic.run_now,
}
_JOB = re.compile(r"jobs/([0-9]{1,18})")
_JOB_ARGUMENTS = re.compile(r"jobs/([0-9]{1,18})/arguments")
_WORKFLOW = re.compile(r"workflows/([0-9]{1,18})")
_WORKFLOW_CHANGE = re.compile(r"workflows/([0-9]{1,18})/(retry|cancel)")
_OPERATION = re.compile(r"operations/([0-9]{1,18})")
_OPERATION_CHANGE = re.compile(r"operations/([0-9]{1,18})/(continue|cancel)")
_JOB_CHANGE = re.compile(r"jobs/([0-9]{1,18})/([a-z_]+)")


class Dashboard:
    """The pages of an app.

    Parameters
    ----------
    app:
        The app whose queue is shown. It must be open when the first request comes.
    title:
        Name of the project or environment, shown on each page.
    redact:
        Function from the name of a task and a decoded value to the value that pages show. The default,
        :func:`~procrastinate.dashboard.hide_keys`, hides the values of keys such as ``password`` and ``token``.
    read_only:
        If true, no action is offered or accepted.
    trusted_origins:
        Origins such as ``https://tools.example.com`` that actions may come from, for a proxy that changes the ``Host``
        header.
    on_action:
        Called with a dict after each action: the action, the user, the address, the jobs and the outcome.
    search_arguments:
        If true, visitors who see arguments can search in them. By default this holds unless ``redact`` is a function
        of your own: the hits of a search would tell the values that it hides.
    connector:
        Connector for the dashboard instead of the app's, for example one of a role that may only read.

    Raises
    ------
    MissingExtra
        Jinja2 is not installed.
    """

    def __init__(
        self,
        app: App,
        *,
        title: str = "Procrastinate",
        redact: Redact | None = None,
        read_only: bool = False,
        trusted_origins: tuple[str, ...] = (),
        on_action: Callable[[dict[str, Any]], None] | None = None,
        search_arguments: bool | None = None,
        connector: BaseConnector | None = None,
    ) -> None:
        self._app = app
        self._connector = connector
        redact = hide_keys() if redact is None else redact
        check_hook("redact", redact, "task_name", "value")
        if on_action is not None:
            check_hook("on_action", on_action, "entry")
        self._settings = Settings(
            title=title,
            redact=redact,
            searches_arguments=hides_keys_only(redact) if search_arguments is None else search_arguments,
            trusted_origins=read_origins(trusted_origins),
            is_read_only=read_only,
            on_action=on_action,
        )

    def handle(self, request: Request) -> Response:
        """Answer a request from synchronous code."""
        answer = self._answer(request)
        if isinstance(answer, Response):
            return answer
        return drive(answer, self._connector_for(request))

    async def handle_async(self, request: Request) -> Response:
        """Answer a request from asynchronous code."""
        answer = self._answer(request)
        if isinstance(answer, Response):
            return answer
        return await drive_async(answer, self._connector_for(request))

    def _connector_for(self, request: Request) -> BaseConnector:
        """Return the connector of a request. An action, and the page that tells how it went, do not ask a replica."""
        connector = self._connector or self._app.connector
        follows_action = request.method == "POST" or "done" in request.parameters
        return connector.get_primary_connector() if follows_action else connector

    def _answer(self, request: Request) -> Response | Calls[Response]:
        """Return the response, or the view that finds it."""
        if not request.access.may(Permission.VIEW):
            return plain("You may not see this page.", 403)
        if request.path.startswith("static/") and request.method in ("GET", "HEAD"):
            return assets.serve(request.path) or plain("There is no such file.", 404)
        if request.path.endswith("/"):
            return redirect(_without_slash(request))
        return self._view(request)

    def _view(self, request: Request) -> Response | Calls[Response]:
        visit = self._visit(request)
        if request.method in ("GET", "HEAD"):
            return with_head(visit, _page)
        if request.method != "POST":
            return plain("This page takes GET and POST.", 405)
        if len(request.body) > LONGEST_BODY:
            return plain("The form is too long.", 413)
        reason = refusal(request, self._settings.trusted_origins)
        if reason is not None:
            return visit.refuse(403, "Refused", reason)
        if self._settings.is_read_only:
            return visit.refuse(403, "Read-only", "This dashboard is read-only. Nothing was changed.")
        return _change(visit)

    def _visit(self, request: Request) -> Visit:
        if self._settings.is_read_only:
            request = _read_only(request)
        return Visit(app=self._app, settings=self._settings, request=request)


def _read_only(request: Request) -> Request:
    return dataclasses.replace(request, access=request.access.without_changes())


def _without_slash(request: Request) -> str:
    name = quoted_name(request.path.rstrip("/"))
    return f"../{name}{f'?{request.query}' if request.query else ''}"


def _page(visit: Visit) -> Response | Calls[Response]:
    path = visit.request.path
    view = _PAGES.get(path)
    if view is not None:
        return view(visit)
    if match := _JOB.fullmatch(path):
        return job.job(visit, int(match[1]))
    if match := _JOB_ARGUMENTS.fullmatch(path):
        return job.arguments(visit, int(match[1]))
    if match := _WORKFLOW.fullmatch(path):
        return workflows.workflow(visit, int(match[1]))
    if match := _OPERATION.fullmatch(path):
        return operations.operation(visit, int(match[1]))
    if path in _CHANGES or any(one.fullmatch(path) for one in (_JOB_CHANGE, _OPERATION_CHANGE, _WORKFLOW_CHANGE)):
        return plain("This address takes POST.", 405)
    return visit.refuse(404, "Not found", "There is no such page.")


def _change(visit: Visit) -> Response | Calls[Response]:
    path = visit.request.path
    view = _CHANGES.get(path)
    if view is not None:
        return view(visit)
    if match := _JOB_CHANGE.fullmatch(path):
        return job.change_job(visit, int(match[1]), match[2])
    if match := _WORKFLOW_CHANGE.fullmatch(path):
        return workflows.change_workflow(visit, int(match[1]), match[2])
    if match := _OPERATION_CHANGE.fullmatch(path):
        return operations.change_operation(visit, int(match[1]), match[2])
    return plain("This page takes GET.", 405)
