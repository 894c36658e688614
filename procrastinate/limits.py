"""Limits: how many jobs may run at once, and how many may start in a window of time, over all workers."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from procrastinate import core
from procrastinate._checks.amounts import read_count
from procrastinate._checks.names import check_lock, check_name
from procrastinate._functions.declarations import read_declaration
from procrastinate._functions.signature import check_maker
from procrastinate.core.defaults import LARGEST_COUNT
from procrastinate.locks import ArgumentLock, Lock
from procrastinate.rates import Rates, read_rates

ONE_KEY = ""
"""The key of the jobs of a limit that has no ``by``."""


@dataclasses.dataclass(frozen=True)
class Limit:
    """A limit on how many jobs run at once or start in a window of time, for ``@app.task(limit=...)``.

    Tasks that are given the same limit share it. Jobs above the limit wait in line, by priority and then by id, and
    cost the other jobs nothing.

    Parameters
    ----------
    name:
        The name of the limit in the database. It has no namespace, so that programs can share a limit.
    by:
        Divides the jobs into keys, each with a limit of its own. Give a text, a function that takes the arguments as a
        dict, or :func:`~procrastinate.locks.by_arguments`. A job for which a function returns ``None`` has no limit.
        By default all jobs have one key.
    concurrency:
        Number of jobs of one key that may run at once.
    total:
        Number of jobs of all keys together that may run at once. A free slot goes to the key that has the fewest, so
        the keys take turns.
    rate:
        Number of jobs of one key that may start in any window of time: a :class:`~procrastinate.Rate`, or a list of
        rates that hold together.
    total_rate:
        Number of jobs of all keys together that may start in any window of time.
    fair:
        If true, the keys take turns, whatever the number and the priority of their jobs. The priority decides between
        the jobs of one key. A fair limit needs no number.
    queue:
        Apply the limit to the jobs of this queue that have no limit of their own, for ``App(limits=[...])`` or Django's
        setting ``PROCRASTINATE_LIMITS``.

    Raises
    ------
    InvalidJob
        The name, the key or the queue cannot be stored. It is a ``ValueError``.
    TypeError
        An argument has the wrong type.
    ValueError
        The limit has no number and is not fair, or is fair without ``by``, or ``concurrency`` or ``total`` is below 1.
    """

    name: str
    _: dataclasses.KW_ONLY
    by: Lock | None = None
    concurrency: int | None = None
    total: int | None = None
    rate: Rates | None = None
    total_rate: Rates | None = None
    fair: bool = False
    queue: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "_declaration", read_declaration())
        check_name("name of the limit", self.name)
        if self.queue is not None:
            check_name("queue of the limit", self.queue)
        if not callable(self.by) and not isinstance(self.by, ArgumentLock):
            check_lock("by of the limit", self.by)
        check_maker(f"by of the limit {self.name!r}", self.by)
        for name in ("rate", "total_rate"):  # a frozen object must not hold a list that may change
            if isinstance(getattr(self, name), list):
                object.__setattr__(self, name, tuple(getattr(self, name)))
        if not isinstance(self.fair, bool):
            raise TypeError(f"fair of the limit {self.name!r} must be True or False, not {self.fair!r}")
        if self.fair and self.by is None:
            raise ValueError(f"The fair limit {self.name!r} has no keys that could take turns: give it by=")
        if self.definition == core.LimitDefinition(name=self.name):
            raise ValueError(
                f"The limit {self.name!r} limits nothing: give it concurrency=, total=, rate=, total_rate= or fair=True"
            )

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy has of this object, which is declared elsewhere."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def is_another_run_of(self, earlier: Limit) -> bool:
        """Return true if both come from one line of a module or of a notebook's cell that ran twice."""
        mine, other = (getattr(one, "_declaration", None) for one in (self, earlier))
        return mine is not None and other is not None and mine.is_another_run_of(other)

    @property
    def definition(self) -> core.LimitDefinition:
        """The limit as workers store it."""
        numbers = read_definition(
            self.name, concurrency=self.concurrency, total=self.total, rate=self.rate, total_rate=self.total_rate
        )
        return dataclasses.replace(numbers, fair=self.fair)

    def require_room_for(self, weight: int) -> None:
        """Refuse a weight that is larger than one of the numbers of the limit.

        Raises
        ------
        ValueError
            A job of this weight would never start.
        """
        numbers = self.definition
        heaviest = core.LimitTerms(
            concurrency=numbers.concurrency,
            total=numbers.total,
            rates=numbers.rates,
            total_rates=numbers.total_rates,
        ).heaviest
        if weight > heaviest:
            raise ValueError(
                f"weight={weight} is more than the limit {self.name!r} allows at once, which is {heaviest}. The job "
                "would never start: give it a lower weight, or the limit higher numbers"
            )


