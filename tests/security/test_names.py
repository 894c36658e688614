"""Names of queues, tasks, locks and channels are values and never SQL, whatever characters they contain."""

from __future__ import annotations

import asyncio

import pytest
import sqlalchemy as sa

from procrastinate import core
from procrastinate.app import App
from procrastinate.core import channels
from tests.database import libpq_url
from tests.worker.running import DEADLINE

NAMES = [
    "'; DROP TABLE procrastinate_jobs; --",
    '"; DROP TABLE procrastinate_jobs; --',
    "$$; DROP TABLE procrastinate_jobs; $$",
    "a%sb%(c)s{d}:e\\",
    "a\nb\tc\x01",
    "Ünïcödé ✓ 💥",
    "q" * 40,
    "q" * 41,
    "é" * 20,
    "é" * 21,
    "💥" * 128,
    " q ",
]


@pytest.mark.parametrize("name", NAMES)
async def test_a_job_passes_whatever_its_names_are(database_url: str, connection: sa.Connection, name: str) -> None:
    """The job is deferred, announced on its queue's channel (63 bytes at most), run, listed and counted."""
    app = App(connector=libpq_url(database_url))
    ran = asyncio.Event()
    app.task(name=name, queue=name)(lambda a: ran.set())
    async with app.open_async():
        options = {"queues": [name], "fetch_job_polling_interval": 600, "install_signal_handlers": False}
        worker = asyncio.create_task(app.run_worker_async(**options))
        await _is_listening(connection)
        await app.configure_task(name, lock=name, queueing_lock=name).defer_async(a=name)
        async with asyncio.timeout(DEADLINE):
            await ran.wait()
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)
        (job,) = await app.job_manager.list_jobs_async(queue=name, task=name, lock=name, queueing_lock=name)
        assert (job.queue, job.task_name, job.task_kwargs, job.status) == (name, name, {"a": name}, "succeeded")
        assert [row["name"] for row in await app.job_manager.list_queues_async(task=name)] == [name]


async def _is_listening(connection: sa.Connection) -> None:
    listening = sa.text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query ~ '^LISTEN'"
    )
    async with asyncio.timeout(DEADLINE):
        while not connection.execute(listening).scalar():  # noqa: ASYNC110 - no event says when a session listens
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("name", NAMES)
def test_a_channel_is_at_most_63_bytes_and_the_same_in_python_and_in_the_database(
    connection: sa.Connection, name: str
) -> None:
    channel = channels.queue_channel(name)
    assert len(channel.encode()) <= 63
    assert connection.execute(sa.text("SELECT procrastinate_queue_channel(:name)"), {"name": name}).scalar() == channel


def test_no_statement_is_made_of_a_name(engine: sa.Engine) -> None:
    """Statements for different names differ only in their parameters."""
    sent: list[str] = []
    sa.event.listen(engine, "before_cursor_execute", lambda *args: sent.append(args[2]))
    for name in ("a", NAMES[0]):
        with engine.begin() as connection:
            job = core.NewJob(queue_name=name, task_name=name, args="{}", lock=name, queueing_lock=name)
            assert core.defer_job(connection, job)
            core.fetch_jobs(connection, worker_id=1, limit=1, queues=[name])
            core.fetch_jobs(connection, worker_id=1, limit=1, queues=[name, "b"])
            core.list_jobs(connection, core.JobFilter(queue_name=name, task_name=name, lock=name))
    assert sent[: len(sent) // 2] == sent[len(sent) // 2 :]
