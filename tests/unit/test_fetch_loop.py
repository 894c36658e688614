"""The loop that keeps a worker's slots filled, against a queue that is a list of answers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncIterator, Iterable
from typing import Any, cast

import pytest

from procrastinate import core, exceptions
from procrastinate.core.channels import JobInserted
from procrastinate.jobs import Job
from procrastinate.manager import JobManager
from procrastinate.worker.fetch import looks, stock_schedule
from procrastinate.worker.fetch.fetch_loop import FetchLoop
from procrastinate.worker.fetch.noticeboard import Noticeboard
from procrastinate.worker.fetch.pace import BURST, PER_SECOND
from procrastinate.worker.fetch.paused_queues import PausedQueues
from tests.unit.recording import make_job

NOTHING = core.Promotion(promoted=0, again=False, next_due_in=None)
NEVER = 600.0
WORKER_ID = 7


class Answers:
    """Answers each question with the next answer, and then with nothing."""

    def __init__(
        self, fetched: Iterable[list[Job] | Exception] = (), promotions: Iterable[core.Promotion] = ()
    ) -> None:
        self.fetched = list(fetched)
        self.promotions = list(promotions)
        self.asked: list[Any] = []
        self.passed: list[int] = []
        self.called_all: list[int] = []

    async def fetch_jobs(
        self,
        queues: Any,
        worker_id: int,
        limit: int,
        *,
        after: core.Rank | None = None,
        with_arguments: bool = True,
        paused: Any = (),
    ) -> list[Job]:
        self.asked.append((queues, worker_id, limit))
        await asyncio.sleep(0)
        answer = self.fetched.pop(0) if self.fetched else []
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def start_waiting(self, *, worker_id: int, queues: Any) -> core.Waiting:
        return core.Waiting(unaware_before=1, is_settled=True)

    async def stop_waiting(self, *, worker_id: int) -> None: ...

    async def call_all_workers(self, *, job_id: int) -> None:
        self.called_all.append(job_id)

    async def promote_jobs(self, *, past: int = 0, without_turn: bool = False, paused: Any = ()) -> core.Promotion:
        self.passed.append(past)
        await asyncio.sleep(0)
        return self.promotions.pop(0) if self.promotions else NOTHING


class Slots:
    """Jobs that have been started; they never end."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.started: list[int | None] = []
        self.released: list[int | None] = []
        self.changed = asyncio.Event()
        self.stocks = 0
        self.stock_taken = asyncio.Event()
        self.board = Noticeboard(WORKER_ID)

    async def take_stock(self) -> None:
        self.stocks += 1
        self.stock_taken.set()

    def room(self) -> int:
        return self.number - len(self.started)

    async def tell_apart(self, jobs: list[Job]) -> None: ...

    def take(self, jobs: list[Job]) -> None:
        self.started += [job.id for job in jobs]
        self.changed.set()

    def release_unstarted(self, jobs: list[Job]) -> None:
        self.released += [job.id for job in jobs]

    def begin_fetch(self) -> None:
        """The slots are not shared."""

    def end_fetch(self, *, wants_more: bool) -> None:
        """The slots are not shared."""

    def wait_for_room(self, *, is_wanted: bool) -> None:
        """The slots are not shared."""


def make_loop(answers: Answers, slots: Slots, polling_interval: float = NEVER) -> FetchLoop:
    return FetchLoop(
        cast("JobManager", answers),
        slots.board,
        slots,
        slots,
        PausedQueues(),
        queues=("q",),
        polling_interval=polling_interval,
        listens=True,
        logger=logging.getLogger("procrastinate.worker.test"),
    )


def jobs(*ids: int) -> list[Job]:
    return [make_job(id=job_id) for job_id in ids]


async def run_until_started(loop: FetchLoop, slots: Slots, number: int) -> None:
    running = asyncio.create_task(loop.run())
    await started(slots, number)
    loop.stop()
    await running


async def started(slots: Slots, number: int) -> None:
    async with asyncio.timeout(10):
        while len(slots.started) < number:
            await slots.changed.wait()
            slots.changed.clear()


async def test_the_loop_asks_for_as_many_jobs_as_there_are_slots() -> None:
    answers, slots = Answers([jobs(1, 2, 3)]), Slots(3)
    await run_until_started(make_loop(answers, slots), slots, 3)
    assert slots.started == [1, 2, 3]
    assert answers.asked == [(("q",), WORKER_ID, 3)]


