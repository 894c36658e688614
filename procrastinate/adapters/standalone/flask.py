"""Flask integration: an app that opens with the Flask app, and tasks that run in the application context."""

from __future__ import annotations

import atexit
import urllib.parse
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from procrastinate._extras import needs_extra

with needs_extra("The integration with Flask", "flask"):
    import flask

from procrastinate.app import App

if TYPE_CHECKING:
    from procrastinate.dashboard import Authorize
    from procrastinate.dashboard.messages import HostField, Request
    from procrastinate.job_context import JobContext
    from procrastinate.middleware import TaskMiddleware
    from procrastinate.worker import Worker

_KEY = "procrastinate"


def init_app(flask_app: flask.Flask, app: App) -> flask.Flask:
    """Open the app for a Flask app and return the Flask app.

    No connection is made before a job is deferred, so it is safe to call this before a server forks.
    """
    flask_app.extensions[_KEY] = app.open()
    atexit.register(app.close)
    return flask_app


def get_app(flask_app: flask.Flask | None = None) -> App:
    """Return the app of a Flask app, by default of the current one."""
    found: App = (flask_app or flask.current_app).extensions[_KEY]
    return found


def app_context(flask_app: flask.Flask) -> list[TaskMiddleware]:
    """Return task middleware that runs tasks inside the application context, which Flask's extensions need.

    Use it as ``App(..., worker_defaults={"task_middleware": app_context(flask_app)})``.
    """

    def run(call_next: Callable[[], Any], context: JobContext, worker: Worker) -> Any:
        with flask_app.app_context():
            return call_next()

    async def run_async(call_next: Callable[[], Awaitable[Any]], context: JobContext, worker: Worker) -> Any:
        with flask_app.app_context():
            return await call_next()

    return [run, run_async]


def dashboard(
    app: App, *, authorize: Authorize, name: str = "procrastinate_dashboard", **options: Any
) -> flask.Blueprint:
    """Return a blueprint with the dashboard: ``flask_app.register_blueprint(dashboard(...), url_prefix="/queue")``.

    The pages need the extra ``dashboard``. They work below any prefix. Functions that you register with the blueprint's
    ``before_request`` run before each page. If Flask-WTF protects forms, the pages send its token.

    Parameters
    ----------
    app:
        The app, which :func:`init_app` opens.
    authorize:
        Who may see and do what: an :class:`~procrastinate.dashboard.Access` for all visitors, or a function that takes
        the Flask request and returns an ``Access``, a bool or ``None``. ``True`` lets the visitor see everything and
        change nothing.
    name:
        Name of the blueprint.
    options:
        Those of :class:`~procrastinate.dashboard.dashboard.Dashboard`, such as ``title``, ``redact`` and ``read_only``.

    Raises
    ------
    TypeError
        ``authorize`` is neither a function nor an ``Access``, or another function cannot be called.
    MissingExtra
        Jinja2 is not installed.
    """
    from procrastinate.dashboard.access import Access, check_authorize, to_access
    from procrastinate.dashboard.dashboard import Dashboard
    from procrastinate.dashboard.messages import LONGEST_BODY, plain

    check_authorize(authorize)
    pages = Dashboard(app, **options)
    blueprint = flask.Blueprint(name, __name__)

    @blueprint.route("/", defaults={"path": ""}, methods=["GET", "POST"])
    @blueprint.route("/<path:path>", methods=["GET", "POST"])
    def show(path: str) -> flask.Response:
        if (flask.request.content_length or 0) > LONGEST_BODY:
            response = plain("The form is too long.", 413)
        else:
            access = to_access(authorize if isinstance(authorize, Access) else authorize(flask.request))
            response = pages.handle(_dashboard_request(path, access))
        return flask.Response(response.body, response.status, list(response.headers))

    return blueprint


def _dashboard_request(path: str, access: Any) -> Request:
    from procrastinate.dashboard.messages import Request

    request = flask.request
    return Request(
        method=request.method,
        path=path,
        query=request.query_string.decode("ascii", "replace"),
        headers={name.lower(): value for name, value in request.headers.items()},
        # An extension that protects forms has read the body before.
        body=urllib.parse.urlencode(list(request.form.items(multi=True))).encode(),
        access=access,
        client=request.remote_addr or "",
        host_field=_host_field(),
    )


def _host_field() -> HostField | None:
    """Return the field that Flask-WTF wants in forms, if it protects this application."""
    from procrastinate.dashboard.messages import HostField

    if "csrf" not in flask.current_app.extensions:
        return None
    make_token: Any = flask.current_app.jinja_env.globals["csrf_token"]
    return HostField(name="csrf_token", value=make_token())
