"""Results as tables on a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from benchmarks.bars import BARS, Bar, Verdict
from benchmarks.case import Case
from benchmarks.results import CaseResult, Run

_COLOURS: dict[Verdict, str] = {"met": "green", "missed": "bold red", "not measured": "dim"}


def format_number(value: float) -> str:
    """Return a figure with three or four significant digits."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"


def show_case(console: Console, case: Case, result: CaseResult, seconds: float) -> None:
    """Print a case with one row for each contender: medians, and the largest deviation of a round."""
    labels = result.contenders()
    figures = list(dict.fromkeys(figure for label in labels for figure in result.figures(label)))
    table = Table(title=f"{case.name}: {case.title} [dim]({seconds:.0f} s)[/dim]", title_justify="left")
    table.add_column("")
    for figure in figures:
        table.add_column(figure, justify="right")
    for label in labels:
        table.add_row(label, *(_cell(result, label, figure) for figure in figures))
    console.print(table)
    for label, reason in result.left_out.items():
        console.print(f"[yellow]{label} is left out: {reason}[/yellow]")
    for label, reason in result.failures.items():
        console.print(f"[bold red]{label} failed: {reason}[/bold red]", highlight=False)


def _cell(result: CaseResult, label: str, figure: str) -> str:
    series = result.series(label, figure)
    if series is None:
        return ""
    spread = f" [dim]±{series.spread:.0%}[/dim]" if len(series.values) > 1 else ""
    return format_number(series.median) + spread


def show_bars(console: Console, run: Run) -> None:
    """Print which bars were met."""
    table = Table(title="Bars", title_justify="left")
    for column in ("case", "figure", "measured", "bar", ""):
        table.add_column(column, justify="right" if column == "measured" else "left")
    for bar in BARS:
        if run.case(bar.case) is None:
            continue
        verdict = bar.verdict(run)
        measured = bar.measured(run)
        shown = "" if measured is None else format_number(measured)
        colour = _COLOURS[verdict]
        table.add_row(bar.case, bar.subject, shown, bar.limit, f"[{colour}]{verdict}[/{colour}]")
    console.print(table)


def missed_bars(run: Run) -> list[Bar]:
    """Return the missed bars. A bar without a measurement counts as missed, unless its peer is not installed."""
    return [bar for bar in BARS if run.case(bar.case) is not None and _is_missed(bar, run)]


def _is_missed(bar: Bar, run: Run) -> bool:
    case = run.case(bar.case)
    assert case is not None
    if bar.verdict(run) == "not measured":
        return not any(label in case.left_out for label in bar.over)
    return bar.verdict(run) == "missed"
