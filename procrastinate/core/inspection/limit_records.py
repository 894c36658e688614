"""Frozen answers of the loads of limits."""

from __future__ import annotations

import dataclasses
import datetime

from procrastinate.core.inspection.bounds import Count
from procrastinate.core.inspection.records import Neighbour
from procrastinate.core.rates import RateTerms


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class OfLimit:
    """The jobs of a limit or of a key.

    ``held`` is the number of slots that are taken, ``running`` that of the jobs which have started, and ``in_line``
    that of the jobs which wait for a slot.
    """

    held: Count
    running: Count
    in_line: Count


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LimitState:
    """A limit: the numbers that hold now, and its jobs.

    ``is_defined`` is false if jobs name the limit and no worker has defined it. ``is_set`` is true if an operator has
    set a number.
    """

    name: str
    is_defined: bool
    is_set: bool
    is_fair: bool
    concurrency: int | None
    total: int | None
    rates: tuple[RateTerms, ...]
    total_rates: tuple[RateTerms, ...]
    jobs: OfLimit


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """The limits by name. ``is_more`` is true if others are left out."""

    now: datetime.datetime
    limits: tuple[LimitState, ...]
    is_more: bool


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LimitKeyState:
    """A key with jobs. ``opens_at`` is the time before which a rate or a hold-off lets no further job start."""

    key: str
    jobs: OfLimit
    opens_at: datetime.datetime | None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LimitKeys:
    """A limit and some of its keys, in their order. ``next_key`` is the place where they continue, or ``None``."""

    now: datetime.datetime
    limit: LimitState
    keys: tuple[LimitKeyState, ...]
    next_key: str | None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class JobOfLimit:
    """A job that has slots of a limit or waits for them. ``weight`` is their number."""

    job: Neighbour
    weight: int
    running_since: datetime.datetime | None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LimitKeyDetails:
    """A key of a limit.

    ``heaviest`` is the largest weight that a job may have. ``next_start`` is the time before which the rates, or a
    hold-off, let no further job start, and ``None`` if they let one start now. ``holders`` and ``line`` have the first
    jobs.
    """

    now: datetime.datetime
    name: str
    key: str
    is_defined: bool
    concurrency: int | None
    heaviest: int | None
    next_start: datetime.datetime | None
    jobs: OfLimit
    holders: tuple[JobOfLimit, ...]
    line: tuple[JobOfLimit, ...]