async def test_after_a_full_answer_it_asks_no_more_until_a_slot_is_free() -> None:
    answers, slots = Answers([jobs(1, 2), jobs(3)]), Slots(2)
    loop = make_loop(answers, slots)
    running = asyncio.create_task(loop.run())
    await slots.changed.wait()
    slots.number += 1
    slots.board.post_room()
    slots.changed.clear()
    await slots.changed.wait()
    loop.stop()
    await running
    assert [limit for _, _, limit in answers.asked] == [2, 1]


async def test_the_loop_wakes_when_a_job_falls_due() -> None:
    due = core.Promotion(promoted=0, again=False, next_due_in=0.01)
    answers, slots = Answers([[], jobs(1)], [due]), Slots(1)
    await run_until_started(make_loop(answers, slots), slots, 1)


async def test_the_loop_looks_at_each_polling_interval() -> None:
    answers, slots = Answers([[], [], jobs(1)]), Slots(1)
    await run_until_started(make_loop(answers, slots, polling_interval=0.01), slots, 1)


async def test_after_news_it_looks_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first look passes over a job whose row another session has locked for a moment."""
    monkeypatch.setattr(looks, "SECOND_LOOK", 0.0)
    answers, slots = Answers([[], jobs(1)]), Slots(1)
    loop = make_loop(answers, slots)
    loop.notified({"type": "job_inserted", "job_id": 1})
    await run_until_started(loop, slots, 1)


async def test_an_error_is_waited_out(caplog: pytest.LogCaptureFixture) -> None:
    answers, slots = Answers([exceptions.DatabaseUnavailable("Away"), jobs(1)]), Slots(1)
    await run_until_started(make_loop(answers, slots), slots, 1)
    assert [vars(record)["action"] for record in caplog.records] == ["fetch_jobs_error"]


async def test_pauses_stay_short_during_an_outage_and_its_warning_is_not_repeated_each_time(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(random, "uniform", lambda low, high: high / 1000)
    answers, slots = Answers([exceptions.DatabaseUnavailable("Away")] * 7 + [jobs(1)]), Slots(1)
    with caplog.at_level(logging.DEBUG):
        await run_until_started(make_loop(answers, slots), slots, 1)
    told = [record for record in caplog.records if vars(record).get("action") == "fetch_jobs_error"]
    waits = [record.args[0] * 1000 for record in told if isinstance(record.args, tuple)]  # type: ignore[operator]
    assert waits == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.5, 1.5, 1.5])
    assert [record.levelname for record in told] == ["WARNING"] + ["DEBUG"] * 6


async def test_the_loop_takes_stock_after_each_fetch_that_failed() -> None:
    """The database may have given it jobs all the same."""
    answers, slots = Answers([exceptions.DatabaseUnavailable("Away"), jobs(1, 2)]), Slots(2)
    await run_until_started(make_loop(answers, slots), slots, 2)
    assert slots.stocks == 1


async def test_the_loop_takes_its_first_stock_a_while_after_the_first_fetch(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new worker holds nothing yet."""
    monkeypatch.setattr(stock_schedule, "_START_INTERVAL", 0.05)
    answers, slots = Answers(), Slots(1)
    async with idle(answers, slots):
        assert (len(answers.asked) > 0, slots.stocks) == (True, 0)
        await stocks_taken(slots, 1)


async def stocks_taken(slots: Slots, number: int) -> None:
    async with asyncio.timeout(10):
        while slots.stocks < number:
            slots.stock_taken.clear()
            await slots.stock_taken.wait()


async def test_the_loop_looks_for_no_jobs_when_only_stock_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stock_schedule, "_STOCK_INTERVAL", 0.01)
    answers, slots = Answers(), Slots(1)
    loop = make_loop(answers, slots)
    running = asyncio.create_task(loop.run())
    await stocks_taken(slots, 3)
    before = len(answers.asked), len(answers.passed)
    await stocks_taken(slots, 9)
    assert (len(answers.asked), len(answers.passed)) == before
    loop.stop()
    await running


