"""A case: contenders that do the same work in turn."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Literal

from benchmarks.bench import Bench
from benchmarks.results import Metrics


@dataclasses.dataclass(frozen=True)
class Contender:
    """One column of a case: who does the work, and how.

    Parameters
    ----------
    run:
        Does it once, checks that it was done, and returns the figures.
    """

    label: str
    run: Callable[[Bench], Metrics]


@dataclasses.dataclass(frozen=True)
class Case:
    """Some work that is measured.

    Parameters
    ----------
    rounds:
        ``"all"``, or ``"one"`` for what takes long and is compared with a fixed limit.
    quick:
        Whether ``make bench-quick`` runs it.
    """

    name: str
    title: str
    contenders: tuple[Contender, ...]
    rounds: Literal["all", "one"] = "all"
    quick: bool = False
