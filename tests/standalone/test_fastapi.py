"""Wiring an app into FastAPI."""

from __future__ import annotations

from typing import Annotated

import fastapi
import pytest
from fastapi import Depends

import procrastinate
from procrastinate import exceptions
from procrastinate.contrib.fastapi import get_app, lifespan


async def test_the_app_is_open_while_the_application_runs(database_url: str) -> None:
    """And closed afterwards."""
    app = procrastinate.App(connector=database_url)
    application = fastapi.FastAPI(lifespan=lifespan(app))

    async with application.router.lifespan_context(application) as state:
        assert state == {"procrastinate": app}
        assert await app.check_connection_async()

    with pytest.raises(exceptions.AppNotOpen):
        await app.check_connection_async()


def test_the_app_is_found_in_a_request() -> None:
    """By the dependency."""
    app = procrastinate.App(connector="postgresql+psycopg:///none")
    request = fastapi.Request({"type": "http", "state": {"procrastinate": app}})
    assert get_app(request) is app
    application = fastapi.FastAPI()

    @application.get("/")
    def endpoint(found: Annotated[procrastinate.App, Depends(get_app)]) -> None: ...
