"""The thread that listens for the ends of jobs, for all waits of a process."""

from __future__ import annotations

import threading

import pytest

from procrastinate.connector import BaseConnector
from procrastinate.manager.waiting import FinishedListener
from procrastinate.testing import InMemoryConnector


def test_a_wait_without_a_thread_goes_on_and_the_next_one_gets_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    listened = threading.Event()

    def make_connector() -> BaseConnector:
        listened.set()
        return InMemoryConnector()

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    listener = FinishedListener(make_connector)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with listener.ringing(1, lambda: None):
            assert not listened.is_set()
    with listener.ringing(2, lambda: None):
        assert listened.wait(30)
