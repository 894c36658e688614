"""When an outcome that cannot be written is tried again, and named in the log."""

from __future__ import annotations

import logging

import pytest

from procrastinate.jobs import Job, Status
from procrastinate.worker.delays import Delays
from procrastinate.worker.outcome import Outcome

JOB = Job(id=1, queue="q", lock=None, queueing_lock=None, task_name="task", worker_id=3)
OUTCOME = Outcome(job=JOB, status=Status.SUCCEEDED)


def test_pauses_grow_to_a_second(caplog: pytest.LogCaptureFixture) -> None:
    delays = Delays(logging.getLogger("test"), clock=lambda: 0.0)
    pauses = [delays.next_pause(OUTCOME, "it is locked") for _ in range(20)]
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
        delays.next_pause(OUTCOME, "it is locked")
        if caplog.records:
            said.append(second)
            caplog.clear()
    assert said[:6] == [1, 2, 4, 8, 16, 32]
    assert len(said) < 20


def test_a_written_outcome_is_forgotten() -> None:
    delays = Delays(logging.getLogger("test"), clock=lambda: 0.0)
    for _ in range(20):
        delays.next_pause(OUTCOME, "it is locked")
    delays.forget(OUTCOME)
    assert delays.next_pause(OUTCOME, "it is locked") <= 0.05
