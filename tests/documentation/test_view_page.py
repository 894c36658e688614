"""The page on tests of views. Its views also work outside of a test, where the queue must be open."""

from __future__ import annotations

import shlex
from collections.abc import Callable

import pytest

from tests.documentation.reader import Reader

pytestmark = pytest.mark.timeout(300)

PAGE = "docs/howto/test-a-view.md"
OF_FLASK = """
from flask_shop import queue, web

response = web.test_client().post("/orders", data={"email": "ann@example.com"})
assert response.status_code == 201
assert [job.task_kwargs for job in queue.job_manager.list_jobs()] == [{"to": "ann@example.com"}]
"""
OF_FASTAPI = """
import asyncio

import httpx
from fastapi_shop import queue, web


async def main():
    transport = httpx.ASGITransport(web)
    async with (
        web.router.lifespan_context(web),
        httpx.AsyncClient(transport=transport, base_url="http://test") as client,
    ):
        response = await client.post("/orders", params={"email": "bob@example.com"})
        assert response.status_code == 201
        assert {"to": "bob@example.com"} in [job.task_kwargs for job in await queue.job_manager.list_jobs_async()]


asyncio.run(main())
"""


def test_the_page_on_views_works_as_it_says_and_its_views_defer_without_a_test(
    new_reader: Callable[[str], Reader],
) -> None:
    reader = new_reader(PAGE)
    reader.follow(PAGE)
    for program in (OF_FLASK, OF_FASTAPI):
        reader.shell.run(f"python -c {shlex.quote(program)}")
