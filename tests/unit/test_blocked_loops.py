"""The event loop of a worker is blocked if it had no turn between two heartbeats."""

from __future__ import annotations

import pytest

from procrastinate.core.blocked_loops import seconds_blocked


@pytest.mark.parametrize("interval", [0.5, 5.0, 10.0, 60.0, None])
def test_a_loop_that_turns_is_one_heartbeat_late_and_not_blocked(interval: float | None) -> None:
    assert seconds_blocked(interval or 10.0, interval) is None


@pytest.mark.parametrize(("lag", "interval"), [(21.0, 10.0), (21.0, None), (3.0, 1.0)])
def test_a_loop_without_a_turn_for_two_heartbeats_is_blocked(lag: float, interval: float | None) -> None:
    assert seconds_blocked(lag, interval) == lag


def test_a_worker_of_an_older_release_does_not_say_whether_its_loop_turns() -> None:
    assert seconds_blocked(None, None) is None
