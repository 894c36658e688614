"""A worker fetches the next job of a lock or a limit in the round trip that records the outcome of its holder."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from procrastinate import Limit, core, exceptions
from procrastinate.app import App
from procrastinate.core import Status
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
async def test_a_hand_over_costs_one_round_trip_and_no_promotion(
    app: App, workers: Workers, queue: Queue, database_url: str, how: str
) -> None:
    @app.task(name="task", **ONE_AT_A_TIME[how])  # type: ignore[call-overload]
    async def task() -> None:
        await asyncio.sleep(0)

    await task.batch_defer_async(*[{}] * JOBS)
    connector = await count_operations(workers, database_url)
    assert queue.statuses() == {"succeeded": JOBS}
    assert connector.count["finish_and_fetch_jobs"] > JOBS - 5
    assert connector.count["finish_and_fetch_jobs"] + connector.count["finish_jobs"] == JOBS
    assert connector.count["fetch_jobs"] < 12
    assert connector.count["promote_jobs"] < 10


async def test_a_slot_that_only_an_admission_gives_away_costs_a_promotion_and_another_fetch(
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
    assert connector.count["finish_and_fetch_jobs"] + connector.count["finish_jobs"] == JOBS
    assert connector.count["fetch_jobs"] + connector.count["finish_and_fetch_jobs"] < 2 * JOBS + 15


async def test_an_outcome_that_leaves_a_result_behind_takes_a_fetch_of_its_own(
    app: App, workers: Workers, queue: Queue, database_url: str
) -> None:
    @app.task(name="task", store_result=True, limit=Limit("one", concurrency=1))
    async def task() -> int:
        return 1

    await task.batch_defer_async(*[{}] * 5)
    connector = await count_operations(workers, database_url)
    assert queue.statuses() == {"succeeded": 5}
    assert connector.count["finish_and_fetch_jobs"] == 0
    assert connector.count["finish_jobs"] == 5


async def test_a_worker_that_is_notified_saves_the_round_trip_while_jobs_are_in_line(
    app: App, workers: Workers, queue: Queue, database_url: str
) -> None:
    """It is notified of the first hand-over, and expects the others.

    An outcome that is written while the fetch loop is under way fetches along nothing: on a busy machine some are.
    """

    @app.task(name="task", limit=Limit("one", concurrency=1))
    async def task() -> None:
        await asyncio.sleep(0.03)  # a pause after which it is notified again

    ids = await task.batch_defer_async(*[{}] * 15)
    connector = CountingConnector(libpq_url(database_url))
    await connector.open_async()
    with workers.app.replace_connector(connector):
        await workers.listening(queue, concurrency=10)
        await queue.succeeded(*ids)
    await connector.close_async()
    assert connector.count["finish_and_fetch_jobs"] > 2


async def test_a_job_of_a_higher_priority_goes_before_the_next_in_line(app: App, workers: Workers) -> None:
    ran = []

    @app.task(name="hot", limit=Limit("one", concurrency=1))
    async def hot(place: int) -> None:
        ran.append(f"hot {place}")
        if place == 0:
            await free.configure(priority=1).defer_async()

    @app.task(name="free")
    async def free() -> None:
        ran.append("free")

    await hot.batch_defer_async(*[{"place": place} for place in range(3)])
    await workers.run(concurrency=1, listen_notify=False)
    assert ran == ["hot 0", "free", "hot 1", "hot 2"]


async def test_the_next_in_line_runs_though_the_deletion_of_a_job_is_refused_at_the_commit(
    app: App, workers: Workers, queue: Queue, database_url: str
) -> None:
    """So does a foreign key of Django. The job is kept."""

    @app.task(name="task", lock="one")
    async def task() -> None:
        await asyncio.sleep(0)

    queue.sql("CREATE TABLE notes (job_id bigint REFERENCES procrastinate_jobs DEFERRABLE INITIALLY DEFERRED)")
    ids = await task.batch_defer_async(*[{}] * 5)
    queue.sql("INSERT INTO notes VALUES (:id)", id=ids[1])
    connector = await count_operations(workers, database_url, delete_jobs="successful")
    assert queue.statuses() == {"succeeded": 1}
    assert queue.status(ids[1]) is Status.SUCCEEDED
    assert connector.count["finish_and_fetch_jobs"] >= 3


class LosingConnector(CountingConnector):
    """Loses the answer of every third operation that records outcomes and fetches."""

    def get_worker_connector(self) -> LosingConnector:
        return LosingConnector(self._url, self.count)

    async def run_async(self, operation: Any, *args: Any, **kwargs: Any) -> Any:
        answer = await super().run_async(operation, *args, **kwargs)
        if operation is core.finish_and_fetch_jobs and self.count[operation.__name__] % 3 == 2:
            raise exceptions.DatabaseUnavailable("The connection was lost")
        return answer


@pytest.mark.parametrize("how", ["a lock", "a limit"])
async def test_jobs_run_once_if_the_answer_to_an_outcome_and_a_fetch_is_lost(
    app: App, workers: Workers, queue: Queue, database_url: str, how: str
) -> None:
    ran = []

    @app.task(name="task", **ONE_AT_A_TIME[how])  # type: ignore[call-overload]
    async def task(place: int) -> None:
        ran.append(place)

    await task.batch_defer_async(*[{"place": place} for place in range(10)])
    connector = LosingConnector(libpq_url(database_url))
    await connector.open_async()
    with workers.app.replace_connector(connector):
        await workers.run(concurrency=2, listen_notify=False)
    await connector.close_async()
    assert queue.statuses() == {"succeeded": 10}
    assert sorted(ran) == list(range(10))
    assert connector.count["finish_and_fetch_jobs"] >= 3


async def test_an_outcome_is_recorded_although_the_next_job_may_not_be_claimed(
    app: App, workers: Workers, queue: Queue
) -> None:
    """A trigger of the user refuses the start of one job. The outcome and the fetch are undone together."""
    task = app.task(name="task", limit=Limit("one", concurrency=1))(lambda: None)
    free = app.task(name="free")(lambda: None)
    ids = await task.batch_defer_async(*[{}] * 3)
    queue.sql(
        "CREATE FUNCTION refuses() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'this row is under audit' USING ERRCODE = 'P0001'; END $$"
    )
    queue.sql(
        "CREATE TRIGGER refuses BEFORE UPDATE ON procrastinate_jobs FOR EACH ROW "
        f"WHEN (OLD.id = {ids[1]} AND NEW.status = 'doing') EXECUTE FUNCTION refuses()"
    )
    await workers.run(concurrency=1, listen_notify=False)
    assert queue.status(ids[0]) is Status.SUCCEEDED
    assert queue.status(ids[1]) is Status.TODO
    other = await free.defer_async()
    await workers.run(concurrency=1, listen_notify=False)
    assert queue.status(other) is Status.SUCCEEDED
