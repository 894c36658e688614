"""Who of several sharers may take a slot."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools

import pytest

from procrastinate.worker.run import shared_slots
from procrastinate.worker.run.shared_slots import SharedSlots


@dataclasses.dataclass(eq=False)
class Sharer:
    """The jobs of a worker that never runs any."""

    held: int = 0
    most: int = 100
    has_kept: bool = False
    uses: int = 0
    has_used: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)

    @property
    def spare(self) -> int:
        return self.most - self.held

    def use_room(self) -> None:
        self.uses += 1
        self.has_used.set()

    def start(self, slots: SharedSlots, number: int = 1) -> None:
        for _ in range(number):
            slots.started(self)
            self.held += 1


def _joined(total: int, *sharers: Sharer) -> SharedSlots:
    slots = SharedSlots(total)
    for one in sharers:
        slots.join(one)
    return slots


def test_a_sharer_gets_all_slots_while_no_other_has_work() -> None:
    one, other = Sharer(), Sharer()
    slots = _joined(4, one, other)
    assert slots.room(one) == 4
    one.start(slots, 4)
    assert (slots.room(one), slots.room(other)) == (0, 0)


def test_sharers_that_have_work_get_equal_shares() -> None:
    one, other = Sharer(), Sharer()
    slots = _joined(4, one, other)
    one.start(slots, 4)
    slots.wait_for_room(one, waits=True)
    slots.wait_for_room(other, waits=True)
    one.held -= 2
    assert (slots.room(one), slots.room(other)) == (0, 2)


def test_one_slot_goes_to_the_sharers_in_turn() -> None:
    sharers = [Sharer(), Sharer(), Sharer()]
    slots = _joined(1, *sharers)
    for one in sharers:
        slots.wait_for_room(one, waits=True)
    started = []
    for _ in range(6):
        (chosen,) = [index for index, one in enumerate(sharers) if slots.room(one) > 0][:1]
        sharers[chosen].start(slots)
        sharers[chosen].held -= 1
        started.append(chosen)
    assert started == [0, 1, 2, 0, 1, 2]


def test_a_sharer_that_cannot_take_more_keeps_no_slot_from_the_others() -> None:
    one, full = Sharer(), Sharer(most=1)
    slots = _joined(4, one, full)
    full.start(slots)
    slots.wait_for_room(full, waits=True)
    assert slots.room(one) == 3


@pytest.mark.parametrize("total", [1, 2, 5])
def test_a_free_slot_is_never_refused_to_all_that_wait(total: int) -> None:
    for held in itertools.product(range(total + 1), repeat=3):
        for waits in itertools.product((False, True), repeat=3):
            if sum(held) >= total or not any(waits):
                continue
            sharers = [Sharer(), Sharer(), Sharer()]
            slots = _joined(total, *sharers)
            for one, number, does in zip(sharers, held, waits, strict=True):
                one.start(slots, number)
                slots.wait_for_room(one, waits=does)
            rooms = [slots.room(one) for one, does in zip(sharers, waits, strict=True) if does]
            assert max(rooms) > 0, (held, waits)


def test_jobs_that_were_fetched_count_as_work() -> None:
    one, other = Sharer(), Sharer(has_kept=True)
    slots = _joined(1, one, other)
    one.start(slots)
    one.held = 0
    assert (slots.room(one), slots.room(other)) == (0, 1)


async def test_the_room_of_a_fetch_is_kept_until_the_fetch_has_ended() -> None:
    one, other = Sharer(most=2), Sharer()
    slots = _joined(3, one, other)
    slots.begin_fetch(one)
    assert (slots.room(one), slots.room(other)) == (3, 1)
    slots.wait_for_room(other, waits=True)
    slots.end_fetch(one, wants_more=False)
    assert slots.room(other) == 3
    assert other.uses == 1


async def test_a_fetch_without_an_answer_keeps_its_room_for_a_moment_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_slots, "_LONGEST_CLAIM", 0.0)
    one, other = Sharer(), Sharer()
    slots = _joined(2, one, other)
    slots.begin_fetch(one)
    slots.wait_for_room(other, waits=True)
    assert slots.room(other) == 0
    await other.has_used.wait()
    assert slots.room(other) == 2


async def test_a_sharer_that_is_called_on_and_does_not_fetch_keeps_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_slots, "_LONGEST_CLAIM", 0.0)
    one, stuck = Sharer(), Sharer()
    slots = _joined(2, one, stuck)
    slots.wait_for_room(one, waits=True)
    slots.wait_for_room(stuck, waits=True)
    one.start(slots)
    assert slots.room(one) == 0
    slots.freed(one)
    await one.has_used.wait()
    assert slots.room(one) == 1


@pytest.mark.parametrize("held_when_called", [1, 2])
async def test_a_sharer_that_finds_no_room_is_called_on_again(
    monkeypatch: pytest.MonkeyPatch, held_when_called: int
) -> None:
    monkeypatch.setattr(shared_slots, "_LONGEST_CLAIM", 0.0)
    one, other = Sharer(), Sharer()
    slots = _joined(2, one, other)
    slots.wait_for_room(other, waits=True)
    one.held = held_when_called
    slots.freed(one)
    if held_when_called == 1:  # the other was told of room, which is gone when it looks
        slots.wait_for_room(other, waits=True)
    one.held = 2
    await asyncio.sleep(0)
    one.held = 1
    slots.freed(one)
    assert other.uses == 2
    assert slots.room(other) == 1


async def test_a_sharer_that_leaves_gives_its_room_to_those_that_wait() -> None:
    one, other = Sharer(), Sharer()
    slots = _joined(1, one, other)
    slots.begin_fetch(one)
    slots.wait_for_room(other, waits=True)
    slots.leave(one)
    assert (slots.room(other), other.uses) == (1, 1)
