"""The watch of the event loop, and who gets a prefetched job when it wakes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest

from procrastinate.worker.fetch.prefetch import Prefetch
from procrastinate.worker.services import loop_watch
from procrastinate.worker.services.loop_watch import LoopWatch
from tests.unit.recording import make_job


class Jobs:
    """Whether jobs are there."""

    def __init__(self) -> None:
        self.are_there = True
        self.asked = asyncio.Event()

    def __call__(self) -> bool:
        self.asked.set()
        return self.are_there


@pytest.fixture
def jobs() -> Jobs:
    """Some are there."""
    return Jobs()


@pytest.fixture
async def watch(jobs: Jobs) -> AsyncIterator[LoopWatch]:
    """One whose thread has not started. It ends with the test."""
    watch = LoopWatch()
    yield watch
    watch.stop()
    await watch.join(5)


async def test_a_blocked_loop_is_noticed_again_and_again_at_growing_intervals(watch: LoopWatch, jobs: Jobs) -> None:
    calls: list[float] = []
    second = threading.Event()

    def note(seconds: float) -> None:
        calls.append(seconds)
        if len(calls) == 2:
            second.set()

    watch.start(note, jobs)
    watch.begin()
    assert second.wait(30)
    assert calls == [1.25, 2.5]


async def test_a_loop_that_goes_on_is_not_blocked(
    watch: LoopWatch, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop_watch, "TURN_EVERY", 0.01)
    calls: list[float] = []
    watch.start(calls.append, jobs)
    watch.begin()
    await asyncio.sleep(loop_watch.LOOK_EVERY * (loop_watch.PATIENCE + 1))
    assert calls == []


async def test_without_jobs_the_loop_has_no_timer_and_is_not_taken_for_blocked(watch: LoopWatch, jobs: Jobs) -> None:
    calls: list[float] = []
    jobs.are_there = False
    watch.start(calls.append, jobs)
    watch.begin()
    await jobs.asked.wait()
    assert watch._timer is None
    threading.Event().wait(loop_watch.LOOK_EVERY * (loop_watch.PATIENCE + 1))
    assert calls == []


async def test_a_watch_that_was_stopped_does_not_begin_again(watch: LoopWatch, jobs: Jobs) -> None:
    watch.start(lambda seconds: None, jobs)
    watch.stop()
    watch.begin()
    await watch.join(5)
    assert watch._timer is None


def test_a_job_that_the_loop_starts_just_then_is_not_released() -> None:
    """The other thread comes in the middle of the decision to start a job."""
    released: list[int | None] = []
    threads: list[threading.Thread] = []

    def release() -> None:
        released.extend(job.id for job in prefetch.begin_release())

    def clock() -> float:
        if is_starting and not threads:
            threads.append(threading.Thread(target=release))
            threads[0].start()
            threads[0].join(0.2)
        return 0.0

    is_starting = False
    prefetch = Prefetch(1, clock)
    prefetch.keep(make_job(id=job_id) for job_id in (1, 2, 3))
    is_starting = True
    job = prefetch.next()
    threads[0].join()
    assert job is not None
    assert (job.id, released) == (1, [2, 3])
    assert prefetch.next() is None


def test_jobs_count_as_held_until_their_release_has_ended() -> None:
    prefetch = Prefetch(1)
    prefetch.keep(make_job(id=job_id) for job_id in (1, 2))
    prefetch.begin_release()
    prefetch.extend_release([3])
    assert prefetch.ids == {1, 2, 3}
    assert prefetch.is_leaving
    prefetch.end_release()
    assert prefetch.ids == set()
    assert not prefetch.is_leaving
