"""FastAPI and Starlette integration: an app that is open while the web application runs."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, TypedDict

from starlette.requests import HTTPConnection

from procrastinate.app import App


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
