"""Helpers of several cases."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks.bench import Bench
from benchmarks.driver import Driver
from benchmarks.results import CheckFailed
from benchmarks.server import Database
from benchmarks.systems import System

_CONNECTIONS = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND backend_type = 'client backend'"


def percentile(values: Sequence[float], part: float) -> float:
    """Return the smallest value that this fraction of all values does not exceed."""
    ordered = sorted(values)
    return ordered[max(math.ceil(part * len(ordered)), 1) - 1]


def empty_queue(bench: Bench, system: System) -> Database:
    """Return a template database with the schema of a system and without jobs."""
    return bench.waiting_jobs(system, 0)


def connections(bench: Bench, database: Database) -> int:
    """Return the number of connections to a database."""
    return bench.server.number(_CONNECTIONS, database.name)


def check_rows(database: Database, expected: int, status: str = "todo") -> None:
    """Check that this number of jobs has a status, ``todo`` by default, and that each has a ``deferred`` event."""
    jobs = database.number("SELECT count(*) FROM procrastinate_jobs WHERE status = %s", status)
    events = database.number("SELECT count(DISTINCT job_id) FROM procrastinate_events WHERE type = 'deferred'")
    if jobs != expected or events != expected:
        raise CheckFailed(f"{expected} jobs were deferred; {jobs} are there, {events} of them with their history")


@contextlib.contextmanager
def serving(bench: Bench, system: System, database: Database, processes: int, **asked: Any) -> Iterator[list[Driver]]:
    """Run worker processes during the block, which begins once all of them are ready."""
    with contextlib.ExitStack() as stack:
        drivers = [stack.enter_context(bench.drive(system, "serve", database, **asked)) for _ in range(processes)]
        for driver in drivers:
            driver.expect("ready")
        yield drivers


def run_program(bench: Bench, system: System, program: str, database: Database, **asked: Any) -> dict[str, Any]:
    """Run a driver program that waits for one line before it begins, and return its report."""
    with bench.drive(system, program, database, **asked) as driver:
        driver.expect("ready")
        bench.server.checkpoint()
        driver.go_on()
        return driver.finish()
