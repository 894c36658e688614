"""Concurrent writers with one job per transaction, and a worker that runs their jobs."""

from __future__ import annotations

import dataclasses
import time

from benchmarks.bench import Bench
from benchmarks.case import Case, Contender
from benchmarks.cases.checks import check_rows, empty_queue
from benchmarks.cases.drains import check_effects, check_recorded, wait_until_recorded
from benchmarks.cases.writers import WARM_UP, WRITER_COUNT
from benchmarks.results import CheckFailed, Metrics
from benchmarks.server import Database, Server
from benchmarks.systems import FORMER, OURS, System

_LISTENING_TIMEOUT = 30.0
_LOOK_INTERVAL = 0.01
_LISTENERS = r"""
SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND state = 'idle' AND query ~ '^\s*LISTEN '
"""


@dataclasses.dataclass(frozen=True)
class WritersAndWorker:
    """Sixteen processes that defer at the same time, and one that runs their jobs.

    The worker is that of the drains. It has run the warm-up jobs when the measurement begins.
    """

    system: System

    def __call__(self, bench: Bench) -> Metrics:
        asked = {"writers": WRITER_COUNT, "warm_up": WARM_UP, "jobs": bench.scale.writer_jobs}
        rows = WRITER_COUNT * (WARM_UP + bench.scale.writer_jobs)
        options = {"concurrency": 100}
        with bench.server.copy(empty_queue(bench, self.system)) as database:
            with bench.drive(self.system, "writers", database, **asked) as writers:
                writers.expect("ready")
                # With the statistics of an empty table, a fetch of 3.10.0 took up to 300 ms until autovacuum ran.
                database.execute("ANALYZE")
                with bench.drive(self.system, "drain", database, jobs=rows, options=options) as worker:
                    worker.expect("ready")
                    worker.go_on()
                    _wait_until_listening(bench.server, database)
                    wait_until_recorded(self.system, database)
                    bench.server.checkpoint()
                    writers.go_on()
                    worker.expect("ran")
                    succeeded_at, _ = wait_until_recorded(self.system, database)
                    check_effects(worker, rows)
                report = writers.finish()
            check_recorded(self.system, database, rows)
            check_rows(database, rows, status="succeeded")
        jobs = WRITER_COUNT * bench.scale.writer_jobs
        return {
            "jobs/s": jobs / report["seconds"],
            "jobs written and run/s": jobs / (succeeded_at - report["began_at"]),
        }


def _wait_until_listening(server: Server, database: Database) -> None:
    deadline = time.time() + _LISTENING_TIMEOUT
    while not server.number(_LISTENERS, database.name):
        if time.time() > deadline:
            raise CheckFailed(f"after {_LISTENING_TIMEOUT:g} seconds, the worker does not listen")
        time.sleep(_LOOK_INTERVAL)


WRITERS_AND_WORKER = (
    Case(
        "writers_and_worker",
        "16 concurrent writers, one job per transaction, and a worker that runs their jobs, concurrency 100",
        (
            Contender(OURS.label, WritersAndWorker(OURS)),
            Contender(FORMER.label, WritersAndWorker(FORMER)),
        ),
    ),
)
