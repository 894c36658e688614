"""Runs cases, round by round and contender by contender."""

from __future__ import annotations

import datetime
import os
import platform
import time
from collections.abc import Callable, Sequence

from benchmarks.bench import Bench
from benchmarks.case import Case
from benchmarks.driver import DriverFailed
from benchmarks.environments import CannotInstall
from benchmarks.results import CaseResult, CheckFailed, Metrics

Say = Callable[[str], None]


def run_case(bench: Bench, case: Case, rounds: int, say: Say) -> CaseResult:
    """Run the contenders of a case in turn, in this number of rounds.

    A contender that cannot be installed is left out. A contender that fails is reported, and the others continue.
    """
    measured: list[dict[str, Metrics]] = []
    left_out: dict[str, str] = {}
    failures: dict[str, str] = {}
    for number in range(1, rounds + 1):
        this_round: dict[str, Metrics] = {}
        for contender in case.contenders:
            if contender.label in left_out or contender.label in failures:
                continue
            say(f"{case.name}: {contender.label} (round {number} of {rounds})")
            try:
                this_round[contender.label] = contender.run(bench)
            except CannotInstall as error:
                left_out[contender.label] = str(error)
            except (CheckFailed, DriverFailed) as error:
                failures[contender.label] = str(error)
        measured.append(this_round)
    return CaseResult(case.name, tuple(measured), left_out, failures)


def rounds_of(case: Case, rounds: int) -> int:
    """Return the number of rounds of a case for this number of rounds of the suite."""
    return 1 if case.rounds == "one" else rounds


def run_cases(
    bench: Bench, cases: Sequence[Case], rounds: int, say: Say, after: Callable[[CaseResult, float], None]
) -> tuple[CaseResult, ...]:
    """Run cases one after another. Call ``after`` with the result and the duration in seconds of each."""
    results = []
    for case in cases:
        began = time.monotonic()
        result = run_case(bench, case, rounds_of(case, rounds), say)
        results.append(result)
        after(result, time.monotonic() - began)
    return tuple(results)


def describe_machine() -> dict[str, str | int | float]:
    """Return the properties of this machine that matter for the figures."""
    return {
        "processors": os.cpu_count() or 0,
        "architecture": platform.machine(),
        "system": platform.system(),
        "python": platform.python_version(),
        "load before": round(os.getloadavg()[0], 2),
    }


def now() -> str:
    """Return the current time as text."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
