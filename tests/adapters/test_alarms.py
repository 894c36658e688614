"""Functions that are called later, from one thread."""

from __future__ import annotations

import os
import queue
import sys
import threading

import pytest

from procrastinate.adapters.connections.timer_thread import Alarms, call_later


def test_they_are_called_in_the_order_of_their_times_by_one_thread() -> None:
    """An earlier one that comes later is not late."""
    alarms, called = Alarms(), queue.SimpleQueue[tuple[str, int]]()

    def call(name: str) -> None:
        called.put((name, threading.get_ident()))

    alarms.call_later(0.2, lambda: call("second"))
    alarms.call_later(0.05, lambda: call("first"))
    alarms.call_later(0.3, lambda: call("third"))
    rung = [called.get(timeout=10) for _ in range(3)]
    assert [name for name, _ in rung] == ["first", "second", "third"]
    assert len({thread for _, thread in rung} - {threading.get_ident()}) == 1


def test_one_that_was_cancelled_is_not_called() -> None:
    """The others are."""
    alarms, called = Alarms(), queue.SimpleQueue[str]()
    alarms.call_later(0.01, lambda: called.put("cancelled")).cancel()
    alarms.call_later(0.02, lambda: called.put("kept"))
    assert called.get(timeout=10) == "kept"
    assert called.empty()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_has_a_thread_of_its_own() -> None:
    """That of its parent is not there."""
    rung = threading.Event()
    call_later(0.01, rung.set)
    assert rung.wait(10)
    child = os.fork()
    if child == 0:
        rung.clear()
        call_later(0.01, rung.set)
        os._exit(0 if rung.wait(10) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_thread_that_cannot_be_started_is_started_with_a_later_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    alarms, called = Alarms(), queue.SimpleQueue[str]()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        alarms.call_later(0.01, lambda: called.put("first"))
    alarms.call_later(0.02, lambda: called.put("second"))
    assert [called.get(timeout=10) for _ in range(2)] == ["first", "second"]


def test_a_function_that_raises_ends_no_other_timer() -> None:
    alarms, called = Alarms(), queue.SimpleQueue[str]()

    def fail() -> None:
        called.put("raises")
        raise ValueError

    alarms.call_later(0.01, fail)
    alarms.call_later(0.02, lambda: called.put("second"))
    assert [called.get(timeout=10) for _ in range(2)] == ["raises", "second"]


def test_a_timer_that_fails_stops_no_later_one(caplog: pytest.LogCaptureFixture) -> None:
    """A worker cuts connections by these timers, if the database does not answer."""
    alarms, called = Alarms(), threading.Event()
    alarms.call_later(0.0, lambda: sys.exit("no"))
    alarms.call_later(0.01, called.set)
    assert called.wait(30)
    assert "timer_failed" in [vars(record).get("action") for record in caplog.records]
