"""The number of prefetched jobs."""

from __future__ import annotations

import pytest

from procrastinate.worker.fetch.prefetch import LONGEST_WAIT, MOST, WINDOW, Prefetch
from tests.unit.recording import make_job


class Clock:
    """A clock that only tests move."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """Return a clock."""
    return Clock()


@pytest.fixture
def prefetch(clock: Clock) -> Prefetch:
    """Return the prefetch of a worker with one slot."""
    return Prefetch(1, clock)


def run_jobs(prefetch: Prefetch, clock: Clock, number: int, lasting: float) -> None:
    """Run `number` jobs of `lasting` seconds, one after the other."""
    for _ in range(number):
        clock.now += lasting
        prefetch.ended(lasting)


def fill(prefetch: Prefetch) -> int:
    """Fetch as many jobs as there is room for, start them all, and return their number."""
    room = prefetch.room()
    prefetch.keep([make_job(id=number) for number in range(room)])
    while prefetch.next() is not None:
        pass
    return room


def warm_up(prefetch: Prefetch, clock: Clock, lasting: float = 0.0001) -> None:
    """Run jobs until the number of prefetched jobs stops growing."""
    run_jobs(prefetch, clock, 10, lasting)
    for _ in range(12):
        fill(prefetch)


def started(prefetch: Prefetch) -> list[int | None]:
    """Return the ids of the prefetched jobs that can start."""
    ids = []
    while (job := prefetch.next()) is not None:
        ids.append(job.id)
    return ids


def test_nothing_is_fetched_ahead_before_some_jobs_have_run(prefetch: Prefetch, clock: Clock) -> None:
    assert prefetch.room() == 0
    run_jobs(prefetch, clock, 4, 0.0001)
    assert prefetch.room() == 0
    run_jobs(prefetch, clock, 1, 0.0001)
    assert prefetch.room() == 1


def test_the_number_of_jobs_fetched_ahead_doubles_while_jobs_are_short(prefetch: Prefetch, clock: Clock) -> None:
    run_jobs(prefetch, clock, 10, 0.00001)
    assert [fill(prefetch) for _ in range(11)] == [1, 2, 4, 8, 16, 32, 64, 128, 256, MOST, MOST]


@pytest.mark.parametrize(("slots", "lasting", "room"), [(1, 0.001, 20), (10, 0.001, 200), (1, 0.02, 1), (1, 0.021, 0)])
def test_no_more_than_is_done_in_a_moment(clock: Clock, slots: int, lasting: float, room: int) -> None:
    prefetch = Prefetch(slots, clock)
    run_jobs(prefetch, clock, 100, lasting)
    for _ in range(12):
        fill(prefetch)
    assert prefetch.room() == pytest.approx(room, abs=room * 0.1)


def test_one_long_job_among_short_ones_ends_it_for_a_while(prefetch: Prefetch, clock: Clock) -> None:
    warm_up(prefetch, clock)
    run_jobs(prefetch, clock, 1, 1.0)
    assert prefetch.room() == 0
    run_jobs(prefetch, clock, 10, 0.0001)
    assert prefetch.room() == 0
    run_jobs(prefetch, clock, 90, 0.0001)
    assert prefetch.room() > 0


def test_while_a_job_takes_long_nothing_is_fetched_to_wait_for_it(prefetch: Prefetch, clock: Clock) -> None:
    warm_up(prefetch, clock)
    assert prefetch.room() > 0
    clock.now += WINDOW * 1.01
    assert prefetch.room() == 0


def test_more_are_fetched_when_half_are_gone(prefetch: Prefetch, clock: Clock) -> None:
    warm_up(prefetch, clock, lasting=0.001)
    window = prefetch.room()
    prefetch.keep([make_job(id=number) for number in range(window)])
    assert prefetch.room() == 0
    for _ in range(window - window // 2):
        prefetch.next()
    assert prefetch.room() == window - window // 2


def test_they_start_by_priority_then_by_id_whenever_they_were_fetched(prefetch: Prefetch) -> None:
    prefetch.keep([make_job(id=3), make_job(id=4)])
    prefetch.keep([make_job(id=5, priority=1), make_job(id=2)])
    assert started(prefetch) == [5, 2, 3, 4]


def test_one_that_has_waited_for_too_long_is_not_started(prefetch: Prefetch, clock: Clock) -> None:
    prefetch.keep([make_job(id=1)])
    clock.now += LONGEST_WAIT * 1.01
    prefetch.keep([make_job(id=2)])
    assert prefetch.longest_wait == pytest.approx(LONGEST_WAIT * 1.01)
    assert prefetch.next() is None
    assert [job.id for job in prefetch.take_all()] == [1, 2]
    assert prefetch.longest_wait == 0


def test_prefetching_starts_again_after_jobs_were_released(prefetch: Prefetch, clock: Clock) -> None:
    warm_up(prefetch, clock)
    prefetch.keep([make_job(id=1)])
    prefetch.take_all()
    assert prefetch.room() == 0
    run_jobs(prefetch, clock, 5, 0.0001)
    assert prefetch.room() == 1


def test_a_job_can_be_taken_out(prefetch: Prefetch) -> None:
    prefetch.keep([make_job(id=1), make_job(id=2)])
    taken = prefetch.take(1)
    assert taken is not None
    assert taken.id == 1
    assert prefetch.take(1) is None
    assert prefetch.ids == {2}


def test_the_jobs_of_some_queues_are_taken_and_the_others_stay(prefetch: Prefetch) -> None:
    mail, other = make_job(id=1, queue="mail"), make_job(id=2, queue="other")
    prefetch.keep([mail, other])
    assert prefetch.take_of({"mail"}) == [mail]
    assert prefetch.ids == {2}
