"""The dashboard as an ASGI application."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from procrastinate._web import AsgiApplication, Receive, Send, headers_of, path_of, query_of, require_http, respond
from procrastinate.app import App
from procrastinate.dashboard.access import Access, Authorize, check_authorize, to_access
from procrastinate.dashboard.messages import LONGEST_BODY, Request, Response, plain, quoted_name, redirect

if TYPE_CHECKING:
    from procrastinate.dashboard.dashboard import Dashboard


def asgi(app: App, *, authorize: Authorize, **options: Any) -> AsgiApplication:
    """Return the dashboard as an ASGI application, also to mount in Starlette or FastAPI.

    The dependencies of the application that mounts it do not run for its pages, so ``authorize`` decides alone.

    Parameters
    ----------
    app:
        The app, which must be open for asynchronous use.
    authorize:
        Who may see it: an :class:`Access`, or a function from the ASGI scope to an :class:`Access`, a bool or ``None``.
        The function may be asynchronous.
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

    check_authorize(authorize, may_be_async=True)
    dashboard = Dashboard(app, **options)

    async def application(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        require_http(scope, "The dashboard answers")
        response = await _answer(dashboard, scope, receive, authorize)
        await respond(scope, send, status=response.status, headers=response.headers, body=response.body)

    return application


async def _answer(dashboard: Dashboard, scope: dict[str, Any], receive: Receive, authorize: Authorize) -> Response:
    path = path_of(scope)
    if path and not path.startswith("/"):  # Starlette takes an address with a newline for that of the mount
        return plain("There is no such page.", 404)
    if not path:
        return redirect(f"{quoted_name(scope.get('root_path', ''))}/")
    body = await _read(receive)
    if body is None:
        return plain("The form is too long.", 413)
    request = Request(
        method=scope["method"],
        path=path[1:],
        query=query_of(scope),
        headers=headers_of(scope),
        body=body,
        access=await decide(authorize, scope),
        client=(scope.get("client") or ("",))[0],
    )
    return await dashboard.handle_async(request)


async def _read(receive: Receive) -> bytes | None:
    """Return the body, or ``None`` if it is too long."""
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > LONGEST_BODY:
            return None
        if not message.get("more_body"):
            return bytes(body)


async def decide(authorize: Authorize, request: Any) -> Access:
    """Return the access that a sync or async ``authorize`` grants to a request."""
    if isinstance(authorize, Access):
        return authorize
    decision = authorize(request)
    if inspect.isawaitable(decision):
        decision = await decision
    return to_access(decision)
