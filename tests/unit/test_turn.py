"""The turn of promotions: how long a worker waits for it, and when it goes on without."""

from __future__ import annotations

import logging

import pytest

from procrastinate.core import Promotion
from procrastinate.worker.fetch.promotion_turn import PATIENCE, Turn


class Clock:
    """Seconds, set by the test."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def turn(clock: Clock) -> Turn:
    return Turn(logging.getLogger("procrastinate.worker.test"), clock)


def left_to_another(first_due: int | None) -> Promotion:
    """A promotion that was not made, for another session has the turn."""
    return Promotion(promoted=0, again=True, next_due_in=None, undecided=None, had_turn=False, first_due=first_due)


MADE = Promotion(promoted=1, again=False, next_due_in=None)


def wait(turn: Turn, clock: Clock, seconds: float, first_due: int | None) -> None:
    """Another session has the turn for so long, and this job stays the first."""
    end = clock.now + seconds
    while clock.now < end:
        turn.note(left_to_another(first_due))
        clock.now += 0.5
    turn.note(left_to_another(first_due))


def test_a_turn_that_promotes_nothing_is_ignored(turn: Turn, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    wait(turn, clock, PATIENCE - 0.5, first_due=1)
    assert not turn.is_ignored
    wait(turn, clock, 1, first_due=1)
    assert turn.is_ignored
    (record,) = caplog.records
    assert (record.levelname, vars(record)["action"], vars(record)["job_id"]) == (
        "WARNING",
        "promotion_turn_ignored",
        1,
    )


def test_an_ignored_turn_is_logged_once(turn: Turn, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    wait(turn, clock, 10 * PATIENCE, first_due=1)
    for job_id in range(100):
        wait(turn, clock, 10, first_due=job_id)
    assert turn.is_ignored
    assert len(caplog.records) == 1


def test_a_turn_that_promotes_is_waited_for(turn: Turn, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """A backlog takes its time, and many workers contend for the turn."""
    for job_id in range(100):
        wait(turn, clock, PATIENCE / 2, first_due=job_id)
    assert not turn.is_ignored
    assert caplog.records == []


def test_a_turn_is_waited_for_while_nothing_is_due(turn: Turn, clock: Clock) -> None:
    wait(turn, clock, 100, first_due=None)
    assert not turn.is_ignored


def test_a_turn_that_is_free_again_is_taken(turn: Turn, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    wait(turn, clock, 2 * PATIENCE, first_due=1)
    turn.note(MADE)
    assert not turn.is_ignored
    wait(turn, clock, PATIENCE / 2, first_due=1)
    assert not turn.is_ignored
    wait(turn, clock, PATIENCE, first_due=1)
    assert len(caplog.records) == 2
