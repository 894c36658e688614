"""Pauses of the services of a worker that fail."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, cast

import pytest

from procrastinate.worker.backoff import Backoff
from procrastinate.worker.services import listener
from procrastinate.worker.services.listener import Listener
from procrastinate.worker.services.supervision import supervise


class CutConnection:
    """A manager whose connection listens for a while, and is cut, again and again."""

    def __init__(self, listens_for: float, times: int) -> None:
        self._listens_for = listens_for
        self._times = times
        self._listened = 0

    async def listen_for_jobs(self, *, on_listening: Callable[[], None], **options: Any) -> None:
        """Listen until cut. The last time, the listener ends."""
        self._listened += 1
        on_listening()
        if self._listened == self._times:
            return
        await asyncio.sleep(self._listens_for)
        raise ConnectionError("cut")


class Parts:
    """The parts of a worker that learn when notifications begin to be heard."""

    def listening(self) -> None: ...

    def ask(self) -> None: ...


async def _pauses(manager: CutConnection, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses, in seconds, that are taken after each cut."""
    taken: list[float] = []
    next_wait = Backoff.next_wait

    def note(self: Backoff, **options: Any) -> float:
        taken.append(next_wait(self, **options))
        return taken[-1]

    monkeypatch.setattr(Backoff, "next_wait", note)
    backoff = Backoff(first=0.02, longest=5)
    manager_, parts = cast("Any", manager), cast("Any", Parts())
    listener = Listener(manager_, None, parts, parts, parts, parts, backoff)
    await supervise("listener", listener.run, logging.getLogger(__name__), backoff)
    return taken


async def test_the_pause_of_a_listener_is_short_again_once_it_has_listened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "STEADY", 0.01)
    pauses = await _pauses(CutConnection(0.02, times=6), monkeypatch)
    assert len(pauses) == 5
    assert max(pauses) <= 0.02


async def test_the_pauses_of_a_listener_grow_where_it_is_cut_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "STEADY", 60)
    pauses = await _pauses(CutConnection(0.0, times=6), monkeypatch)
    assert pauses[-1] >= 0.16