async def test_the_loop_looks_at_each_polling_interval_if_stock_is_due_more_often(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stock_schedule, "_START_INTERVAL", 0)
    monkeypatch.setattr(stock_schedule, "_STOCK_INTERVAL", 0.005)
    answers, slots = Answers([[], [], [], jobs(1)]), Slots(1)
    await run_until_started(make_loop(answers, slots, polling_interval=0.1), slots, 1)
    assert slots.stocks > len(answers.asked)


async def test_the_loop_stops_at_once_even_while_it_waits_out_an_error() -> None:
    answers = Answers([exceptions.DatabaseUnavailable("Away")] * 20)
    loop = make_loop(answers, Slots(1))
    running = asyncio.create_task(loop.run())
    for _ in range(20):
        await asyncio.sleep(0)
    assert answers.asked
    loop.stop()
    async with asyncio.timeout(0.5):
        await running


async def test_when_it_shall_not_wait_it_returns_with_the_last_job() -> None:
    answers, slots = Answers([jobs(1)]), Slots(2)
    async with asyncio.timeout(5):
        await make_loop(answers, slots).run(is_drained=lambda: True)
    assert slots.started == [1]


async def test_a_loop_that_does_not_wait_goes_on_while_due_jobs_are_undecided(monkeypatch: pytest.MonkeyPatch) -> None:
    """The holder of their lock was just leaving: whether they are next is not known yet."""
    monkeypatch.setattr(looks, "SECOND_LOOK", 0.0)
    undecided = core.Promotion(promoted=0, again=True, next_due_in=None)
    answers, slots = Answers([[], jobs(1)], [undecided]), Slots(2)
    async with asyncio.timeout(5):
        await make_loop(answers, slots).run(is_drained=lambda: True)
    assert slots.started == [1]


async def test_jobs_behind_many_that_are_parked_do_not_wait_for_a_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step gets on, though nothing may be fetched yet."""
    monkeypatch.setattr(looks.Looks, "_promote_later", lambda *_, **__: pytest.fail("waits"))
    parked = core.Promotion(promoted=0, again=True, next_due_in=None, parked=500)
    found = core.Promotion(promoted=1, again=False, next_due_in=None)
    answers, slots = Answers([[], jobs(1)], [*(parked,) * 40, found]), Slots(1)
    await run_until_started(make_loop(answers, slots), slots, 1)
    assert len(answers.passed) >= 41


async def test_what_was_left_undecided_is_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once: the next promotion may have decided on it."""
    undecided = core.Promotion(promoted=0, again=True, next_due_in=None, parked=3, undecided=497)
    answers, slots = Answers([[], [], jobs(1)], [undecided, NOTHING, NOTHING]), Slots(1)
    loop = make_loop(answers, slots, polling_interval=0.01)
    await run_until_started(loop, slots, 1)
    assert answers.passed[:3] == [0, 497, 0]


async def test_a_loop_that_does_not_wait_goes_on_while_jobs_are_running() -> None:
    slots = Slots(2)
    loop = make_loop(Answers([jobs(1)]), slots)
    drained = False
    running = asyncio.create_task(loop.run(is_drained=lambda: drained))
    await slots.changed.wait()
    for _ in range(20):
        await asyncio.sleep(0)
    assert not running.done()
    drained = True
    slots.board.post_room()
    async with asyncio.timeout(5):
        await running


async def test_a_worker_that_hears_of_each_job_looks_for_none_when_a_slot_is_free() -> None:
    answers, slots = Answers(), Slots(1)
    async with idle(answers, slots):
        fetches = len(answers.asked)
        slots.board.post_room()
        await turns(30)
        assert len(answers.asked) == fetches


async def test_a_doubt_is_settled_before_the_next_fetch() -> None:
    answers, slots = Answers(), Slots(1)
    async with idle(answers, slots):
        fetches, stocks = len(answers.asked), slots.stocks
        slots.board.post_doubt()
        await turns(30)
        assert (len(answers.asked), slots.stocks) == (fetches + 1, stocks + 1)


