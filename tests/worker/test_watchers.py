"""A fleet in which a few workers look after the others."""

from __future__ import annotations

import pytest

from procrastinate.app import App
from procrastinate.core import Status
from procrastinate.core.watchers import MOST_WATCHERS
from procrastinate.worker.services import watch_duty
from tests.worker.running import Queue, Workers, until

INTERVAL = 0.2
HOURS = 100_000


class Watchers:
    """Rows of as many workers as may be watchers, before any real worker. They live while the test keeps them alive."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue

    def register(self) -> None:
        """Add them, of the release of the worker that is there."""
        self._queue.sql(
            "INSERT INTO procrastinate_workers (id, heartbeat_interval, version, state, loop_beat_at) "
            "SELECT worker.id - n, :interval, worker.version, 'running', now() "
            "FROM procrastinate_workers worker, generate_series(1, :watchers) n",
            interval=INTERVAL,
            watchers=MOST_WATCHERS,
        )

    def keep_alive(self) -> None:
        values = "last_heartbeat = now(), loop_beat_at = now()"
        self._queue.sql(f"UPDATE procrastinate_workers SET {values} WHERE name IS NULL")  # noqa: S608

    def sign_off(self) -> None:
        self._queue.sql("DELETE FROM procrastinate_workers WHERE name IS NULL")

    async def while_the_worker_beats(self, times: int) -> None:
        """Keep them alive until the worker has sent this number of heartbeats."""
        for _ in range(times):
            before = self._last_heartbeat()
            await until(lambda before=before: self._last_heartbeat() != before)

    def _last_heartbeat(self) -> object:
        self.keep_alive()
        return self._queue.sql("SELECT last_heartbeat FROM procrastinate_workers WHERE name IS NOT NULL")


@pytest.fixture
async def watchers(app: App, workers: Workers, queue: Queue) -> Watchers:
    """Enough watchers, and a worker that knows of them: the answer to a heartbeat comes before the next one."""
    app.task(name="task")(lambda: None)
    await workers.listening(queue, update_heartbeat_interval=INTERVAL, stalled_worker_timeout=60.0)
    watchers = Watchers(queue)
    watchers.register()
    await watchers.while_the_worker_beats(2)
    return watchers


async def orphan(app: App, queue: Queue) -> int:
    """Return the id of a job whose worker is gone. No worker is notified of it."""
    job_id = await app.configure_task("task", schedule_in={"hours": 1}).defer_async()
    orphaned = "status = 'doing', worker_id = -1, scheduled_at = NULL"
    queue.sql(f"UPDATE procrastinate_jobs SET {orphaned} WHERE id = :id", id=job_id)  # noqa: S608
    return job_id


async def test_a_worker_leaves_orphaned_jobs_to_the_watchers_and_follows_them(
    app: App, queue: Queue, watchers: Watchers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch_duty, "REST", HOURS)
    await watchers.while_the_worker_beats(1)
    job_id = await orphan(app, queue)
    await watchers.while_the_worker_beats(4)
    assert queue.status(job_id) is Status.DOING
    watchers.sign_off()
    await queue.succeeded(job_id)


async def test_a_worker_rescues_jobs_that_the_watchers_leave_alone(app: App, queue: Queue, watchers: Watchers) -> None:
    job_id = await orphan(app, queue)

    def is_run() -> bool:
        watchers.keep_alive()
        return queue.status(job_id) is Status.SUCCEEDED

    await until(is_run)
