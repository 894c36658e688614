"""When a worker looks after the others."""

from __future__ import annotations

import asyncio

from procrastinate.worker.services.watch_duty import REST, WatchDuty

MINUTE = 60.0
SHORT = 0.001


async def test_a_worker_that_has_heard_nothing_looks_at_each_interval() -> None:
    async with asyncio.timeout(MINUTE):
        await WatchDuty(SHORT).until_next_look(SHORT)


async def test_the_wait_of_a_worker_ends_when_it_becomes_a_watcher() -> None:
    duty = WatchDuty(SHORT)
    duty.learn(is_watcher=False)
    waiting = asyncio.ensure_future(duty.until_next_look(SHORT))
    await asyncio.sleep(0)
    duty.learn(is_watcher=True)
    async with asyncio.timeout(MINUTE):
        await waiting


async def test_a_worker_that_never_becomes_a_watcher_looks_at_the_tenth_interval() -> None:
    duty = WatchDuty(interval := 0.02)
    duty.learn(is_watcher=False)
    began = asyncio.get_running_loop().time()
    await duty.until_next_look(interval)
    assert asyncio.get_running_loop().time() - began >= interval * (REST - 1)


async def test_a_worker_that_is_no_watcher_goes_on_with_several_looks() -> None:
    """A worker that it watches may be dead before its next interval."""
    duty = WatchDuty(MINUTE)
    duty.learn(is_watcher=False)
    async with asyncio.timeout(MINUTE):
        await duty.until_next_look(SHORT)
