"""When an outcome that cannot be written is tried again, and named in the log."""

from __future__ import annotations

import logging

import pytest

from procrastinate.jobs import Job, Status
from procrastinate.worker.run.outcome import Outcome
from procrastinate.worker.run.outcome_delays import Delays

JOB = Job(id=1, queue="q", lock=None, queueing_lock=None, task_name="task", worker_id=3)
OUTCOME = Outcome(job=JOB, status=Status.SUCCEEDED)


def test_pauses_grow_to_a_second(caplog: pytest.LogCaptureFixture) -> None:
    delays = Delays(logging.getLogger("test"), clock=lambda: 0.0)
    pauses = [delays.after_lock(OUTCOME) for _ in range(20)]
    assert pauses[0] <= 0.05
    assert 0.5 <= pauses[-1] <= 1.0
    assert caplog.records == []


def test_the_log_names_an_outcome_after_a_second_and_then_more_and_more_rarely(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = [0.0]
    delays = Delays(logging.getLogger("test"), clock=lambda: now[0])
    said = []
    for second in range(3600):
        now[0] = float(second)
        delays.after_lock(OUTCOME)
        if caplog.records:
            said.append(second)
            caplog.clear()
    assert said[:6] == [1, 2, 4, 8, 16, 32]
    assert len(said) < 20


def test_a_written_outcome_is_forgotten() -> None:
    delays = Delays(logging.getLogger("test"), clock=lambda: 0.0)
    for _ in range(20):
        delays.after_lock(OUTCOME)
    delays.forget(OUTCOME.run)
    assert delays.after_lock(OUTCOME) <= 0.05


def test_a_worker_that_stops_gives_up_an_outcome_that_is_refused_five_times() -> None:
    delays = Delays(logging.getLogger("test"), clock=lambda: 0.0)
    given_up = []
    for _ in range(6):
        delays.after_refusal(OUTCOME, ValueError("no"))
        given_up.append(delays.is_given_up(OUTCOME.run))
    assert given_up == [False, False, False, False, True, True]


def test_a_worker_that_stops_waits_for_an_outcome_whose_row_is_locked() -> None:
    delays = Delays(logging.getLogger("test"), clock=lambda: 0.0)
    delays.after_final_refusal(OUTCOME)
    assert delays.is_given_up(OUTCOME.run)
    delays.after_lock(OUTCOME)
    assert not delays.is_given_up(OUTCOME.run)
