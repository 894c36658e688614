"""Decide how many jobs of each key of a limit may start, by numbers alone."""

from __future__ import annotations

import dataclasses
import heapq
import sys
from collections.abc import Sequence

from procrastinate.core.rates import RateTerms


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LimitTerms:
    """The numbers of a limit that hold now. ``None`` means no limit of this kind.

    Parameters
    ----------
    concurrency:
        How many jobs of one key may have a slot at once.
    total:
        How many jobs of all keys together may have a slot at once.
    rates, total_rates:
        How many jobs of one key, and of all keys together, may start in a window of time.
    is_fair:
        Whether the keys take turns. No more jobs have a slot than the workers can run at once.
    """

    concurrency: int | None = None
    total: int | None = None
    rates: tuple[RateTerms, ...] = ()
    total_rates: tuple[RateTerms, ...] = ()
    is_fair: bool = False

    @property
    def has_rates(self) -> bool:
        """True if a rate holds, of one key or of all."""
        return bool(self.rates or self.total_rates)

    @property
    def is_over_all_keys(self) -> bool:
        """True if jobs of one key may take what a job of another key needs."""
        return self.total is not None or bool(self.total_rates) or self.is_fair


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class KeyState:
    """A key of a limit, with the number of its jobs that have a slot, and how many more jobs its rates let start."""

    key: str
    held: int
    room: int = sys.maxsize


def share_out(terms: LimitTerms, keys: Sequence[KeyState], *, held_in_all: int, at_most: int) -> dict[str, int]:
    """Return the number of jobs that may get a slot, by key. Keys that get none are left out.

    Each slot goes to the key that has the fewest, so no key can take what the others need. Of keys that have as many,
    the first in ``keys`` comes first. The key that gets the last slot is the last of the result.

    Parameters
    ----------
    keys:
        The keys that have jobs in line.
    held_in_all:
        The number of slots that are taken, of all keys of the limit.
    at_most:
        The largest number of slots to give away.
    """
    rooms = [one.room for one in keys]
    left = at_most if terms.total is None else min(at_most, terms.total - held_in_all)
    ranks = [(one.held, place) for place, one in enumerate(keys)]
    heapq.heapify(ranks)
    shares: dict[str, int] = {}
    while left > 0 and ranks:
        held, place = ranks[0]
        if terms.concurrency is not None and held >= terms.concurrency:
            break  # all others have at least as many
        if rooms[place] <= 0:
            heapq.heappop(ranks)
            continue
        heapq.heapreplace(ranks, (held + 1, place))
        rooms[place] -= 1
        key = keys[place].key
        shares[key] = shares.pop(key, 0) + 1
        left -= 1
    return shares
