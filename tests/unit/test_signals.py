"""How many stop signals have come."""

from __future__ import annotations

import signal

from procrastinate.worker.processes.signals import SignalCount


class Clock:
    """Moved by the test."""

    now = 100.0

    def __call__(self) -> float:
        """Return the time in seconds."""
        return self.now


def test_the_same_signal_within_half_a_second_counts_once() -> None:
    clock = Clock()
    count = SignalCount(clock)
    assert count.add(signal.SIGINT) == 1
    clock.now += 0.4
    assert count.add(signal.SIGINT) == 0
    clock.now += 0.2
    assert count.add(signal.SIGINT) == 2


def test_each_signal_that_counts_begins_another_half_second() -> None:
    clock = Clock()
    count = SignalCount(clock)
    assert count.add(signal.SIGINT) == 1
    clock.now += 1
    assert count.add(signal.SIGINT) == 2
    assert count.add(signal.SIGINT) == 0


def test_another_signal_counts_at_once() -> None:
    count = SignalCount(Clock())
    assert [count.add(signal.SIGINT), count.add(signal.SIGTERM)] == [1, 2]


def test_a_signal_that_comes_with_the_stop_of_the_supervisor_repeats_it() -> None:
    clock = Clock()
    count = SignalCount(clock)
    count.note_stop()
    assert count.add(signal.SIGTERM) == 0
    clock.now += 1
    assert count.add(signal.SIGTERM) == 2


def test_the_stop_of_the_supervisor_that_comes_after_a_signal_repeats_it() -> None:
    clock = Clock()
    count = SignalCount(clock)
    count.add(signal.SIGTERM)
    clock.now += 1
    count.note_stop()
    assert count.add(signal.SIGTERM) == 2
