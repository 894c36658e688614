"""Results of a run, and their file format."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import statistics
from collections.abc import Iterator, Mapping
from typing import Any

Metrics = Mapping[str, float]
"""Results of one contender in one round, by name of the figure."""


class CheckFailed(Exception):
    """A job was lost, ran twice or was not recorded, so the figures are invalid."""


@dataclasses.dataclass(frozen=True)
class Series:
    """One figure of one contender, over the rounds."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The median of the values."""
        return statistics.median(self.values)

    @property
    def spread(self) -> float:
        """The largest deviation from the median, as a fraction of the median."""
        middle = self.median
        return max(abs(value - middle) for value in self.values) / middle if middle else 0.0


@dataclasses.dataclass(frozen=True)
class CaseResult:
    """Results of one case, in rounds. In each round the contenders ran in turn.

    Parameters
    ----------
    left_out:
        Contenders that could not be installed, with the reason.
    failures:
        Contenders that failed, with the error message.
    """

    name: str
    rounds: tuple[Mapping[str, Metrics], ...]
    left_out: Mapping[str, str] = dataclasses.field(default_factory=dict)
    failures: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def contenders(self) -> list[str]:
        """Return the measured contenders in order."""
        return list(dict.fromkeys(label for measured in self.rounds for label in measured))

    def figures(self, contender: str) -> list[str]:
        """Return the names of the figures of a contender."""
        return list(dict.fromkeys(name for measured in self.rounds for name in measured.get(contender, {})))

    def series(self, contender: str, figure: str) -> Series | None:
        """Return one figure of one contender over the rounds, or ``None`` if it was not measured."""
        values = tuple(measured[contender][figure] for measured in self.rounds if figure in measured.get(contender, {}))
        return Series(values) if values else None

    def ratios(self, contender: str, figure: str, references: tuple[str, ...]) -> Series | None:
        """Return the ratios of a figure to the largest figure of the references, round by round.

        Contenders of a round run right after each other, so that a disturbance affects both sides of the ratio.
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
    """All results of one run, with its machine and versions."""

    started: str
    scale: Mapping[str, Any]
    machine: Mapping[str, Any]
    versions: Mapping[str, str]
    note: str
    cases: tuple[CaseResult, ...]

    def case(self, name: str) -> CaseResult | None:
        """Return the result of a case, or ``None`` if it did not run."""
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
