"""Jobs that are released together, and the moments at which another thread or an error comes between."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from procrastinate import core
from procrastinate.worker.fetch import release
from procrastinate.worker.fetch.noticeboard import Noticeboard
from procrastinate.worker.fetch.release import Releaser
from tests.unit.recording import make_job


class _Manager:
    """Releases all jobs, and keeps what it was asked for."""

    def __init__(self) -> None:
        self.released: list[tuple[float | None, list[int]]] = []

    async def release_jobs(
        self, fetched: list[core.FetchedJob], *, worker_id: int, delay: float | None = None
    ) -> dict[int, core.Status]:
        self.released.append((delay, [job.id for job in fetched]))
        return {job.id: core.Status.TODO for job in fetched}


@pytest.fixture
def manager() -> _Manager:
    return _Manager()


@pytest.fixture
def board() -> Noticeboard:
    return Noticeboard(worker_id=1)


@pytest.fixture
def releaser(manager: _Manager, board: Noticeboard) -> Releaser:
    return Releaser(manager, board, logging.getLogger(__name__))  # type: ignore[arg-type]


def gather(releaser: Releaser, *delays: float) -> None:
    for number, delay in enumerate(delays, start=1):
        releaser.release_later(make_job(id=number, worker_id=1), delay)


async def test_jobs_of_one_delay_are_released_in_one_statement(
    releaser: Releaser, manager: _Manager, board: Noticeboard
) -> None:
    gather(releaser, 5, 4.2, 9)
    assert (releaser.ids, releaser.is_under_way, manager.released) == ({1, 2, 3}, True, [])
    await board.woken.wait()
    assert manager.released == [(5, [1, 2]), (9, [3])]
    assert (releaser.ids, releaser.is_under_way, board.read().starts_over) == (set(), False, True)


async def test_the_end_of_the_worker_waits_for_jobs_that_are_gathered(releaser: Releaser, manager: _Manager) -> None:
    gather(releaser, 5)
    await releaser.finish(1)
    await asyncio.sleep(2 * release._GATHERING)
    assert manager.released == [(5, [1])]


async def test_a_thread_finds_a_gathered_job_at_each_moment(releaser: Releaser) -> None:
    """A thread may ask between any two statements, and while the program's factory of asyncio tasks runs."""
    seen: list[tuple[set[int], bool]] = []

    def factory(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> asyncio.Task[Any]:
        seen.append((releaser.ids, releaser.is_under_way))
        return asyncio.Task(coro, loop=loop, **options)

    gather(releaser, 5)
    asyncio.get_running_loop().set_task_factory(factory)
    await releaser.finish(1)
    assert seen[0] == ({1}, True)


async def test_a_factory_of_tasks_that_raises_leaves_the_jobs_to_the_next_look(
    releaser: Releaser, board: Noticeboard, manager: _Manager
) -> None:
    def factory(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> asyncio.Task[Any]:
        coro.close()
        raise RuntimeError

    gather(releaser, 5)
    asyncio.get_running_loop().set_task_factory(factory)
    await board.woken.wait()
    asyncio.get_running_loop().set_task_factory(None)
    assert (releaser.ids, manager.released, board.read().is_in_doubt) == (set(), [], True)
