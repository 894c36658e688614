"""What the tests of workers count as running."""

from __future__ import annotations

import asyncio

from tests.worker.running import pending_tasks


async def _pending_names() -> list[str]:
    return [task.get_name() for task in pending_tasks()]


def test_a_job_that_an_ended_event_loop_has_left_behind_does_not_count_as_running() -> None:
    """Nothing cancels the jobs of a worker that is cancelled twice. Their tasks outlive the event loop of the test."""
    loop = asyncio.new_event_loop()
    left = loop.create_task(asyncio.sleep(600), name="process job task[1]")
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    assert not left.done()
    assert "process job task[1]" not in asyncio.run(_pending_names())
    left.get_coro().close()  # type: ignore[union-attr]
    left._log_destroy_pending = False  # type: ignore[attr-defined]
