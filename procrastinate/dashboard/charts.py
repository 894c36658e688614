"""Bars of a chart, as numbers for an SVG image that the server draws."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Sequence

from procrastinate.core.inspection import Minute
from procrastinate.dashboard.formatting import exact

WIDTH, HEIGHT = 720, 120
_GAP = 2


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """A rectangle of a bar."""

    kind: str
    y: float
    height: float


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Bar:
    """The jobs of a minute."""

    at: datetime.datetime
    x: float
    width: float
    parts: tuple[Part, ...]
    title: str
    numbers: tuple[int, int, int]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Chart:
    """Stacked bars and the number at the top of the scale."""

    bars: tuple[Bar, ...]
    top: int
    width: int = WIDTH
    height: int = HEIGHT

    @property
    def is_empty(self) -> bool:
        """True if no job ended."""
        return not any(any(bar.numbers) for bar in self.bars)


def minutes_chart(minutes: Sequence[Minute]) -> Chart:
    """Return the chart of the jobs that ended in each minute."""
    highest = max((one.succeeded + one.failed + one.other for one in minutes), default=0)
    top = _round_up(highest)
    step = WIDTH / max(len(minutes), 1)
    return Chart(bars=tuple(_bar(one, number * step, step, top) for number, one in enumerate(minutes)), top=top)


def _bar(minute: Minute, x: float, step: float, top: int) -> Bar:
    numbers = (minute.succeeded, minute.failed, minute.other)
    words = ("succeeded", "failed", "cancelled or aborted")
    told = ", ".join(f"{number:,} {word}" for number, word in zip(numbers, words, strict=True) if number) or "no job"
    return Bar(
        at=minute.at,
        x=round(x + _GAP / 2, 2),
        width=round(step - _GAP, 2),
        parts=tuple(_parts(minute, top)),
        title=f"{exact(minute.at)[11:16]} UTC: {told}",
        numbers=numbers,
    )


def _parts(minute: Minute, top: int) -> list[Part]:
    """Return the rectangles from the bottom up, failures last, so that they stand at the top of the bar."""
    parts: list[Part] = []
    base = float(HEIGHT)
    for kind, number in (("ok", minute.succeeded), ("other", minute.other), ("bad", minute.failed)):
        if number:
            # A few failures among many successes must be seen.
            height = max(number / top * HEIGHT, 2.0 if kind == "bad" else 0.0)
            base -= height
            parts.append(Part(kind=kind, y=round(base, 2), height=round(height, 2)))
    return parts


def _round_up(highest: int) -> int:
    """Return a round number that is not smaller."""
    scale = 1
    while True:
        for factor in (1, 2, 3, 4, 5, 6, 8):
            if factor * scale >= highest:
                return factor * scale
        scale *= 10
