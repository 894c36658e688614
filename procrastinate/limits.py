"""Limits: how many jobs may run at once, over all workers."""

from __future__ import annotations

import dataclasses
from typing import Any

from procrastinate._checks.amounts import read_count
from procrastinate._checks.names import check_lock, check_name
from procrastinate.core import LimitDefinition
from procrastinate.locks import ArgumentLock, Lock

ONE_KEY = ""
"""The key of the jobs of a limit that has no ``by``."""


@dataclasses.dataclass(frozen=True)
class Limit:
    """A limit on how many jobs run at once, over all workers, for ``@app.task(limit=...)``.

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
    queue:
        Apply the limit to the jobs of this queue that have no limit of their own, for ``App(limits=[...])``.

    Raises
    ------
    InvalidJob
        The name, the key or the queue cannot be stored. It is a ``ValueError``.
    TypeError
        An argument has the wrong type.
    ValueError
        Neither ``concurrency`` nor ``total`` is given, or one of them is below 1.
    """

    name: str
    _: dataclasses.KW_ONLY
    by: Lock | None = None
    concurrency: int | None = None
    total: int | None = None
    queue: str | None = None

    def __post_init__(self) -> None:
        check_name("name of the limit", self.name)
        if self.queue is not None:
            check_name("queue of the limit", self.queue)
        if not callable(self.by) and not isinstance(self.by, ArgumentLock):
            check_lock("by of the limit", self.by)
        if self.concurrency is None and self.total is None:
            raise ValueError(f"The limit {self.name!r} limits nothing: give it concurrency= or total=")
        read_numbers(self.concurrency, self.total)

    @property
    def definition(self) -> LimitDefinition:
        """The limit as workers store it."""
        return LimitDefinition(name=self.name, concurrency=self.concurrency, total=self.total)


def read_numbers(concurrency: Any, total: Any) -> tuple[int | None, int | None]:
    """Return the two numbers of a limit, checked. ``None`` stays ``None``.

    Raises
    ------
    TypeError, ValueError
        A number is no whole number, or is below 1 or above two thousand millions.
    """
    numbers: list[int | None] = []
    for name, value in (("concurrency", concurrency), ("total", total)):
        number = None if value is None else read_count(name, value, at_least=1)
        if number is not None and number >= 2**31:
            raise ValueError(f"{name} must be below {2**31}, not {number}")
        numbers.append(number)
    return numbers[0], numbers[1]


def require_same(one: Limit, other: Limit) -> None:
    """Refuse two limits of one name with different numbers.

    Raises
    ------
    ValueError
        The message names the limit.
    """
    if one.definition != other.definition:
        raise ValueError(
            f"The limit {one.name!r} is defined twice with different numbers, as concurrency={one.concurrency}, "
            f"total={one.total} and as concurrency={other.concurrency}, total={other.total}: define it once and share "
            "the object, or give one of the two another name"
        )
