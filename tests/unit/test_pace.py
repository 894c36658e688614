"""How often a worker looks because it was notified."""

from __future__ import annotations

from procrastinate.worker.fetch.pace import BURST, PER_SECOND, Pace


def looks_in(seconds: float, pace: Pace, *, found: bool = False) -> int:
    """How many looks follow from notifications without a pause, each look as short as can be."""
    now, looks = 1_000.0, 0
    while now < 1_000.0 + seconds:
        now += max(pace.wait(now), 1e-4)
        looks += 1
        if found:
            pace.found()
    return looks


def test_the_first_notifications_are_followed_at_once() -> None:
    pace = Pace()
    assert [pace.wait(5.0) for _ in range(BURST)] == [0.0] * BURST
    assert pace.wait(5.0) > 0


def test_looks_in_vain_are_few_a_second() -> None:
    assert looks_in(10, Pace()) <= BURST + 10 * PER_SECOND + 1


def test_looks_that_find_jobs_are_not_slowed_down() -> None:
    assert looks_in(1, Pace(), found=True) >= 5_000


def test_after_some_silence_notifications_are_followed_at_once_again() -> None:
    pace = Pace()
    for _ in range(10 * BURST):
        pace.wait(5.0)
    assert pace.wait(100.0) == 0.0
