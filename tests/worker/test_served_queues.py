"""A limit with jobs in several queues, some of which have no worker for a while."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from procrastinate import App, Limit, Rate

ONE = Limit("one", concurrency=1)
A_SECOND = Limit("a second", rate=Rate(1, per=1))


class Shop:
    """An app with a task for each queue, and the queues of the jobs that ran."""

    def __init__(self, app: App, limit: Limit) -> None:
        self.app = app
        self.ran: list[str] = []
        for queue in ("a", "b"):
            app.task(name=queue, queue=queue, limit=limit)(self._task(queue))

    def _task(self, queue: str) -> Callable[[], Awaitable[None]]:
        async def run() -> None:
            self.ran.append(queue)

        return run

    async def defer(self, *queues: str) -> None:
        for queue in queues:
            await self.app.tasks[queue].defer_async()

    async def run_worker(self, *queues: str) -> None:
        await self.app.run_worker_async(queues=list(queues), wait=False, install_signal_handlers=False)


@pytest.fixture(params=[ONE, A_SECOND], ids=lambda limit: limit.name)
async def shop(request: pytest.FixtureRequest, database_url: str) -> AsyncIterator[Shop]:
    app = App(connector=database_url)
    shop = Shop(app, request.param)
    async with app.open_async():
        yield shop


@pytest.mark.timeout(60)
async def test_a_worker_runs_the_jobs_of_its_queue_behind_those_of_a_queue_without_a_worker(shop: Shop) -> None:
    await shop.defer("b", "a")
    await shop.run_worker("a")
    assert shop.ran == ["a"]
    await asyncio.sleep(1)  # a rate lets the next job start
    await shop.run_worker("b")
    assert shop.ran == ["a", "b"]
