"""FastAPI and Starlette: an app that is open while the web application runs."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, TypedDict

from starlette.requests import HTTPConnection

from procrastinate.app import App


class State(TypedDict):
    """What the requests' ``state`` has."""

    procrastinate: App


def lifespan(app: App) -> Callable[[Any], AbstractAsyncContextManager[State]]:
    """The ``lifespan`` of a FastAPI application: ``FastAPI(lifespan=lifespan(app))``.

    Where you have a lifespan already, write ``async with app.open_async():`` around its ``yield``.
    """

    @contextlib.asynccontextmanager
    async def opened(_: Any) -> AsyncIterator[State]:
        async with app.open_async():
            yield {"procrastinate": app}

    return opened


def get_app(request: HTTPConnection) -> App:
    """The app of a request's application; also as a dependency: ``Depends(get_app)``."""
    found: App = request.state.procrastinate
    return found
