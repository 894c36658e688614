"""Each kind of limit, for tasks with a lock, a queueing lock, a schedule, a unique key, a retry, a timeout or ticks."""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import datetime
import os
from typing import Any

import pytest

from procrastinate import App, Limit, Rate, Unique
from procrastinate.exceptions import AlreadyEnqueued
from procrastinate.jobs import Status
from tests.worker.running import Queue, Workers, until
from tests.worker.test_limits import LEFT
from tests.worker.test_limits_at_size import LEDGER, MOST

LONG = bool(os.environ.get("PROCRASTINATE_TESTS_LONG"))
JOBS = 400 if LONG else 12
"""How many jobs of each task there are."""
TICKS = Limit("ticks", concurrency=1)
DELAY = 0.5


def key_of(kwargs: dict[str, Any]) -> str:
    """Return one of two keys."""
    return f"key {kwargs['number'] % 2}"


@dataclasses.dataclass(frozen=True)
class Kind:
    """A limit, and the statement that returns how far it was used."""

    limit: Limit
    used: str
    most: int


IN_A_WINDOW = """
SELECT max(number) FROM (
    SELECT count(*) OVER (
        PARTITION BY limit_key ORDER BY at RANGE BETWEEN CURRENT ROW AND interval '0.4999 s' FOLLOWING
    ) AS number
    FROM ledger WHERE change > 0 AND limit_key LIKE 'key %'
) AS counted
"""
OF_A_KEY = MOST.replace("FROM ledger", "FROM ledger WHERE limit_key LIKE 'key %'")
OF_ALL_KEYS = OF_A_KEY.replace("PARTITION BY limit_key ", "")
KINDS = {
    "slots of a key": Kind(Limit("shared", by=key_of, concurrency=3), OF_A_KEY, 3),
    "slots of all keys": Kind(Limit("shared", by=key_of, concurrency=3, total=4), OF_ALL_KEYS, 4),
    "turns": Kind(Limit("shared", by=key_of, fair=True, total=4), OF_ALL_KEYS, 4),
    "a rate": Kind(Limit("shared", by=key_of, rate=Rate(8, per=0.5)), IN_A_WINDOW, 8),
}


class Tasks:
    """The tasks of one limit. They note what runs at once, and in what order."""

    def __init__(self, app: App, limit: Limit) -> None:
        self._limit = limit
        self.running: collections.Counter[str] = collections.Counter()
        self.most: collections.Counter[str] = collections.Counter()
        self.ran: dict[str, list[int]] = collections.defaultdict(list)
        self.plain = self._add(app, "plain")
        self.locked = self._add(app, "locked", lock="one at a time")
        self.queueing = self._add(app, "queueing", queueing_lock=lambda kwargs: f"queueing {kwargs['number']}")
        self.unique = self._add(app, "unique", unique=Unique(until="end"))
        self.scheduled = self._add(app, "scheduled")
        self.retried = self._add(app, "retried", retry=1)
        self.ticks: list[int] = []

        @app.periodic(cron="* * * * * *")
        @app.task(name="tick", limit=TICKS, lock="tick")
        async def tick(timestamp: int) -> None:
            self.ticks.append(timestamp)
            await self._run("tick", timestamp)

    def _add(self, app: App, name: str, **options: Any) -> Any:
        @app.task(name=name, limit=self._limit, timeout=30, **options)
        async def work(number: int) -> None:
            await self._run(name, number)
            if name == "retried" and self.ran[name].count(number) == 1:
                raise ValueError("once more")

        return work

    async def _run(self, name: str, number: int) -> None:
        self.ran[name].append(number)
        self.running[name] += 1
        self.most[name] = max(self.most[name], self.running[name])
        await asyncio.sleep(0.005)
        self.running[name] -= 1

    async def defer(self) -> datetime.datetime:
        """Defer the jobs of each task, and return a time before which no scheduled one may start."""
        calls = [{"number": number} for number in range(JOBS)]
        for task in (self.plain, self.locked, self.queueing, self.unique, self.retried):
            await task.batch_defer_async(*calls)
        due = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=DELAY)
        await self.scheduled.configure(schedule_at=due).batch_defer_async(*calls)
        return due


LEFT_BUT_TICKS = f"{LEFT} AND task_name <> 'tick'"
FIRST_SCHEDULED = """
SELECT min(at) FROM procrastinate_events JOIN procrastinate_jobs ON procrastinate_jobs.id = job_id
WHERE type = 'started' AND task_name = 'scheduled'
"""


@pytest.mark.timeout(300 if LONG else 60)
@pytest.mark.parametrize("prefetch", [True, False], ids=["prefetch", "no prefetch"])
@pytest.mark.parametrize("kind", KINDS)
async def test_a_limit_holds_together_with_every_other_option(
    app: App, workers: Workers, queue: Queue, kind: str, prefetch: bool
) -> None:
    queue.sql(LEDGER)
    tasks = Tasks(app, KINDS[kind].limit)
    due = await tasks.defer()
    for task in (tasks.queueing, tasks.unique):
        with pytest.raises(AlreadyEnqueued):
            await task.defer_async(number=0)
    running = [workers.start(concurrency=10, prefetch=prefetch, fetch_job_polling_interval=0.5) for _ in range(2)]
    while left := queue.sql(LEFT_BUT_TICKS):
        await until(lambda left=left: queue.sql(LEFT_BUT_TICKS) < left)  # type: ignore[misc]
    await until(lambda: len(tasks.ticks) >= 2)
    for one in running:
        await one.stopped()
    names = ("plain", "locked", "queueing", "unique", "scheduled", "retried")
    repeated = {name: sorted(tasks.ran[name]) for name in names}
    each = list(range(JOBS))
    assert repeated == {name: sorted(each * 2) if name == "retried" else each for name in names}
    assert queue.statuses().keys() <= {Status.SUCCEEDED.value, Status.TODO.value}
    assert tasks.most["locked"] == tasks.most["tick"] == 1
    assert 0.75 * KINDS[kind].most <= queue.sql(KINDS[kind].used) <= KINDS[kind].most
    assert queue.sql(FIRST_SCHEDULED) >= due
    assert queue.sql("SELECT bool_and(limit_name IS NOT NULL) FROM procrastinate_jobs")