async def test_a_doubt_that_comes_while_stock_is_taken_is_settled_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer that the loop waits for may be older than the doubt."""
    monkeypatch.setattr(stock_schedule, "_START_INTERVAL", 0)
    answers, slots = Answers(), Slots(1)

    async def take_stock_in_doubt() -> None:
        slots.stocks += 1
        if slots.stocks == 1:
            slots.board.post_doubt()

    slots.take_stock = take_stock_in_doubt  # type: ignore[method-assign]
    async with idle(answers, slots):
        assert slots.stocks == 2


def notification(*workers: int, upcoming: bool = False) -> JobInserted:
    """What is heard of job 1, if these are the workers that are named for it."""
    return {"type": "job_inserted", "job_id": 1, "upcoming": upcoming, "workers": list(workers), "waiting": 2}


@contextlib.asynccontextmanager
async def idle(answers: Answers, slots: Slots) -> AsyncIterator[FetchLoop]:
    """A loop that has looked and found nothing, until the end of the block."""
    loop = make_loop(answers, slots)
    running = asyncio.create_task(loop.run())
    await turns(30)
    yield loop
    loop.stop()
    await running


async def turns(number: int) -> None:
    """Let all that can go on do so."""
    for _ in range(number):
        await asyncio.sleep(0)


async def test_a_job_costs_one_fetch_and_no_promotion() -> None:
    answers, slots = Answers(), Slots(3)
    async with idle(answers, slots) as loop:
        fetches, promotions = len(answers.asked), len(answers.passed)
        answers.fetched = [jobs(1)]
        loop.notified(notification(WORKER_ID))
        await turns(30)
        slots.board.post_room()  # the job has ended, and its outcome is recorded
        await turns(30)
        assert len(answers.asked) == fetches + 1
        assert len(answers.passed) == promotions
    assert slots.started == [1]


async def test_a_job_that_was_passed_over_is_looked_for_again_although_others_were_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The promotion of another worker parks jobs behind it, and has its row for a moment."""
    monkeypatch.setattr(looks, "SECOND_LOOK", 0.0)
    answers, slots = Answers(), Slots(3)
    async with idle(answers, slots) as loop:
        answers.fetched = [jobs(2), jobs(1)]
        loop.notified(notification(WORKER_ID))
        await started(slots, 2)
    assert slots.started == [2, 1]


async def test_a_worker_that_is_not_named_leaves_the_job_to_the_one_that_is() -> None:
    answers, slots = Answers(), Slots(1)
    async with idle(answers, slots) as loop:
        fetches = len(answers.asked)
        loop.notified(notification(WORKER_ID + 1))
        await turns(30)
        assert len(answers.asked) == fetches


@pytest.mark.parametrize("upcoming", [False, True])
async def test_a_worker_that_is_not_named_looks_a_little_later(monkeypatch: pytest.MonkeyPatch, upcoming: bool) -> None:
    """The one that is named may be dead."""
    monkeypatch.setattr(looks, "NET", 0.0)
    answers, slots = Answers(), Slots(1)
    async with idle(answers, slots) as loop:
        promotions = len(answers.passed)
        answers.fetched = [jobs(1)]
        loop.notified(notification(WORKER_ID + 1, upcoming=upcoming))
        await started(slots, 1)
        assert len(answers.passed) == promotions + upcoming


