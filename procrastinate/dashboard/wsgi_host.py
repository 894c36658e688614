"""The dashboard as a WSGI application."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from procrastinate._web import WsgiApplication
from procrastinate.app import App
from procrastinate.dashboard.access import Access, Authorize, check_authorize, to_access
from procrastinate.dashboard.messages import LONGEST_BODY, Request, Response, plain, quoted_name, redirect

if TYPE_CHECKING:
    from procrastinate.dashboard.dashboard import Dashboard


def wsgi(app: App, *, authorize: Authorize, **options: Any) -> WsgiApplication:
    """Return the dashboard as a WSGI application.

    Parameters
    ----------
    app:
        The app, which must be open for synchronous use.
    authorize:
        Who may see it: an :class:`Access`, or a function from the WSGI environment to an :class:`Access`, a bool or
        ``None``.
    options:
        Those of :class:`~procrastinate.dashboard.dashboard.Dashboard`.

    Raises
    ------
    TypeError
        ``authorize`` is neither.
    MissingExtra
        Jinja2 is not installed.
    """
    from procrastinate.dashboard.dashboard import Dashboard

    check_authorize(authorize)
    dashboard = Dashboard(app, **options)

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        response = _answer(dashboard, environ, authorize)
        start_response(response.reason, list(response.headers))
        return [b"" if environ["REQUEST_METHOD"] == "HEAD" else response.body]

    return application


def _answer(dashboard: Dashboard, environ: dict[str, Any], authorize: Authorize) -> Response:
    path = _decoded(environ, "PATH_INFO")
    if not path.startswith("/"):
        return redirect(f"{quoted_name(_decoded(environ, 'SCRIPT_NAME'))}/")
    length = environ.get("CONTENT_LENGTH") or "0"
    if not length.isdecimal() or int(length) > LONGEST_BODY:
        return plain("The form is too long.", 413)
    access = to_access(authorize if isinstance(authorize, Access) else authorize(environ))
    request = Request(
        method=environ["REQUEST_METHOD"],
        path=path[1:],
        query=environ.get("QUERY_STRING", ""),
        headers=_headers(environ),
        body=environ["wsgi.input"].read(int(length)) if int(length) else b"",
        access=access,
        client=environ.get("REMOTE_ADDR", ""),
    )
    return dashboard.handle(request)


def _decoded(environ: dict[str, Any], name: str) -> str:
    """Return a path of WSGI, whose characters stand for the bytes of UTF-8."""
    path: str = environ.get(name, "")
    return path.encode("latin-1", "replace").decode("utf-8", "replace")


def _headers(environ: dict[str, Any]) -> dict[str, str]:
    return {
        name.removeprefix("HTTP_").replace("_", "-").lower(): value
        for name, value in environ.items()
        if name.startswith("HTTP_")
    }
