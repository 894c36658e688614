"""FastAPI and Starlette integration: an app that is open while the web application runs."""

from __future__ import annotations

import contextlib
import urllib.parse
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, TypedDict

from procrastinate._extras import needs_extra

with needs_extra("The integration with FastAPI", "fastapi"):
    from starlette.requests import HTTPConnection, Request
    from starlette.responses import Response

from procrastinate.app import App

if TYPE_CHECKING:
    from fastapi import APIRouter

    from procrastinate.dashboard import Authorize


class State(TypedDict):
    """The ``state`` of a request."""

    procrastinate: App


def lifespan(app: App) -> Callable[[Any], AbstractAsyncContextManager[State]]:
    """Return a ``lifespan`` for a FastAPI application: ``FastAPI(lifespan=lifespan(app))``.

    If you already have a lifespan, write ``async with app.open_async():`` around its ``yield``.
    """

    @contextlib.asynccontextmanager
    async def opened(_: Any) -> AsyncIterator[State]:
        async with app.open_async():
            yield {"procrastinate": app}

    return opened


def get_app(request: HTTPConnection) -> App:
    """Return the app of a request's application. Works as a dependency too: ``Depends(get_app)``."""
    found: App = request.state.procrastinate
    return found


def dashboard(app: App, *, authorize: Authorize, dependencies: Sequence[Any] = (), **options: Any) -> APIRouter:
    """Return a router with the dashboard: ``application.include_router(dashboard(...), prefix="/queue")``.

    The pages need the extra ``dashboard``. They work below any prefix, and the schema of the API does not list them.

    Parameters
    ----------
    app:
        The app, which :func:`lifespan` opens.
    authorize:
        Who may see and do what: an :class:`~procrastinate.dashboard.Access` for all visitors, or a function that takes
        the request and returns an ``Access``, a bool or ``None``. ``True`` lets the visitor see everything and change
        nothing. The function may be asynchronous.
    dependencies:
        Dependencies of each page, such as ``[Depends(require_admin)]``.
    options:
        Those of :class:`~procrastinate.dashboard.dashboard.Dashboard`, such as ``title``, ``redact`` and ``read_only``.

    Raises
    ------
    TypeError
        ``authorize`` is neither a function nor an ``Access``, or another function cannot be called.
    MissingExtra
        FastAPI or Jinja2 is not installed.
    """
    with needs_extra("The integration with FastAPI", "fastapi"):
        from fastapi import APIRouter

    from procrastinate.dashboard.access import check_authorize
    from procrastinate.dashboard.asgi_host import decide
    from procrastinate.dashboard.dashboard import Dashboard
    from procrastinate.dashboard.messages import Request as DashboardRequest

    check_authorize(authorize, may_be_async=True)
    pages = Dashboard(app, **options)
    router = APIRouter(dependencies=list(dependencies))

    @router.api_route("/{path:path}", methods=["GET", "HEAD", "POST"], include_in_schema=False)
    async def show(request: Request, path: str) -> Response:
        body = await _read_form(request)
        if body is None:
            return Response("The form is too long.", 413)
        answer = await pages.handle_async(
            DashboardRequest(
                method=request.method,
                path=path,
                query=request.url.query,
                headers=dict(request.headers),
                body=body,
                access=await decide(authorize, request),
                client=request.client.host if request.client else "",
            )
        )
        response = Response(answer.body, answer.status)
        for name, value in answer.headers:
            response.headers[name] = value
        return response

    return router


async def _read_form(request: Request) -> bytes | None:
    """Return the body, or ``None`` if it is longer than any form of the dashboard."""
    from procrastinate.dashboard.messages import LONGEST_BODY

    body = bytearray()
    try:
        async for part in request.stream():
            body += part
            if len(body) > LONGEST_BODY:
                return None
    except RuntimeError:  # a dependency has read the form before, for example to check a token: Starlette keeps it
        form = await request.form()
        return urllib.parse.urlencode([(name, str(value)) for name, value in form.multi_items()]).encode()
    return bytes(body)
