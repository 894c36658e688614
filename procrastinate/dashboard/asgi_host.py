"""The dashboard as an ASGI application."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from procrastinate.app import App
from procrastinate.dashboard.access import Access, Authorize, check_authorize, to_access
from procrastinate.dashboard.messages import LONGEST_BODY, Request, Response, plain, redirect

if TYPE_CHECKING:
    from procrastinate.dashboard.dashboard import Dashboard

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
AsgiApplication = Callable[[dict[str, Any], Receive, Send], Awaitable[None]]


def asgi(app: App, *, authorize: Authorize, **options: Any) -> AsgiApplication:
    """Return the dashboard as an ASGI application, also to mount in Starlette or FastAPI.

    A mounted application does not pass the dependencies of the application around it, so ``authorize`` decides alone.

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
    ImportError
        Jinja2 is not installed.
    """
    from procrastinate.dashboard.dashboard import Dashboard

    check_authorize(authorize)
    dashboard = Dashboard(app, **options)

    async def application(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"The dashboard answers HTTP and not {scope['type']}")
        response = await _answer(dashboard, scope, receive, authorize)
        headers = [(name.lower().encode(), value.encode()) for name, value in response.headers]
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        body = b"" if scope["method"] == "HEAD" else response.body
        await send({"type": "http.response.body", "body": body})

    return application


async def _answer(dashboard: Dashboard, scope: dict[str, Any], receive: Receive, authorize: Authorize) -> Response:
    root = scope.get("root_path", "")
    path = scope["path"].removeprefix(root)
    if not path.startswith("/"):
        return redirect(f"{root.rpartition('/')[2]}/")
    body = await _read(receive)
    if body is None:
        return plain("The form is too long.", 413)
    request = Request(
        method=scope["method"],
        path=path[1:],
        query=scope.get("query_string", b"").decode("ascii", "replace"),
        headers={name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]},
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
