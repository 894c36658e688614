"""Where the next fetch goes on, by a clock that the test moves."""

from __future__ import annotations

from procrastinate.core import Rank
from procrastinate.worker.fetch.fetch_cursor import LOOK_INTERVAL, FetchCursor
from tests.unit.recording import make_job


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def fetched(place: FetchCursor, *ids: int, wanted: int = 2, seconds: float = 0.0) -> None:
    """A fetch, where the place says."""
    jobs = [make_job(id=job_id, priority=3) for job_id in ids]
    place.fetched(jobs, wanted=wanted, after=place.after, seconds=seconds)


def test_the_first_fetch_looks_from_the_start() -> None:
    assert FetchCursor().after is None


def test_a_fetch_goes_on_where_a_full_one_ended() -> None:
    place = FetchCursor(clock=Clock())
    fetched(place, 4, 7)
    assert place.after == Rank(priority=3, id=7)
    fetched(place, 8, 9)
    assert place.after == Rank(priority=3, id=9)


def test_a_fetch_that_was_not_full_has_seen_all() -> None:
    place = FetchCursor(clock=Clock())
    fetched(place, 4, wanted=2)
    assert place.after is None
    fetched(place, wanted=2)
    assert place.after is None


def test_now_and_then_it_looks_from_the_start() -> None:
    clock = Clock()
    place = FetchCursor(clock=clock)
    fetched(place, 1, 2)
    clock.now += LOOK_INTERVAL * 0.9
    fetched(place, 3, 4)
    assert place.after is not None
    clock.now += LOOK_INTERVAL * 0.2
    assert place.after is None
    fetched(place, 5, 6)
    assert place.after == Rank(priority=3, id=6)


def test_looks_that_take_long_are_made_less_often() -> None:
    clock = Clock()
    place = FetchCursor(clock=clock)
    fetched(place, 1, 2, seconds=1.0)
    clock.now += 9.9
    assert place.after is not None
    clock.now += 0.2
    assert place.after is None


def test_the_next_fetch_starts_over_when_jobs_have_come_back() -> None:
    place = FetchCursor(clock=Clock())
    fetched(place, 1, 2)
    place.start_over()
    assert place.after is None


def test_a_worker_of_several_queues_always_looks_from_the_start() -> None:
    place = FetchCursor(is_kept=False, clock=Clock())
    fetched(place, 1, 2)
    assert place.after is None
