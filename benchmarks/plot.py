"""The plot of a run, for the page."""

from __future__ import annotations

import pathlib
from typing import Any

from benchmarks.results import CaseResult, Run

_OURS = "#2f6f4f"
_OTHERS = "#b8b8b0"


def draw(run: Run, path: pathlib.Path) -> None:
    """Write an SVG that compares the rates of the drains. It is small enough to be read on a phone."""
    import matplotlib

    matplotlib.use("svg")
    # The same figures must give the same file.
    matplotlib.rcParams["svg.hashsalt"] = "procrastinate"
    from matplotlib import pyplot

    figure, rates = pyplot.subplots(figsize=(6, 3), layout="constrained")
    drain = run.case("drain_async")
    if drain is not None:
        _draw_rates(rates, drain)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The title begins at the axes and may be wider than these.
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
    axes.bar_label(axes.containers[-1], labels=[f" {median:,.0f}" for median in medians], padding=8, fontsize=10)
    axes.set_title("Async no-op jobs a second, one worker process", fontsize=11, loc="left")
    axes.margins(x=0.15)
    axes.tick_params(labelsize=10)
    axes.spines[["top", "right"]].set_visible(False)