def read_weight(weight: Any) -> int:
    """Return the weight of a job, checked.

    Raises
    ------
    TypeError, ValueError
        It is no whole number, is below 1 or above two thousand millions.
    """
    return read_count("weight", weight, at_least=1, at_most=LARGEST_COUNT)


def read_definition(name: str, *, concurrency: Any, total: Any, rate: Any, total_rate: Any) -> core.LimitDefinition:
    """Return the numbers of a limit, checked. ``None`` stays ``None``.

    Raises
    ------
    TypeError, ValueError
        ``concurrency`` or ``total`` is no whole number from 1 to two thousand millions, or a rate has another type.
    """
    concurrency, total = _read_numbers(concurrency, total)
    return core.LimitDefinition(
        name=name,
        concurrency=concurrency,
        total=total,
        rates=read_rates("rate", rate),
        total_rates=read_rates("total_rate", total_rate),
    )


def _read_numbers(concurrency: Any, total: Any) -> tuple[int | None, int | None]:
    numbers: list[int | None] = []
    for name, value in (("concurrency", concurrency), ("total", total)):
        numbers.append(None if value is None else read_count(name, value, at_least=1, at_most=LARGEST_COUNT))
    return numbers[0], numbers[1]


def add_limit(known: dict[str, Limit], limit: Limit) -> None:
    """Add a limit to those that are known by their names.

    Of two with one name, the first stays, unless its module ran again.

    Raises
    ------
    ValueError
        Two limits of one name have different numbers. The message names the limit.
    """
    first = known.setdefault(limit.name, limit)
    if first.definition == limit.definition:
        return
    if limit.is_another_run_of(first):
        known[limit.name] = limit
    elif not first.is_another_run_of(limit):
        raise ValueError(
            f"The limit {limit.name!r} is defined twice with different numbers, as {_described(first)} and as "
            f"{_described(limit)}: define it once and share the object, or give one of the two another name"
        )


def read_limits_of_queues(limits: Iterable[Limit]) -> dict[str, Limit]:
    """Return the limits by queue.

    Raises
    ------
    TypeError
        One is no limit.
    ValueError
        A limit has no queue, a queue has two limits, or two limits of one name have different numbers.
    """
    by_queue: dict[str, Limit] = {}
    by_name: dict[str, Limit] = {}
    for limit in limits:
        if not isinstance(limit, Limit):
            raise TypeError(f"limits must be a list of procrastinate.Limit, not {limit!r}")
        if limit.queue is None:
            raise ValueError(f"The limit {limit.name!r} has no queue: give it queue=, or give it to tasks by limit=")
        if limit.queue in by_queue:
            raise ValueError(
                f"The queue {limit.queue!r} has two limits: {by_queue[limit.queue].name!r}, {limit.name!r}"
            )
        by_queue[limit.queue] = limit
        add_limit(by_name, limit)
    return by_queue


def _described(limit: Limit) -> str:
    declaration = getattr(limit, "_declaration", None)
    return _numbers(limit) + ("" if declaration is None else f" in {declaration.caller}")


def _numbers(limit: Limit) -> str:
    rates = f", rate={limit.rate}, total_rate={limit.total_rate}" if limit.rate or limit.total_rate else ""
    return f"concurrency={limit.concurrency}, total={limit.total}{rates}{', fair=True' if limit.fair else ''}"
