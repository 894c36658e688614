"""A wait that lasts says what it is for."""

from __future__ import annotations

import asyncio
import threading

import pytest

from procrastinate import _long_waits
from procrastinate._long_waits import Silence


def test_silences_double() -> None:
    silence = Silence(first=1.0)
    assert [second for second in range(100) if silence.is_over(second)] == [1, 2, 4, 8, 16, 32, 64]


def test_no_silence_is_longer_than_ten_minutes() -> None:
    silence = Silence(first=1.0)
    said = [second for second in range(10_000) if silence.is_over(second)]
    assert said[-1] - said[-2] == _long_waits.LONGEST_SILENCE


async def test_a_wait_that_lasts_is_told_again_and_again() -> None:
    told = asyncio.Queue[float]()
    with _long_waits.told(told.put_nowait, first=0.01):
        first, second = await told.get(), await told.get()
    assert 0.01 <= first < second


async def test_a_short_wait_is_not_told() -> None:
    told = list[float]()
    with _long_waits.told(told.append, first=0.01):
        pass
    await asyncio.sleep(0.05)
    assert told == []


async def test_an_error_of_the_log_does_not_end_a_wait() -> None:
    called = asyncio.Queue[None]()

    def fail(waited: float) -> None:
        called.put_nowait(None)
        raise OSError(waited)

    with _long_waits.told(fail, first=0.01):
        await called.get()
        await called.get()


def test_a_wait_that_blocks_is_told_by_a_thread() -> None:
    told = threading.Event()
    with _long_waits.told_by_thread(lambda waited: told.set(), first=0.01):
        assert told.wait(30)


def test_a_wait_goes_on_untold_if_no_thread_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    waited = False
    with _long_waits.told_by_thread(lambda seconds: None, first=0.01):
        waited = True
    assert waited
