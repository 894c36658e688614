"""Waiting before trying again."""

from __future__ import annotations

import logging
import random

import pytest

from procrastinate.exceptions import ConnectorException, DatabaseUnavailable
from procrastinate.worker import backoff


@pytest.fixture
def without_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "uniform", lambda low, high: high)


@pytest.mark.usefixtures("without_chance")
def test_waits_double_up_to_ten_seconds_and_start_again_after_success() -> None:
    waits = backoff.Backoff()
    assert [waits.next_wait() for _ in range(9)] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10, 10]
    waits.reset()
    assert waits.next_wait() == 0.1


def test_waits_differ_so_that_workers_do_not_come_back_together() -> None:
    first = [backoff.Backoff().next_wait() for _ in range(20)]
    assert all(0.05 <= wait <= 0.1 for wait in first)
    assert len(set(first)) > 1


def test_the_waits_of_an_outage_grow_less() -> None:
    waits = backoff.Backoff()
    assert max(waits.next_wait(is_outage=True) for _ in range(20)) <= backoff.LONGEST_IN_OUTAGE


@pytest.mark.usefixtures("without_chance")
def test_an_error_says_itself_whether_it_is_an_outage() -> None:
    waits = {kind: backoff.Backoff(first=60) for kind in (DatabaseUnavailable, ConnectorException)}
    assert [waits[kind].wait_after(kind()) for kind in waits] == [backoff.LONGEST_IN_OUTAGE, 10]


def test_an_error_that_comes_again_and_again_is_a_warning_now_and_then() -> None:
    repeats = backoff.Repeats()
    same, other = ValueError("same"), ValueError("other")
    levels = [repeats.level(error, now) for error, now in ((same, 0.0), (same, 5.0), (other, 6.0), (other, 16.0))]
    assert levels == [logging.WARNING, logging.DEBUG, logging.WARNING, logging.WARNING]
