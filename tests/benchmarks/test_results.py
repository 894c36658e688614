"""What becomes of the figures of a run: medians, ratios, bars, tables, files."""

from __future__ import annotations

import dataclasses
import io
import pathlib

import pytest
from rich.console import Console

from benchmarks.__main__ import choose_cases, parse
from benchmarks.bars import BARS, Bar
from benchmarks.case import Case, Contender
from benchmarks.cases import CASES
from benchmarks.cases.checks import percentile
from benchmarks.cases.soak import Reading, compare_thirds
from benchmarks.page import CASES_PAGE, PAGE, render_bars, render_cases, write_pages
from benchmarks.report import format_number, missed_bars, show_bars, show_case
from benchmarks.results import CaseResult, Run, Series, load, save

OURS, FORMER = "this project", "procrastinate 3.10.0"


def _case(name: str = "drain_sync", **rates: list[float]) -> CaseResult:
    labels = {"ours": OURS, "former": FORMER}
    rounds = zip(*rates.values(), strict=True)
    measured = tuple(
        {labels[name]: {"jobs/s": rate} for name, rate in zip(rates, values, strict=True)} for values in rounds
    )
    return CaseResult(name, measured)


def _run(*cases: CaseResult) -> Run:
    return Run(
        "2026-01-01 00:00 UTC", {"name": "full", "rounds": 3}, {"processors": 2}, {"PostgreSQL": "18"}, "", cases
    )


def test_a_series_tells_its_median_and_how_far_the_furthest_round_was_off() -> None:
    assert Series((10.0, 30.0, 20.0)).median == 20
    assert Series((10.0, 30.0, 20.0)).spread == 0.5


def test_a_ratio_is_taken_within_each_round_so_that_a_slow_round_does_not_matter() -> None:
    case = _case(ours=[1000.0, 100.0, 900.0], former=[100.0, 10.0, 100.0])
    ratios = case.ratios(OURS, "jobs/s", (FORMER,))
    assert ratios is not None
    assert ratios.median == 10


def test_of_several_references_the_best_counts() -> None:
    case = CaseResult("c", ({"a": {"x": 6.0}, "b": {"x": 2.0}, "c": {"x": 3.0}},))
    ratios = case.ratios("a", "x", ("b", "c", "not installed"))
    assert ratios is not None
    assert ratios.values == (2.0,)


@pytest.mark.parametrize(
    ("bar", "verdict"),
    [
        (Bar("drain_sync", "jobs/s", over=(FORMER,), at_least=8), "met"),
        (Bar("drain_sync", "jobs/s", over=(FORMER,), at_least=10.5), "missed"),
        (Bar("drain_sync", "jobs/s", at_most=1000), "met"),
        (Bar("drain_sync", "jobs/s", at_most=1000, worst=True), "missed"),
        (Bar("drain_sync", "jobs/s", at_least=1000, worst=True), "missed"),
        (Bar("drain_sync", "jobs/s", over=("Oban",), at_least=1), "not measured"),
        (Bar("drain_async", "jobs/s", at_least=1), "not measured"),
    ],
)
def test_a_bar_is_met_or_missed_or_was_not_measured(bar: Bar, verdict: str) -> None:
    run = _run(_case(ours=[1000.0, 900.0, 1100.0], former=[100.0, 100.0, 100.0]))
    assert bar.verdict(run) == verdict


def test_a_bar_whose_contender_failed_is_missed() -> None:
    run = _run(CaseResult("drain_sync", ({},), failures={OURS: "3 jobs were lost"}))
    assert [bar.case for bar in missed_bars(run)] == ["drain_sync"]


def test_a_bar_over_a_peer_that_cannot_be_installed_is_not_missed() -> None:
    rounds = ({OURS: {"jobs/s": 1e6, "WAL bytes/job": 500.0}},)
    left_out = {label: "no wheel" for bar in BARS if bar.case == "drain_async" for label in bar.over}
    assert missed_bars(_run(CaseResult("drain_async", rounds, left_out))) == []


def test_every_bar_names_a_case_and_contenders_that_there_are() -> None:
    contenders = {case.name: {contender.label for contender in case.contenders} for case in CASES}
    for bar in BARS:
        assert {bar.contender, *bar.over} <= contenders[bar.case], bar


def test_a_run_is_read_as_it_was_written(tmp_path: pathlib.Path) -> None:
    run = _run(_case(ours=[1.0, 2.0], former=[0.5, 0.25]))
    save(run, tmp_path / "deep" / "run.json")
    assert load(tmp_path / "deep" / "run.json") == run


