"""Wiring an app into FastAPI."""

from __future__ import annotations

from typing import Annotated

import fastapi
import httpx
import pytest
from fastapi import Depends

import procrastinate
from procrastinate import exceptions
from procrastinate.adapters.standalone.fastapi import dashboard
from procrastinate.contrib.fastapi import get_app, lifespan
from procrastinate.dashboard import Access


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


async def test_a_dependency_of_the_dashboard_may_read_the_form(database_url: str) -> None:
    """As a check of a token does."""

    async def require_token(request: fastapi.Request) -> None:
        if request.method == "POST":
            assert (await request.form())["token"] == "right"

    app = procrastinate.App(connector=database_url)
    application = fastapi.FastAPI(lifespan=lifespan(app))
    pages = dashboard(app, authorize=lambda _: Access.everything("ada"), dependencies=[Depends(require_token)])
    application.include_router(pages, prefix="/queue")
    async with application.router.lifespan_context(application) as state:
        transport = httpx.ASGITransport(application)
        headers = {"Sec-Fetch-Site": "same-origin"}
        async with httpx.AsyncClient(transport=transport, base_url="http://shop", headers=headers) as client:
            assert state["procrastinate"] is app
            answer = await client.post("/queue/queues/pause", data={"token": "right", "queue": "mail"})
            assert answer.status_code == 303
            assert [pause.queue for pause in await app.queues.list_async()] == ["mail"]
