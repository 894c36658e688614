"""Writes the figures of a run into two pages of the documentation, so that none is typed by hand."""

from __future__ import annotations

import pathlib
import textwrap
from collections.abc import Iterator

from benchmarks.bars import BARS
from benchmarks.case import Case
from benchmarks.environments import ROOT
from benchmarks.report import format_number
from benchmarks.results import CaseResult, Run

PAGE = ROOT / "docs" / "figures.md"
"""Has the bars."""
CASES_PAGE = ROOT / "docs" / "figures-by-case.md"
"""Has a table for each case."""
PLOT = ROOT / "docs" / "images" / "performance.svg"
_BEGIN, _END = "<!-- figures: written by `make bench` -->", "<!-- end of figures -->"


def write_pages(
    run: Run, cases: tuple[Case, ...], page: pathlib.Path = PAGE, by_case: pathlib.Path = CASES_PAGE
) -> None:
    """Write the figures of a run between the markers of the two pages.

    Raises
    ------
    ValueError
        A page has no markers.
    """
    _write(page, render_bars(run))
    _write(by_case, render_cases(run, cases))


def _write(path: pathlib.Path, figures: str) -> None:
    text = path.read_text()
    head, begin, rest = text.partition(_BEGIN)
    _, end, tail = rest.partition(_END)
    if not begin or not end:
        raise ValueError(f"{path} has no place for the figures: {_BEGIN} ... {_END}")
    path.write_text(f"{head}{_BEGIN}\n\n{figures}\n{_END}{tail}")


def render_bars(run: Run) -> str:
    """Return the bars of a run in Markdown."""
    return "\n".join([_conditions(run), "", *_bars(run)]) + "\n"


def render_cases(run: Run, cases: tuple[Case, ...]) -> str:
    """Return the table of each case of a run in Markdown."""
    lines = [_conditions(run)]
    for case in cases:
        result = run.case(case.name)
        if result is not None:
            lines += ["", f"## {case.title}", "", *_table(result)]
    return "\n".join(lines) + "\n"


def _conditions(run: Run) -> str:
    machine = ", ".join(f"{name} {value}" for name, value in run.machine.items())
    versions = ", ".join(f"{name} {version}" for name, version in run.versions.items())
    text = f"Measured on {run.started}, scale `{run.scale['name']}`, {run.scale['rounds']} rounds. "
    text += f"Machine: {machine}. {versions}."
    if run.note:
        text += f" Conditions: {run.note.rstrip('.')}."
    return textwrap.fill(text, 120, break_on_hyphens=False)


def _bars(run: Run) -> Iterator[str]:
    yield "| case | figure | measured | bar | |"
    yield "|---|---|---:|---|---|"
    for bar in BARS:
        measured = bar.measured(run)
        shown = "" if measured is None else format_number(measured)
        yield f"| `{bar.case}` | {bar.subject} | {shown} | {bar.limit} | {bar.verdict(run)} |"


def _table(result: CaseResult) -> Iterator[str]:
    labels = result.contenders()
    figures = list(dict.fromkeys(figure for label in labels for figure in result.figures(label)))
    yield f"| | {' | '.join(figures)} |"
    yield f"|---|{'---:|' * len(figures)}"
    for label in labels:
        yield f"| {label} | {' | '.join(_cell(result, label, figure) for figure in figures)} |"
    for label, reason in result.left_out.items():
        yield f"| {label} | left out: {reason} |{' |' * (len(figures) - 1)}"
    for label in result.failures:
        yield f"| {label} | failed |{' |' * (len(figures) - 1)}"


def _cell(result: CaseResult, label: str, figure: str) -> str:
    series = result.series(label, figure)
    if series is None:
        return ""
    spread = f" ±{series.spread:.0%}" if len(series.values) > 1 else ""
    return format_number(series.median) + spread
