"""For how long the jobs of an unknown task wait."""

from __future__ import annotations

from procrastinate.worker.run.unknown_tasks import Leave, UnknownTasks


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_the_first_job_waits_shortly_and_is_the_first() -> None:
    unknown = UnknownTasks(3600)
    assert unknown.meet("a", 1) == Leave(pause=5.0, is_first=True)
    assert unknown.meet("b", 1) == Leave(pause=5.0, is_first=True)


def test_the_pause_grows_with_the_time_and_is_bounded() -> None:
    clock = Clock()
    unknown = UnknownTasks(3600, clock)
    unknown.meet("a", 1)
    pauses = []
    for elapsed in (1, 5, 40, 299, 301, 3599):
        clock.now = 1000.0 + elapsed
        leave = unknown.meet("a", 1)
        assert leave is not None
        assert not leave.is_first
        pauses.append(leave.pause)
    assert pauses == [5, 5, 40, 299, 300, 300]


def test_jobs_fail_after_the_timeout_and_with_none_at_once() -> None:
    clock = Clock()
    unknown = UnknownTasks(60, clock)
    unknown.meet("a", 1)
    clock.now += 60
    assert unknown.meet("a", 1) is None
    assert unknown.meet("b", 1) is not None
    assert UnknownTasks(0).meet("a", 1) is None


def test_names_that_rows_make_up_do_not_fill_the_memory() -> None:
    unknown = UnknownTasks(3600)
    left = [unknown.meet(str(number), 1) for number in range(5000)]
    assert sum(leave is not None for leave in left) == 1000
    assert unknown.meet("0", 1) is not None


def test_a_newer_job_after_a_time_without_any_waits_as_the_first_one_did() -> None:
    """A release is rolled back and comes again, next to the same old worker."""
    clock = Clock()
    unknown = UnknownTasks(3600, clock)
    unknown.meet("a", 1)
    clock.now += 86400
    assert unknown.meet("a", 2) == Leave(pause=5.0, is_first=True)
    clock.now += 60
    assert unknown.meet("a", 3) == Leave(pause=60.0, is_first=False)


def test_a_job_that_waits_next_to_many_workers_fails_although_each_seldom_meets_it() -> None:
    clock = Clock()
    unknown = UnknownTasks(3600, clock)
    unknown.meet("a", 1)
    clock.now += 86400
    assert unknown.meet("a", 1) is None
    clock.now += 60
    assert unknown.meet("a", 2) is None


def test_names_that_come_no_more_make_room_for_others() -> None:
    clock = Clock()
    unknown = UnknownTasks(3600, clock)
    for number in range(1000):
        unknown.meet(str(number), 1)
    assert unknown.meet("a", 1) is None
    clock.now += 86400
    assert unknown.meet("a", 1) == Leave(pause=5.0, is_first=True)
