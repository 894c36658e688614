"""A worker fetches the next job of a lock or a limit when the outcome of its holder is recorded, and not before."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from procrastinate import Limit
from procrastinate.app import App
from procrastinate.worker.fetch import promoter
from tests.database import libpq_url
from tests.worker.counting import CountingConnector
from tests.worker.running import NEVER, Queue, Workers

JOBS = 30
ONE_AT_A_TIME = {
    "a lock": {"lock": "one"},
    "a limit": {"limit": Limit("one", concurrency=1)},
    "a limit over all keys": {"limit": Limit("one in all", total=1)},
}


@pytest.fixture(autouse=True)
def no_promotions_by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Count only the promotions that have a reason: the others depend on how fast the machine is."""
    monkeypatch.setattr(promoter, "_UNCALLED_INTERVAL", NEVER)


async def count_operations(workers: Workers, database_url: str, **options: Any) -> CountingConnector:
    """Run the waiting jobs with a worker that hears no notification, and return its numbers of operations."""
    connector = CountingConnector(libpq_url(database_url))
    await connector.open_async()
    with workers.app.replace_connector(connector):
        await workers.run(concurrency=10, **{"listen_notify": False, "fetch_job_polling_interval": NEVER} | options)
    await connector.close_async()
    return connector


@pytest.mark.parametrize("how", ["a lock", "a limit"])
async def test_a_hand_over_costs_one_fetch_and_no_promotion(
    app: App, workers: Workers, queue: Queue, database_url: str, how: str
) -> None:
    @app.task(name="task", **ONE_AT_A_TIME[how])  # type: ignore[call-overload]
    async def task() -> None:
        await asyncio.sleep(0)

    await task.batch_defer_async(*[{}] * JOBS)
    connector = await count_operations(workers, database_url)
    assert queue.statuses() == {"succeeded": JOBS}
    assert connector.count["finish_jobs"] == JOBS
    assert connector.count["fetch_jobs"] < JOBS + 10
    assert connector.count["promote_jobs"] < 10


async def test_a_slot_that_only_an_admission_gives_away_costs_a_promotion_and_two_fetches(
    app: App, workers: Workers, queue: Queue, database_url: str
) -> None:
    """This worker polls after a minute, and hears nothing."""

    @app.task(name="task", **ONE_AT_A_TIME["a limit over all keys"])  # type: ignore[call-overload]
    async def task() -> None:
        await asyncio.sleep(0)

    await task.batch_defer_async(*[{}] * JOBS)
    connector = await count_operations(workers, database_url, fetch_job_polling_interval=60)
    assert queue.statuses() == {"succeeded": JOBS}
    assert connector.count["promote_jobs"] < JOBS + 10
    assert connector.count["fetch_jobs"] < 2 * JOBS + 15