def test_the_tables_show_medians_spreads_failures_and_verdicts() -> None:
    result = _case(ours=[1000.0, 900.0, 1100.0], former=[100.0, 100.0, 100.0])
    console = Console(file=io.StringIO(), width=200)
    case = Case("drain_sync", "Drain", (Contender(OURS, lambda bench: {}),))
    show_case(console, case, result, seconds=1)
    show_bars(console, _run(result))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "1,000 ±10%" in text
    assert "met" in text


def test_the_pages_get_the_figures_between_their_markers(tmp_path: pathlib.Path) -> None:
    pages = tmp_path / "bars.md", tmp_path / "cases.md"
    for page in pages:
        page.write_text("before\n<!-- figures: written by `make bench` -->\nold\n<!-- end of figures -->\nafter\n")
    run = _run(_case(ours=[1000.0], former=[100.0]))
    write_pages(run, CASES, *pages)
    once = [page.read_text() for page in pages]
    write_pages(run, CASES, *pages)
    assert [page.read_text() for page in pages] == once
    for text, figures in zip(once, (render_bars(run), render_cases(run, CASES)), strict=True):
        assert text.startswith("before\n")
        assert text.endswith("\nafter\n")
        assert "old" not in text
        assert figures in text
    assert "| `drain_sync` | jobs/s: this project / procrastinate 3.10.0 | 10 |" in once[0]
    assert "| this project | 1,000 |" in once[1]


def _reading(**values: float) -> Reading:
    named = {field.name: 1.0 for field in dataclasses.fields(Reading)}
    return Reading(**{**named, **values})  # type: ignore[arg-type]


def test_a_soak_compares_its_last_third_with_its_second() -> None:
    sizes = [100.0, 50.0, 10.0, 12.0, 11.0, 18.0]
    figures = compare_thirds([_reading(tables=size) for size in sizes])
    assert figures["MiB of tables"] == 18
    assert figures["MiB of tables, growth"] == 1.5
    assert figures["MiB of memory, growth"] == 1


def test_a_reading_of_zero_that_stays_zero_has_not_grown() -> None:
    figures = compare_thirds([_reading(dead_rows=0.0) for _ in range(3)])
    assert figures["dead rows, growth"] == 1


def test_a_reading_that_grows_from_zero_has_grown_without_bound() -> None:
    readings = [_reading(dead_rows=number) for number in (0.0, 0.0, 5.0)]
    assert compare_thirds(readings)["dead rows, growth"] == float("inf")


def test_a_soak_runs_only_if_it_is_named() -> None:
    default = {case.name for case in choose_cases(parse(["--rounds", "1"]))}
    assert "soak" not in default
    assert "drain_async" in default
    for arguments in (["--soak", "--minutes", "2"], ["--case", "soak"]):
        assert [case.name for case in choose_cases(parse(arguments))] == ["soak"]


def test_a_soak_that_is_too_short_to_compare_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["--soak", "--minutes", "1"])
    assert "the end is compared with the middle" in capsys.readouterr().err


def test_a_run_leaves_the_text_around_its_figures_on_the_pages_of_figures(tmp_path: pathlib.Path) -> None:
    real, copies = (PAGE, CASES_PAGE), (tmp_path / "figures.md", tmp_path / "figures-by-case.md")
    for page, copy in zip(real, copies, strict=True):
        copy.write_text(page.read_text())
    write_pages(_run(_case(ours=[1000.0], former=[100.0])), CASES, *copies)
    for page, copy in zip(real, copies, strict=True):
        before, after = page.read_text(), copy.read_text()
        assert after.partition("<!-- figures:")[0] == before.partition("<!-- figures:")[0]
        assert after.partition("<!-- end of figures -->")[2] == before.partition("<!-- end of figures -->")[2]
        assert after != before
    assert "\n## The move from 3.x\n" in copies[0].read_text()


def test_a_page_without_a_place_for_the_figures_is_refused(tmp_path: pathlib.Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("no markers")
    with pytest.raises(ValueError, match="no place for the figures"):
        write_pages(_run(), CASES, page, page)


@pytest.mark.parametrize(
    ("value", "text"), [(12345.6, "12,346"), (123.4, "123"), (12.34, "12.3"), (0.0123, "0.0123"), (0, "0")]
)
def test_a_number_is_shown_with_the_digits_that_mean_something(value: float, text: str) -> None:
    assert format_number(value) == text


def test_a_percentile_is_one_of_the_values() -> None:
    values = [float(value) for value in range(1, 101)]
    assert percentile(values, 0.5) == 50
    assert percentile(values, 0.99) == 99
    assert percentile([7.0], 0.5) == 7
