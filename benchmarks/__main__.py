"""The command line: ``python -m benchmarks``."""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
import signal
import sys
from collections.abc import Sequence

from rich.console import Console

from benchmarks.bench import FULL, QUICK, Bench, Scale
from benchmarks.case import Case
from benchmarks.cases import CASES
from benchmarks.environments import WORKPLACE
from benchmarks.page import PLOT, write_pages
from benchmarks.plot import draw
from benchmarks.report import missed_bars, show_bars, show_case
from benchmarks.results import CaseResult, Run, load, save
from benchmarks.running import describe_machine, now, run_cases
from benchmarks.server import Server

_SHORTEST_SOAK = 2
"""In minutes."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the chosen cases. Return 0 if every bar was met and no contender failed, and 1 otherwise."""
    options = parse(arguments)
    console = Console()
    if options.list:
        for case in CASES:
            console.print(f"{case.name:28} {case.title}", highlight=False)
        return 0
    if options.page_from:
        _publish(load(options.page_from))
        return 0
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # stops the server, too
    run = _run(console, choose_cases(options), _scale(options), options.note, options.json)
    draw(run, options.json.with_suffix(".svg"))
    show_bars(console, run)
    console.print(f"Everything measured is in {options.json}.", highlight=False)
    if options.page:
        _publish(run)
    return 1 if missed_bars(run) or any(case.failures for case in run.cases) else 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the options of the command."""
    return _parser().parse_args(arguments)


def _publish(run: Run) -> None:
    write_pages(run, CASES)
    draw(run, PLOT)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__)
    names = [case.name for case in CASES]
    parser.add_argument("--list", action="store_true", help="list the cases without running any")
    parser.add_argument("--case", action="append", choices=names, metavar="NAME", help="run this case (repeatable)")
    parser.add_argument("--quick", action="store_true", help="run smaller main cases in under two minutes")
    parser.add_argument("--rounds", type=int, help="number of rounds")
    parser.add_argument("--held", type=float, metavar="SECONDS", help="how long an old transaction stays open")
    parser.add_argument(
        "--soak", action="store_true", help="run 1,000 jobs a second for half an hour, and no other case"
    )
    parser.add_argument("--minutes", type=_minutes, help="how long --soak takes")
    parser.add_argument("--note", default="", help="a note on the conditions of the run, for the page")
    parser.add_argument("--json", type=pathlib.Path, default=WORKPLACE / "results.json", help="file for all results")
    parser.add_argument("--page", action="store_true", help="write the figures and the plot of the documentation")
    parser.add_argument("--page-from", type=pathlib.Path, metavar="JSON", help="write them from an earlier run")
    return parser


def _minutes(text: str) -> int:
    minutes = int(text)
    if minutes < _SHORTEST_SOAK:
        raise argparse.ArgumentTypeError(f"at least {_SHORTEST_SOAK}, because the end is compared with the middle")
    return minutes


def _scale(options: argparse.Namespace) -> Scale:
    scale = QUICK if options.quick else FULL
    changes = {"rounds": options.rounds, "held_seconds": options.held, "soak_minutes": options.minutes}
    return dataclasses.replace(scale, **{name: value for name, value in changes.items() if value is not None})


def choose_cases(options: argparse.Namespace) -> list[Case]:
    """Return the cases that are named, or else those of the full or of the quick run."""
    named = [*(options.case or ()), *(["soak"] if options.soak else ())]
    if named:
        return [case for case in CASES if case.name in named]
    return [case for case in CASES if not case.on_request and (case.quick or not options.quick)]


def _run(console: Console, cases: Sequence[Case], scale: Scale, note: str, file: pathlib.Path) -> Run:
    """Run the cases. The file has the results so far after each case."""
    started, machine = now(), describe_machine()
    by_name = {case.name: case for case in cases}
    results: list[CaseResult] = []
    server = Server(WORKPLACE)
    try:
        bench = Bench(server, scale, tell=console.print)
        with console.status("starting") as status:

            def made() -> Run:
                return Run(started, dataclasses.asdict(scale), machine, bench.versions(), note, tuple(results))

            def after(result: CaseResult, seconds: float) -> None:
                results.append(result)
                show_case(console, by_name[result.name], result, seconds)
                save(made(), file)

            run_cases(bench, cases, scale.rounds, status.update, after)
        return made()
    finally:
        server.close()


if __name__ == "__main__":
    sys.exit(main())
