"""Slots that the workers of several databases share in one process."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Protocol

_LONGEST_CLAIM = 1.0
"""Seconds. A worker whose database does not answer keeps no slot from the others for longer."""


class Sharer(Protocol):
    """The jobs of one worker."""

    @property
    def held(self) -> int:
        """The number of slots that its jobs have now."""

    @property
    def spare(self) -> int:
        """The number of further slots that the worker itself would fill."""

    @property
    def has_kept(self) -> bool:
        """Whether it has fetched jobs that wait for a slot."""

    def use_room(self) -> None:
        """Start what waits for a slot, and fetch if there is room."""


@dataclasses.dataclass(slots=True)
class _Entry:
    turn: int = 0
    """Number of the last start of a job, over all sharers."""
    waits: bool = False
    """Whether jobs may be ready for which it found no room."""
    reserved: int = 0
    """Number of slots that are kept for its fetch."""
    lapse: asyncio.TimerHandle | None = None
    """What ends its claim to free slots, if it uses none soon."""


class SharedSlots:
    """A number of slots, and who may take the next one.

    While one sharer only has work, it takes all slots. Several that have work get equal shares, and free slots go to
    the one whose last start is the longest ago. A running job is never stopped for that. All sharers live in one event
    loop, so nothing changes between the look for room and the start of a job.

    Parameters
    ----------
    total:
        The number of jobs that all sharers together run at the same time.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self._entries: dict[Sharer, _Entry] = {}
        self._starts = 0

    def join(self, sharer: Sharer) -> None:
        """Take part from now on."""
        self._entries[sharer] = _Entry()

    def leave(self, sharer: Sharer) -> None:
        """Leave all slots to the others."""
        entry = self._entries.pop(sharer, None)
        if entry is not None:
            _end_claim(entry)
            self.freed(sharer)

    def room(self, sharer: Sharer) -> int:
        """Return how many slots a sharer may take now."""
        taken = sum(one.held for one in self._entries)
        reserved = sum(entry.reserved for one, entry in self._entries.items() if one is not sharer)
        free = self.total - taken - reserved
        rivals = [one for one, entry in self._entries.items() if one is not sharer and _is_rival(one, entry)]
        if not rivals or free <= 0:
            return max(free, 0)
        share = -(-self.total // (len(rivals) + 1))
        own_turn = self._turn(sharer)
        in_front = sum(one.held < share and self._turn(one) < own_turn for one in rivals)
        return max(0, min(free - in_front, share - sharer.held))

    def _turn(self, sharer: Sharer) -> int:
        entry = self._entries.get(sharer)
        return 0 if entry is None else entry.turn

    def started(self, sharer: Sharer) -> None:
        """Note that a job of a sharer starts."""
        self._starts += 1
        if (entry := self._entries.get(sharer)) is not None:
            entry.turn = self._starts

    def begin_fetch(self, sharer: Sharer) -> None:
        """Reserve the room of a sharer while it fetches. Otherwise its jobs might find all slots taken."""
        entry = self._entries.get(sharer)
        if entry is not None:
            _end_claim(entry)
            entry.reserved = min(self.room(sharer), max(sharer.spare, 0))
            self._lapse_later(sharer, entry)

    def end_fetch(self, sharer: Sharer, *, wants_more: bool) -> None:
        """End the reservation. ``wants_more`` says whether more jobs may be ready."""
        self.wait_for_room(sharer, waits=wants_more)
        self.freed(sharer)

    def wait_for_room(self, sharer: Sharer, *, waits: bool) -> None:
        """Note whether a sharer without room would fetch if it had some."""
        entry = self._entries.get(sharer)
        if entry is not None:
            _end_claim(entry)
            entry.waits = waits

    def freed(self, sharer: Sharer) -> None:
        """Let the others use what a sharer has left to them, the one whose last start is the longest ago first.

        The claim of one that has room now lapses unless it soon begins a fetch, or finds the room taken.
        """
        for one, entry in sorted(self._entries.items(), key=lambda item: item[1].turn):
            if one is sharer or not (entry.waits or one.has_kept):
                continue
            if entry.waits and entry.lapse is None and self.room(one) > 0:
                self._lapse_later(one, entry)
            one.use_room()

    def _lapse_later(self, sharer: Sharer, entry: _Entry) -> None:
        entry.lapse = asyncio.get_running_loop().call_later(_LONGEST_CLAIM, self._lapse, sharer)

    def _lapse(self, sharer: Sharer) -> None:
        self.wait_for_room(sharer, waits=False)
        self.freed(sharer)


def _is_rival(one: Sharer, entry: _Entry) -> bool:
    return (entry.waits or one.has_kept) and one.spare > 0


def _end_claim(entry: _Entry) -> None:
    entry.waits = False
    entry.reserved = 0
    if entry.lapse is not None:
        entry.lapse.cancel()
        entry.lapse = None
