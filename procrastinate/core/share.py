"""Decide how many slots of a limit each key gets, by numbers alone."""

from __future__ import annotations

import dataclasses
import heapq
import sys
from collections.abc import Iterator, Mapping, Sequence

from procrastinate.core.defaults import LARGEST_COUNT, LONGEST
from procrastinate.core.rates import RateTerms

HEAVIEST = LARGEST_COUNT
"""The largest weight that a job can have."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LimitTerms:
    """The numbers of a limit that hold now. ``None`` means no limit of this kind.

    Parameters
    ----------
    concurrency:
        How many slots the jobs of one key may have at once.
    total:
        How many slots the jobs of all keys together may have at once.
    rates, total_rates:
        How many jobs of one key, and of all keys together, may start in a window of time. A heavy job counts as
        several.
    is_fair:
        Whether the keys take turns. No more jobs have a slot than the workers can run at once.
    capacity:
        How many jobs of all keys may have slots at once, whatever their weights, or ``None`` for any number.
    kept_for:
        For how many seconds starts are kept, whichever rates hold now.
    """

    concurrency: int | None = None
    total: int | None = None
    rates: tuple[RateTerms, ...] = ()
    total_rates: tuple[RateTerms, ...] = ()
    is_fair: bool = False
    capacity: int | None = None
    kept_for: float = dataclasses.field(default=LONGEST, compare=False)

    @property
    def has_rates(self) -> bool:
        """True if a rate holds, of one key or of all."""
        return bool(self.rates or self.total_rates)

    @property
    def is_over_all_keys(self) -> bool:
        """True if jobs of one key may take what a job of another key needs."""
        return self.total is not None or bool(self.total_rates) or self.is_fair

    @property
    def heaviest(self) -> int:
        """The largest weight that a job may have. A heavier one never fits."""
        return min(self._numbers(), default=HEAVIEST)

    def _numbers(self) -> Iterator[int]:
        yield from (number for number in (self.concurrency, self.total) if number is not None)
        yield from (rate.count for rate in (*self.rates, *self.total_rates))


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class KeyState:
    """A key of a limit that has jobs in line.

    Parameters
    ----------
    held:
        The number of slots that its jobs have.
    room:
        How many more starts its rates allow now.
    weight:
        How many slots its next job takes.
    queue:
        The queue of its next job.
    """

    key: str
    held: int
    room: int = sys.maxsize
    weight: int = 1
    queue: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Shares:
    """The slots that each key may take, by key. Keys that get none are left out.

    The key that gets the last slot is the last. ``awaited`` is the number of slots that the key whose turn it is needs,
    if there are not as many. It is 0 if no key waits for the others.
    """

    by_key: dict[str, int]
    awaited: int = 0


def share_out(
    terms: LimitTerms, keys: Sequence[KeyState], *, held_in_all: int, at_most: int, room_in_all: int = sys.maxsize
) -> Shares:
    """Return the number of slots that the jobs of each key may take.

    The next job that gets its slots is that of the key which has the fewest, so no key can take what the others need.
    Of keys that have as many, the first in ``keys`` comes first. If its job needs more slots than are free in all, the
    other keys wait, too. Otherwise their lighter jobs would take each slot that becomes free.

    Parameters
    ----------
    keys:
        The keys that have jobs in line.
    held_in_all:
        The number of slots that are taken, of all keys of the limit.
    at_most:
        The largest number of jobs that may get slots.
    room_in_all:
        How many more starts the rates over all keys allow now.
    """
    left = room_in_all if terms.total is None else min(room_in_all, terms.total - held_in_all)
    most = sys.maxsize if terms.concurrency is None else terms.concurrency
    rooms = [one.room for one in keys]
    ranks = [(one.held, place) for place, one in enumerate(keys)]
    heapq.heapify(ranks)
    shares: dict[str, int] = {}
    while at_most > 0 and ranks:
        held, place = ranks[0]
        key, weight = keys[place].key, keys[place].weight
        if held + weight > most or weight > rooms[place]:
            heapq.heappop(ranks)
            continue
        if weight > left:
            return Shares(by_key=shares, awaited=weight)
        heapq.heapreplace(ranks, (held + weight, place))
        rooms[place] -= weight
        shares[key] = shares.pop(key, 0) + weight
        left -= weight
        at_most -= 1
    return Shares(by_key=shares)


@dataclasses.dataclass(frozen=True, slots=True)
class Unclaimed:
    """A job that has slots and that no worker has claimed."""

    id: int
    key: str
    weight: int


def excess(
    unclaimed: Sequence[Unclaimed],
    rooms: Mapping[str, int],
    *,
    room_in_all: int,
    jobs_in_all: int = sys.maxsize,
    heaviest: int = HEAVIEST,
) -> list[int]:
    """Return the ids of the jobs that must get back in line, because a limit is lower than it was.

    The first in line keep their slots. No job keeps its slots if one of its key that comes before it loses them, unless
    that one is too heavy for the limit.

    Parameters
    ----------
    unclaimed:
        The jobs in the order of the line.
    rooms:
        How many slots the jobs of each key may keep.
    room_in_all:
        How many slots the jobs of all keys may keep.
    jobs_in_all:
        How many jobs may keep their slots.
    heaviest:
        The largest weight that a job may have.
    """
    left = dict(rooms)
    returned: list[int] = []
    for one in unclaimed:
        if one.weight <= min(left[one.key], room_in_all) and jobs_in_all > 0:
            left[one.key] -= one.weight
            room_in_all -= one.weight
            jobs_in_all -= 1
            continue
        returned.append(one.id)
        if one.weight <= heaviest:
            left[one.key] = 0
    return returned
