"""The worker of a running job tells where its code is, without values of variables."""

from __future__ import annotations

import asyncio
import sys
import threading
from typing import Any

import pytest

from procrastinate import exceptions
from procrastinate.app import App
from tests.worker.running import Queue, Workers, until


async def test_a_running_job_tells_where_its_code_is(app: App, workers: Workers, queue: Queue) -> None:
    may_end = threading.Event()

    def deeply(secret: str) -> None:
        may_end.wait(30)

    async def awaited() -> None:
        await asyncio.create_task(asyncio.to_thread(may_end.wait, 30), name="child")

    @app.task(name="sync")
    def sync() -> None:
        deeply("s3cr3t" + "-value")

    @app.task(name="of_loop")
    async def of_loop() -> None:
        await awaited()

    ids = [await sync.defer_async(), await of_loop.defer_async()]
    workers.start(concurrency=2)
    await until(lambda: queue.is_listening() and queue.statuses() == {"doing": 2})
    thread, task = [await app.job_manager.get_stack_async(job_id) for job_id in ids]
    assert thread.text.index("in sync") < thread.text.index("in deeply")
    assert "s3cr3t-value" not in thread.text
    assert task.text.index("in of_loop") < task.text.index("in awaited") < task.text.index("to_thread")
    assert thread.attempt == 1
    assert "job_run.py" not in thread.text + task.text
    may_end.set()
    await queue.succeeded(*ids)
    with pytest.raises(exceptions.NoStack, match="does not run"):
        await app.job_manager.get_stack_async(ids[0])


async def test_a_job_without_an_answer_says_why(app: App) -> None:
    with pytest.raises(exceptions.NoStack, match="There is no job 987654"):
        await app.job_manager.get_stack_async(987_654)


async def test_a_stack_is_refused_while_a_job_waits(app: App) -> None:
    job_id = await app.configure_task("waits").defer_async()
    with pytest.raises(exceptions.NoStack, match="its status is todo"):
        await app.job_manager.get_stack_async(job_id)


async def test_a_stack_that_cannot_be_written_keeps_no_report_of_another_job_back(
    app: App, workers: Workers, queue: Queue
) -> None:
    """The code comes from a file whose name is no Unicode text. Its line cannot be looked up before Python 3.13."""
    may_end = threading.Event()
    odd: dict[str, Any] = {"may_end": may_end}
    exec(compile("def odd():\n    may_end.wait(30)\n", "/\ud83d.py", "exec"), odd)
    app.task(name="odd")(odd["odd"])
    app.task(name="good")(lambda: may_end.wait(30))
    ids = [await app.configure_task(name).defer_async() for name in ("odd", "good")]
    workers.start(concurrency=2)
    await until(lambda: queue.is_listening() and queue.statuses() == {"doing": 2})
    stacks = await asyncio.gather(*(app.job_manager.get_stack_async(job_id) for job_id in ids))
    if sys.version_info < (3, 13):
        assert stacks[0].text == "This stack cannot be written: UnicodeEncodeError"
    else:
        assert stacks[0].text.startswith('  File "/\\ud83d.py", line 2, in odd\n')
    assert "wait" in stacks[1].text
    may_end.set()
    await queue.succeeded(*ids)


async def test_a_report_that_the_database_refuses_keeps_no_other_back(
    app: App, workers: Workers, queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    may_end = threading.Event()
    app.task(name="waits")(lambda: may_end.wait(30))
    refused, *others = [await app.configure_task("waits").defer_async() for _ in range(4)]
    queue.sql(f"ALTER TABLE procrastinate_job_reports ADD CHECK (job_id <> {refused})")
    workers.start(concurrency=4)
    await until(lambda: queue.is_listening() and queue.statuses() == {"doing": 4})
    asked = [app.job_manager.get_stack_async(job_id) for job_id in (refused, *others)]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert isinstance(answers[0], exceptions.NoStack)
    assert all("wait" in str(one) for one in answers[1:])
    assert "The database refused 1 reports of jobs" in caplog.text
    may_end.set()
    await queue.succeeded(refused, *others)
