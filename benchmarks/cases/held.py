"""Cases for the rate while another session keeps a transaction open, so that vacuum cannot clean."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.bench import Bench
from benchmarks.case import Case, Contender
from benchmarks.cases.backlogs import BACKLOGS, Backlog, add_ready_jobs, backlog_database, worker_options
from benchmarks.cases.drains import check_effects, check_recorded, wait_until_recorded
from benchmarks.peers.driving import MARK
from benchmarks.results import Metrics
from benchmarks.server import Database
from benchmarks.systems import AWA, PGQUEUER, System

_JOBS_PER_SECOND = 5_000
"""Number of jobs to run for each second of the option ``--held``. Their dead rows slow down the fetches."""
_MEBI = 1024 * 1024
_SIZES = """
SELECT sum(pg_table_size(relid)), sum(pg_indexes_size(relid)), sum(n_dead_tup) FROM pg_stat_user_tables
"""


@contextmanager
def open_transaction(database: Database) -> Iterator[None]:
    """Hold a snapshot and a transaction id inside the block."""
    with database.connect() as connection:
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        connection.execute("SELECT pg_current_xact_id()")
        yield
        connection.execute("ROLLBACK")


@dataclasses.dataclass(frozen=True)
class Sizes:
    """The sizes of all tables and of all indexes in bytes, and the number of dead rows."""

    tables: int
    indexes: int
    dead_rows: int

    @classmethod
    def read(cls, database: Database) -> Sizes:
        """Return the sizes in a database."""
        with database.connect() as connection:
            return cls(*map(int, connection.execute(_SIZES).fetchall()[0]))

    def growth_to(self, later: Sizes) -> dict[str, float]:
        """Return how much has come on, as figures."""
        return {
            "tables, MiB more": (later.tables - self.tables) / _MEBI,
            "indexes, MiB more": (later.indexes - self.indexes) / _MEBI,
            "dead rows": later.dead_rows,
        }


@dataclasses.dataclass(frozen=True)
class DrainWhileHeld:
    """A long drain behind an open transaction. The figure is the rate at the end, with the most dead rows."""

    backlog: Backlog | None
    held: bool = True

    def __call__(self, bench: Bench) -> Metrics:
        jobs = _count_jobs(bench)
        queues = self.backlog.queues if self.backlog else None
        with bench.server.copy(backlog_database(bench, self.backlog)) as database:
            system = add_ready_jobs(database, jobs)
            database.execute("ANALYZE")
            return _drain(bench, system, database, jobs, self.held, options=worker_options(queues))


@dataclasses.dataclass(frozen=True)
class PeerDrainWhileHeld:
    """The same drain by a peer, without a backlog."""

    system: System
    asked: dict[str, Any]

    def __call__(self, bench: Bench) -> Metrics:
        jobs = _count_jobs(bench)
        with bench.server.copy(bench.waiting_jobs(self.system, jobs)) as database:
            return _drain(bench, self.system, database, jobs, held=True, **self.asked)


def _count_jobs(bench: Bench) -> int:
    return int(bench.scale.held_seconds * _JOBS_PER_SECOND) // MARK * MARK


def _drain(bench: Bench, system: System, database: Database, jobs: int, held: bool, **asked: Any) -> Metrics:
    began, before = time.monotonic(), Sizes.read(database)
    with bench.drive(system, "drain", database, jobs=jobs, **asked) as driver:
        driver.expect("ready")
        bench.server.checkpoint()
        with open_transaction(database) if held else _nothing():
            driver.go_on()
            ran = driver.expect("ran", timeout=900)
            wait_until_recorded(system, database)
            seconds = time.monotonic() - began
            check_effects(driver, jobs)
            growth = before.growth_to(Sizes.read(database))
    check_recorded(system, database, jobs)
    return {
        "jobs/s": _last_rate(ran["marks"], bench.scale.behind_backlog),
        "jobs": jobs,
        "seconds": seconds,
        **growth,
    }


@contextmanager
def _nothing() -> Iterator[None]:
    yield


def _last_rate(marks: list[float], jobs: int) -> float:
    """Return the rate of the last jobs, by the times of their effects."""
    steps = min(jobs // MARK, len(marks) - 1)
    return steps * MARK / (marks[-1] - marks[-1 - steps])


HELD = (
    Case(
        "held",
        "Rate at the end of a long drain while another session holds a transaction open",
        (
            Contender("no open transaction", DrainWhileHeld(None, held=False)),
            Contender("held, empty", DrainWhileHeld(None)),
            *(Contender(f"held, {backlog.name}", DrainWhileHeld(backlog)) for backlog in BACKLOGS),
            Contender("PGQueuer, batch 100, held, empty", PeerDrainWhileHeld(PGQUEUER, {"batch": 100})),
            Contender("Awa, 256, held, empty", PeerDrainWhileHeld(AWA, {"concurrency": 256})),
        ),
        rounds="one",
    ),
)
