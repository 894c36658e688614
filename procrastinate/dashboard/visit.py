"""What a view knows of its request, and the pages and redirects that it returns."""

from __future__ import annotations

import dataclasses
import urllib.parse
from collections.abc import Callable
from typing import Any

from procrastinate.app import App
from procrastinate.core.inspection import ServerState
from procrastinate.dashboard import assets
from procrastinate.dashboard.access import Permission
from procrastinate.dashboard.calls import PROBLEMS
from procrastinate.dashboard.messages import Page, Request, Response, embedded, html, quoted_name, redirect
from procrastinate.dashboard.redaction import Redact, hides_arguments, redacted_line, redacted_text
from procrastinate.dashboard.rendering import render

SCREENS = (
    ("", "Overview"),
    ("jobs", "Jobs"),
    ("workflows", "Workflows"),
    ("queues", "Queues"),
    ("tasks", "Tasks"),
    ("failures", "Failures"),
    ("locks", "Locks"),
    ("limits", "Limits"),
    ("periodic", "Periodic"),
    ("workers", "Workers"),
    ("operations", "Operations"),
    ("doctor", "Doctor"),
    ("system", "System"),
)
"""Paths and names of the pages in the navigation."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """How a dashboard shows the queue.

    Parameters
    ----------
    title:
        Name of the environment or project, in the header of each page.
    redact:
        Changes arguments and results before anything else sees them.
    searches_arguments:
        True if a search may look at arguments.
    trusted_origins:
        Origins from which actions may come, besides that of the page itself.
    is_read_only:
        True if no action is offered or accepted.
    on_action:
        Called with a record of each action.
    """

    title: str
    redact: Redact
    searches_arguments: bool = True
    trusted_origins: tuple[str, ...] = ()
    is_read_only: bool = False
    on_action: Callable[[dict[str, Any]], None] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Visit:
    """A request to the dashboard of an app. ``server`` is what the head of the page says of the database, if known."""

    app: App
    settings: Settings
    request: Request
    server: ServerState | None = None

    def may(self, permission: Permission | str) -> bool:
        """Return whether the visitor has a permission."""
        return self.request.access.may(Permission(permission))

    @property
    def may_search_arguments(self) -> bool:
        """True if a search may look at arguments."""
        return self.settings.searches_arguments and self.may(Permission.VIEW_ARGUMENTS)

    def link(self, path: str = "", **parameters: Any) -> str:
        """Return the relative address of a page. Parameters that are ``None`` are left out."""
        query = urllib.parse.urlencode({name: value for name, value in parameters.items() if value is not None})
        return f"{self.request.root}{path}{f'?{query}' if query else ''}"

    @property
    def same_page(self) -> str:
        """The relative address of this page. Without the dot, a name with a colon would be a scheme."""
        query = self.request.query
        return f"./{quoted_name(self.request.path)}{f'?{query}' if query else ''}"

    def hides_arguments_of(self, task_name: str) -> bool:
        """Return whether pages show no arguments of this task, and nothing else that its jobs say."""
        return not self.may(Permission.VIEW_ARGUMENTS) or hides_arguments(self.app, task_name)

    def arguments_line(self, task_name: str, args: str | None) -> str | None:
        """Return arguments in one line without secrets, or ``None`` if pages do not show them."""
        if args is None or self.hides_arguments_of(task_name):
            return None
        return redacted_line(self.settings.redact, task_name, args)

    def arguments_text(self, task_name: str, args: str | None) -> str | None:
        """Return arguments, a result or metadata as indented JSON without secrets. ``None`` if pages do not show it."""
        if args is None or self.hides_arguments_of(task_name):
            return None
        return redacted_text(self.settings.redact, task_name, args)

    def page(self, template: str, title: str, *, status: int = 200, **values: Any) -> Response:
        """Return a page made of a template."""
        request = self.request
        done = request.parameters.get("done", "")
        # A framework that wraps the page has its own choice of colours.
        names = ("dashboard.js",) if request.is_embedded else ("theme.js", "dashboard.js")
        scripts = tuple(f"{request.root}{assets.path(name)}" for name in names)
        stylesheet = f"{request.root}{assets.path('dashboard.css')}"
        body = render(
            template,
            frame="embedded.html" if request.is_embedded else "document.html",
            visit=self,
            title=title,
            screens=SCREENS,
            screen=request.path.partition("/")[0],
            link=self.link,
            may=self.may,
            host_field=request.host_field,
            done=DONE.get(done, ""),
            is_failure=done.startswith("failed"),
            server=self.server,
            stylesheet=stylesheet,
            scripts=scripts,
            **values,
        )
        if request.is_embedded:
            return embedded(Page(title=title, stylesheet=stylesheet, scripts=scripts, body=body), status=status)
        return html(body, status=status)

    def go_to(self, path: str, **parameters: Any) -> Response:
        """Return a redirect to a page."""
        return redirect(self.link(path, **parameters))

    def refuse(self, status: int, title: str, text: str) -> Response:
        """Return a page that says why there is nothing to see."""
        return self.page("refused.html", title, status=status, text=text)


DONE = {
    "retry": "The job waits again.",
    "rerun": "A new job with the same arguments was deferred.",
    "cancel": "The job is cancelled.",
    "abort": "The job is asked to stop.",
    "run_now": "The job may run now.",
    "stack": "The worker is asked where the job is. Its answer appears here within seconds.",
    "delete": "The job is deleted.",
    "workflow_retry": "The steps without success run again.",
    "workflow_cancel": "The steps that waited are cancelled.",
    "workflow_cancel_some": "Many of the steps that waited are cancelled. Cancel again for the others.",
    "workflow_unchanged": "Nothing changed: the workflow is no longer in a state that allows this.",
    "pause": "The queue is paused. Workers hear of it within a second, and running jobs go on.",
    "resume": "The queue is open again.",
    "queue_unchanged": "Nothing changed: the queue is not paused.",
    "set_limit": "The limit has the new numbers. Workers heed them from their next look.",
    "reset_limit": "The numbers of the code hold again.",
    "limit_unchanged": "Nothing changed: no number of this limit was set.",
    "run_periodic": "A job of the task waits now. The schedule goes on as before.",
    "periodic_waits": "Nothing was deferred: another job has the queueing lock or the unique key.",
    "periodic_failed": "Nothing was deferred: the code of the task raised an error, which the log has.",
    "unchanged": "Nothing changed: the job is no longer in a state that allows this.",
    "failed": "Not done.",
    **{f"failed_{trouble}": f"Not done. {text}" for trouble, text in PROBLEMS.items()},
    "failed_away": "The database cannot be reached. Before you try again, look whether something changed.",
    "failed_slow": "Not done. The action took too long, and the database stopped it.",
    "failed_value": "Not done. The database does not accept a value of the form.",
    "none": "No job was selected.",
    "selected": "The selected jobs were changed.",
    "some": "Some of the selected jobs were changed. The others are no longer in a state that allows this.",
}
"""Messages after an action, by the code in the address."""