async def test_a_notification_that_comes_during_a_fetch_is_not_taken_for_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fetch may have read the table before the job was there."""
    monkeypatch.setattr(looks, "NET", 0.0)
    answers, slots = Answers(), Slots(1)
    async with idle(answers, slots) as loop:
        fetches = len(answers.asked)
        loop.notified(notification(WORKER_ID))
        while len(answers.asked) == fetches:  # noqa: ASYNC110 - nothing tells when it asks
            await asyncio.sleep(0)
        answers.fetched = [[], jobs(1)]
        loop.notified(notification(WORKER_ID + 1))
        await started(slots, 1)
    assert slots.started == [1]


async def test_a_worker_that_is_named_and_has_no_room_calls_the_others() -> None:
    answers, slots = Answers(), Slots(1)
    async with idle(answers, slots) as loop:
        slots.number = 0
        loop.notified(notification(WORKER_ID))
        await turns(30)
        assert answers.called_all == [1]
        loop.notified(notification(WORKER_ID + 1))
        await turns(30)
        assert answers.called_all == [1]


TO_ALL: JobInserted = {"type": "job_inserted", "job_id": 1, "upcoming": True}
TO_OTHERS: JobInserted = {"type": "job_inserted", "job_id": 1, "upcoming": True, "workers": [], "waiting": -(10**18)}


@pytest.mark.parametrize(
    "forged", [TO_ALL, notification(WORKER_ID, upcoming=True), notification(WORKER_ID + 1, upcoming=True), TO_OTHERS]
)
async def test_notifications_in_vain_are_followed_by_few_looks(forged: JobInserted) -> None:
    """Any role may send them, ten thousand a second."""
    answers, slots = Answers(), Slots(5)
    async with idle(answers, slots) as loop:
        seconds = await flood(loop, forged)
        assert len(answers.asked) <= 2 * (BURST + PER_SECOND * seconds) + 5  # a second look belongs to each
        assert len(answers.passed) <= 2 * (BURST + PER_SECOND * seconds) + 5


async def test_a_worker_without_room_calls_the_others_seldom_in_a_flood() -> None:
    answers, slots = Answers(), Slots(1)
    async with idle(answers, slots) as loop:
        slots.number = 0
        seconds = await flood(loop, notification(WORKER_ID))
        assert len(answers.called_all) <= BURST + PER_SECOND * seconds + 5


async def test_a_forged_number_of_workers_puts_no_look_off() -> None:
    """A look for the jobs of others comes at each polling interval at the latest."""
    answers, slots = Answers(), Slots(1)
    loop = make_loop(answers, slots, polling_interval=0.5)
    running = asyncio.create_task(loop.run())
    await turns(30)
    answers.fetched = [jobs(1)]
    loop.notified({**TO_OTHERS, "upcoming": False, "waiting": 10**18})
    await started(slots, 1)
    loop.stop()
    await running


async def flood(loop: FetchLoop, forged: JobInserted) -> float:
    """Notify a loop twenty thousand times, and return the seconds that this took."""
    now = asyncio.get_running_loop().time
    began = now()
    for _ in range(20_000):
        loop.notified(forged)
        await asyncio.sleep(0)
    return now() - began


@pytest.mark.parametrize("forged", [TO_ALL, notification(WORKER_ID)])
async def test_a_job_that_comes_in_a_flood_of_notifications_is_fetched(forged: JobInserted) -> None:
    answers, slots = Answers(), Slots(5)
    async with idle(answers, slots) as loop:
        for _ in range(1_000):
            loop.notified(forged)
            await asyncio.sleep(0)
        answers.fetched = [[make_job(id=8)]]
        loop.notified(forged)
        await started(slots, 1)
    assert slots.started == [8]


async def test_the_loop_fetches_the_next_step_of_a_workflow_before_it_promotes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looks, "REST", 0.0)
    answers, slots = Answers(), Slots(2)
    async with idle(answers, slots):
        promotions = len(answers.passed)
        answers.fetched.append(jobs(1))
        slots.board.post_ended_step()
        await started(slots, 1)
        assert len(answers.passed) == promotions
        await turns(30)
        assert len(answers.passed) == promotions + 1


async def test_the_loop_promotes_at_once_if_the_end_of_a_step_has_made_nothing_ready() -> None:
    answers, slots = Answers(), Slots(2)
    async with idle(answers, slots):
        promotions = len(answers.passed)
        slots.board.post_ended_step()
        await turns(30)
        assert len(answers.passed) == promotions + 1


@pytest.mark.parametrize(("number", "asks"), [(1, True), (2, False)])
async def test_a_notification_of_a_job_that_was_just_fetched_causes_no_fetch_if_room_was_left(
    number: int, asks: bool
) -> None:
    answers, slots = Answers(), Slots(number)
    async with idle(answers, slots) as loop:
        answers.fetched.append(jobs(1))
        slots.board.post_ended_step()
        await started(slots, 1)
        await turns(30)
        asked = len(answers.asked)
        slots.number += 1
        loop.notified(notification(WORKER_ID))
        await turns(30)
        assert (len(answers.asked) > asked) is asks


async def test_a_notification_of_a_job_that_was_given_back_causes_a_fetch() -> None:
    answers, slots = Answers(), Slots(2)
    async with idle(answers, slots) as loop:
        answers.fetched.append(jobs(1))
        slots.board.post_ended_step()
        await started(slots, 1)
        slots.board.post_return()
        await turns(30)
        asked = len(answers.asked)
        loop.notified(notification(WORKER_ID))
        await turns(30)
        assert len(answers.asked) > asked
