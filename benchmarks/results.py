"""What was measured, as it is kept in a file."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import statistics
from collections.abc import Iterator, Mapping
from typing import Any

Metrics = Mapping[str, float]
"""What one contender did in one round, by the name of the figure."""


class CheckFailed(Exception):
    """A job was lost, done twice or not recorded: what was measured means nothing."""


@dataclasses.dataclass(frozen=True)
class Series:
    """One figure of one contender, over the rounds."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.values)

    @property
    def spread(self) -> float:
        """How far the furthest is from the median, as a part of it."""
        middle = self.median
        return max(abs(value - middle) for value in self.values) / middle if middle else 0.0


@dataclasses.dataclass(frozen=True)
class CaseResult:
    """One case: its rounds, in each of which its contenders ran in turn.

    Parameters
    ----------
    left_out:
        Contenders that could not be installed, with the reason.
    failures:
        Contenders that failed, with what they said.
    """

    name: str
    rounds: tuple[Mapping[str, Metrics], ...]
    left_out: Mapping[str, str] = dataclasses.field(default_factory=dict)
    failures: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def contenders(self) -> list[str]:
        """Those that were measured, in their order."""
        return list(dict.fromkeys(label for measured in self.rounds for label in measured))

    def figures(self, contender: str) -> list[str]:
        """The names of the figures of a contender."""
        return list(dict.fromkeys(name for measured in self.rounds for name in measured.get(contender, {})))

    def series(self, contender: str, figure: str) -> Series | None:
        """One figure of one contender over the rounds; None if it was not measured."""
        values = tuple(measured[contender][figure] for measured in self.rounds if figure in measured.get(contender, {}))
        return Series(values) if values else None

    def ratios(self, contender: str, figure: str, references: tuple[str, ...]) -> Series | None:
        """A figure over that of the best (largest) of some references, round by round.

        Within a round, one ran right after the other: what disturbs a round disturbs both sides of the ratio.
        """
        values = tuple(_ratios(self.rounds, contender, figure, references))
        return Series(values) if values else None


def _ratios(
    rounds: tuple[Mapping[str, Metrics], ...], contender: str, figure: str, references: tuple[str, ...]
) -> Iterator[float]:
    for measured in rounds:
        others = [measured[label][figure] for label in references if figure in measured.get(label, {})]
        if figure in measured.get(contender, {}) and others and max(others):
            yield measured[contender][figure] / max(others)


@dataclasses.dataclass(frozen=True)
class Run:
    """All that one run measured, and where."""

    started: str
    scale: Mapping[str, Any]
    machine: Mapping[str, Any]
    versions: Mapping[str, str]
    note: str
    cases: tuple[CaseResult, ...]

    def case(self, name: str) -> CaseResult | None:
        """The result of a case, if it was run."""
        return next((case for case in self.cases if case.name == name), None)


def save(run: Run, path: pathlib.Path) -> None:
    """Write a run into a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(dataclasses.asdict(run), indent=1) + "\n")


def load(path: pathlib.Path) -> Run:
    """Read a run from a file."""
    content = json.loads(path.read_text())
    cases = tuple(CaseResult(**{**case, "rounds": tuple(case["rounds"])}) for case in content.pop("cases"))
    return Run(**content, cases=cases)
