"""What needs a thread does without one while the system refuses it, and has one later."""

from __future__ import annotations

import threading
import time

from procrastinate._long_waits import told_by_thread
from procrastinate.adapters.connections.timer_thread import Alarms
from procrastinate.manager.waiting import FinishedListener
from procrastinate.testing import InMemoryConnector
from tests.no_threads import no_threads


def test_a_timer_that_got_no_thread_rings_with_the_next_one() -> None:
    """A worker cuts connections by these timers, if the database does not answer."""
    alarms, first, second = Alarms(), threading.Event(), threading.Event()
    with no_threads():
        alarms.call_later(0.0, first.set)
    assert not first.is_set()
    alarms.call_later(0.0, second.set)
    assert first.wait(30)
    assert second.wait(30)


def test_a_block_that_would_tell_of_a_long_wait_runs_without_the_thread() -> None:
    with no_threads(), told_by_thread(lambda waited: None):
        pass


def _listens() -> bool:
    return any(thread.name == "procrastinate wait" for thread in threading.enumerate())


def test_a_wait_that_got_no_thread_polls_and_the_next_one_listens() -> None:
    listener = FinishedListener(InMemoryConnector)
    with no_threads(), listener.ringing(1, lambda: None):
        assert not _listens()
    with listener.ringing(1, lambda: None):
        assert _listens()
    end = time.monotonic() + 30
    while _listens():
        assert time.monotonic() < end
        time.sleep(0.01)
