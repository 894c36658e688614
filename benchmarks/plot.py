"""The plot of a run, for the page."""

from __future__ import annotations

import pathlib
from typing import Any

from benchmarks.bars import BARS, Bar
from benchmarks.results import CaseResult, Run

_OURS = "#2f6f4f"
_OTHERS = "#b8b8b0"
_MISSED = "#b4473c"


def draw(run: Run, path: pathlib.Path) -> None:
    """Write an SVG that compares the rates of the drains, and shows the margin of each bar."""
    import matplotlib

    matplotlib.use("svg")
    # The same figures must give the same file.
    matplotlib.rcParams["svg.hashsalt"] = "procrastinate"
    from matplotlib import pyplot

    bars = [bar for bar in BARS if _kept(bar, run) is not None]
    drain = run.case("drain_async")
    figure, (rates, limits) = pyplot.subplots(
        2, 1, figsize=(9, 3.2 + 0.24 * len(bars)), height_ratios=[8, max(len(bars), 1)], layout="constrained"
    )
    if drain is not None:
        _draw_rates(rates, drain)
    _draw_bars(limits, run, bars)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The titles begin at the axes and may be wider than these.
    figure.savefig(path, metadata={"Date": None}, bbox_inches="tight")
    pyplot.close(figure)


def _draw_rates(axes: Any, case: CaseResult) -> None:
    series = {label: case.series(label, "jobs/s") for label in reversed(case.contenders())}
    measured = {label: values for label, values in series.items() if values is not None}
    medians = [values.median for values in measured.values()]
    spans = [
        [values.median - min(values.values) for values in measured.values()],
        [max(values.values) - values.median for values in measured.values()],
    ]
    colours = [_OURS if label == "this project" else _OTHERS for label in measured]
    axes.barh(list(measured), medians, xerr=spans, color=colours, ecolor="#555555", capsize=2)
    axes.bar_label(axes.containers[-1], labels=[f" {median:,.0f}" for median in medians], padding=8, fontsize=8)
    axes.set_title("Async no-op jobs a second, one worker process (median, least and most)", fontsize=10, loc="left")
    axes.margins(x=0.15)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def _kept(bar: Bar, run: Run) -> float | None:
    """Return how many times better than its limit a figure is. 1 means that it just meets the limit."""
    measured = bar.measured(run)
    if measured is None:
        return None
    if bar.at_least is not None:
        return measured / bar.at_least if bar.at_least else None
    return bar.at_most / measured if bar.at_most and measured > 0 else None


def _draw_bars(axes: Any, run: Run, bars: list[Bar]) -> None:
    kept = [_kept(bar, run) or 0.0 for bar in bars][::-1]
    names = [f"{bar.case} · {bar.subject} {bar.limit}" for bar in bars][::-1]
    colours = [_OURS if value >= 1 else _MISSED for value in kept]
    axes.barh(range(len(kept)), [min(value, 10) - 1 for value in kept], left=1, color=colours)
    axes.axvline(1, color="#333333", linewidth=1)
    axes.set_xscale("log")
    axes.set_yticks(range(len(names)), names, fontsize=6.5)
    axes.set_title(
        "How many times better than its bar each figure is (10 and more drawn as 10)", fontsize=10, loc="left"
    )
    axes.tick_params(axis="x", labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
