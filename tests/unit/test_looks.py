"""When a worker promotes again what a promotion has left."""

from __future__ import annotations

import asyncio

from procrastinate.core import Promotion
from procrastinate.worker.fetch.looks import Looks

NEVER = 600.0
SHORTEST = 0.02


def undecided(number: int) -> Promotion:
    return Promotion(promoted=0, again=number > 0, next_due_in=None, undecided=number)


def pause_of(looks: Looks) -> float:
    """Return the seconds until the next look at jobs on which a promotion could not decide."""
    return looks._timers["undecided"].when() - asyncio.get_running_loop().time()


async def grown(looks: Looks, woken: asyncio.Event) -> None:
    """Let four pauses end, and begin the next one."""
    for _ in range(4):
        looks.promoted(undecided(1))
        await woken.wait()
        woken.clear()
    looks.promoted(undecided(1))
    assert looks._timers["undecided"].when() > asyncio.get_running_loop().time() + SHORTEST


async def test_a_pause_grows_when_it_ends_and_not_with_each_promotion() -> None:
    woken = asyncio.Event()
    looks = Looks(woken, longest_pause=NEVER, may_overlook=False)
    for _ in range(20):
        looks.promoted(undecided(1))
    assert pause_of(looks) <= SHORTEST
    await grown(looks, woken)
    looks.close()


async def test_a_further_job_that_is_undecided_begins_with_the_shortest_pause() -> None:
    woken = asyncio.Event()
    looks = Looks(woken, longest_pause=NEVER, may_overlook=False)
    await grown(looks, woken)
    looks.promoted(undecided(2))
    assert pause_of(looks) <= SHORTEST
    looks.close()


async def test_pauses_begin_again_when_everything_was_decided() -> None:
    woken = asyncio.Event()
    looks = Looks(woken, longest_pause=NEVER, may_overlook=False)
    await grown(looks, woken)
    looks.promoted(undecided(0))
    assert "undecided" not in looks._timers
    looks.promoted(undecided(1))
    assert pause_of(looks) <= SHORTEST
    looks.close()
