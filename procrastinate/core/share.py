"""Decide how many jobs of each key of a limit may start, by numbers alone."""

from __future__ import annotations

import dataclasses
import heapq
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LimitTerms:
    """The numbers of a limit that hold now. ``None`` means no limit of this kind.

    Parameters
    ----------
    concurrency:
        How many jobs of one key may have a slot at once.
    total:
        How many jobs of all keys together may have a slot at once.
    """

    concurrency: int | None = None
    total: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class KeyState:
    """A key of a limit, with the number of its jobs that have a slot."""

    key: str
    held: int


def share_out(terms: LimitTerms, keys: Sequence[KeyState], *, held_in_all: int, at_most: int) -> dict[str, int]:
    """Return the number of jobs that may get a slot, by key. Keys that get none are left out.

    Each slot goes to the key that has the fewest, so no key can take what the others need. Of keys that have as many,
    the first in ``keys`` comes first.

    Parameters
    ----------
    keys:
        The keys that have jobs in line.
    held_in_all:
        The number of slots that are taken, of all keys of the limit.
    at_most:
        The largest number of slots to give away.
    """
    left = at_most if terms.total is None else min(at_most, terms.total - held_in_all)
    ranks = [(one.held, place) for place, one in enumerate(keys)]
    heapq.heapify(ranks)
    shares: dict[str, int] = {}
    while left > 0 and ranks:
        held, place = ranks[0]
        if terms.concurrency is not None and held >= terms.concurrency:
            break  # all others have at least as many
        heapq.heapreplace(ranks, (held + 1, place))
        shares[keys[place].key] = shares.get(keys[place].key, 0) + 1
        left -= 1
    return shares
