"""Cases: several contenders do the same work in turn."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Literal

from benchmarks.bench import Bench
from benchmarks.results import Metrics


@dataclasses.dataclass(frozen=True)
class Contender:
    """A system, or a variant of one, that does the work of a case.

    Parameters
    ----------
    run:
        Function that does the work once, checks its outcome and returns the figures.
    """

    label: str
    run: Callable[[Bench], Metrics]


@dataclasses.dataclass(frozen=True)
class Case:
    """A measurement with its contenders.

    Parameters
    ----------
    rounds:
        ``"all"``, or ``"one"`` for a slow case with a fixed limit.
    quick:
        If true, ``make bench-quick`` runs the case.
    on_request:
        If true, the case runs only if it is named.
    """

    name: str
    title: str
    contenders: tuple[Contender, ...]
    rounds: Literal["all", "one"] = "all"
    quick: bool = False
    on_request: bool = False
