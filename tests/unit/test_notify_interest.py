"""When a worker calls for jobs, and when it stops, against a queue that answers at once."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from procrastinate import core
from procrastinate.exceptions import ConnectorException
from procrastinate.manager import JobManager
from procrastinate.worker.fetch import notify_interest
from procrastinate.worker.fetch.noticeboard import Noticeboard
from procrastinate.worker.fetch.notify_interest import NotifyInterest


class Answers:
    """Remembers what a worker has said."""

    def __init__(self) -> None:
        self.said: list[object] = []
        self.is_settled = True
        self.is_registered = True
        self.answers_are_lost = False

    async def start_waiting(self, *, worker_id: int, queues: object) -> core.Waiting | None:
        self.said.append((worker_id, queues))
        self._lose_answer()
        return core.Waiting(unaware_before=10, is_settled=self.is_settled) if self.is_registered else None

    async def stop_waiting(self, *, worker_id: int) -> None:
        self.said.append((worker_id, "stop"))
        self._lose_answer()

    def _lose_answer(self) -> None:
        if self.answers_are_lost:
            raise ConnectorException

    async def have_ended_before(self, *, transaction: int) -> bool:
        self.said.append(transaction)
        return self.is_settled


class Worker:
    """The worker, of which the id may change."""

    def __init__(self, *, listens: bool = True) -> None:
        self.answers = Answers()
        self.board = Noticeboard(1)
        self.call = NotifyInterest(cast("JobManager", self.answers), self.board, ("q",), listens=listens)

    async def wakes(self) -> None:
        async with asyncio.timeout(30):
            await self.board.woken.wait()
        self.board.woken.clear()


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that works has enough to do at once, and one that finds nothing pauses at once."""
    monkeypatch.setattr(notify_interest, "BUSY_AFTER", 0.0)
    monkeypatch.setattr(notify_interest, "PAUSE", 0.0)


async def test_an_idle_worker_calls_once_and_looks_once_more() -> None:
    worker = Worker()
    assert await worker.call.idle()
    assert not await worker.call.idle()
    assert worker.answers.said == [(1, ("q",))]
    assert worker.call.is_made


async def test_a_worker_that_works_goes_on_calling_for_a_while() -> None:
    worker = Worker()
    await worker.call.idle()
    await worker.call.busy(has_room=False)
    assert worker.call.is_made
    await worker.wakes()
    await worker.call.busy(has_room=False)
    assert not worker.call.is_made
    assert worker.answers.said == [(1, ("q",)), (1, "stop")]


@pytest.mark.usefixtures("at_once")
async def test_a_busy_worker_stops_calling_once_and_calls_again_when_it_is_idle() -> None:
    worker = Worker()
    await worker.call.busy(has_room=False)
    await worker.call.busy(has_room=False)
    assert worker.answers.said == [(1, "stop")]
    assert await worker.call.idle()
    assert worker.answers.said == [(1, "stop"), (1, ("q",))]


@pytest.mark.usefixtures("at_once")
async def test_under_a_new_id_nothing_has_been_said() -> None:
    worker = Worker()
    await worker.call.idle()
    worker.board.worker_id = 2
    assert await worker.call.idle()
    assert worker.answers.said == [(1, ("q",)), (2, ("q",))]
    await worker.call.busy(has_room=False)
    worker.board.worker_id = 3
    assert worker.call.is_made
    await worker.call.busy(has_room=False)
    assert worker.answers.said[2:] == [(2, "stop"), (3, "stop")]


async def test_an_empty_fetch_between_two_jobs_is_no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notify_interest, "BUSY_AFTER", 0.0)
    monkeypatch.setattr(notify_interest, "PAUSE", 60.0)
    worker = Worker()
    await worker.call.busy(has_room=False)
    assert worker.call.looks_by_itself
    assert not await worker.call.idle()
    assert worker.call.looks_by_itself
    monkeypatch.setattr(notify_interest, "PAUSE", 0.0)
    assert await worker.call.idle()
    assert not worker.call.looks_by_itself


@pytest.mark.usefixtures("at_once")
async def test_what_was_said_is_said_again_when_the_answer_was_lost() -> None:
    """It may be in the table, or not."""
    worker = Worker()
    await worker.call.idle()
    worker.answers.answers_are_lost = True
    with pytest.raises(ConnectorException):
        await worker.call.busy(has_room=False)
    assert worker.call.is_made  # as far as is known: writers may notify
    with pytest.raises(ConnectorException):
        await worker.call.idle()
    worker.answers.answers_are_lost = False
    assert await worker.call.idle()
    assert worker.answers.said == [(1, ("q",)), (1, "stop"), (1, ("q",)), (1, ("q",))]


async def test_a_call_is_said_again_when_it_is_in_doubt() -> None:
    worker = Worker()
    await worker.call.idle()
    worker.call.doubt()
    assert await worker.call.idle()
    assert worker.answers.said == [(1, ("q",))] * 2


async def test_a_worker_polls_until_the_transactions_that_do_not_know_of_its_call_have_ended() -> None:
    worker = Worker()
    worker.answers.is_settled = False
    assert await worker.call.idle()
    assert not await worker.call.idle()
    await worker.wakes()
    assert not await worker.call.idle()
    worker.answers.is_settled = True
    await worker.wakes()
    assert await worker.call.idle()
    assert not await worker.call.idle()
    assert worker.answers.said == [(1, ("q",)), 10, 10]


async def test_a_worker_that_is_not_registered_does_not_look_again_and_again() -> None:
    worker = Worker()
    worker.answers.is_registered = False
    assert not await worker.call.idle()
    worker.answers.is_registered = True
    assert await worker.call.idle()


async def test_a_worker_that_does_not_listen_never_calls() -> None:
    worker = Worker(listens=False)
    assert not await worker.call.idle()
    assert not await worker.call.idle()
    assert worker.answers.said == [(1, "stop")]
