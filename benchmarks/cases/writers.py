"""Concurrent writers with one job per transaction: with a busy worker, with an idle worker, and without NOTIFY."""

from __future__ import annotations

import dataclasses

from benchmarks.bench import Bench
from benchmarks.case import Case, Contender
from benchmarks.cases.backlogs import BUSY_WORKER
from benchmarks.cases.checks import check_rows, empty_queue, run_program
from benchmarks.results import CheckFailed, Metrics
from benchmarks.systems import FORMER, OURS, System

WRITER_COUNT = 16
WARM_UP = 10
"""Jobs that each writer defers before the clock starts."""
WITHOUT_NOTIFY = "this project without NOTIFY"
IDLE = "this project, idle worker"

_SILENCE = """
DO $do$
DECLARE
    definition text;
BEGIN
    CREATE FUNCTION bench_no_notify(channel text, payload text) RETURNS void LANGUAGE sql AS '';
    FOR definition IN
        SELECT pg_get_functiondef(oid) FROM pg_proc
        WHERE pronamespace = 'public'::regnamespace AND prokind = 'f' AND prosrc LIKE '%pg_notify(%'
    LOOP
        EXECUTE replace(definition, 'pg_notify(', 'bench_no_notify(');
    END LOOP;
END
$do$
"""


@dataclasses.dataclass(frozen=True)
class Writers:
    """Sixteen processes that defer at the same time, while a listener is connected.

    Parameters
    ----------
    is_busy:
        If true, a worker is busy and needs no notification.
    notify:
        If false, no NOTIFY is sent.
    """

    system: System
    is_busy: bool = False
    notify: bool = True

    def __call__(self, bench: Bench) -> Metrics:
        with bench.server.copy(empty_queue(bench, self.system)) as database:
            if not self.notify:
                database.execute(_SILENCE)
            if self.is_busy:
                database.execute(BUSY_WORKER)
            with database.connect() as listener:
                listener.execute("LISTEN procrastinate_any_queue_v1")
                asked = {"writers": WRITER_COUNT, "warm_up": WARM_UP, "jobs": bench.scale.writer_jobs}
                report = run_program(bench, self.system, "writers", database, **asked)
                heard = any(True for _ in listener.notifies(timeout=0.2))
            _check_heard(heard, self.notify and not self.is_busy)
            check_rows(database, report["rows"])
        return {"jobs/s": WRITER_COUNT * bench.scale.writer_jobs / report["seconds"]}


def _check_heard(heard: bool, expected: bool) -> None:
    if heard is not expected:
        raise CheckFailed(f"notifications were {'heard' if heard else 'not heard'}")


WRITERS = (
    Case(
        "writers",
        "16 concurrent writers, one job a transaction, while workers have enough to do",
        (
            Contender(OURS.label, Writers(OURS, is_busy=True)),
            Contender(IDLE, Writers(OURS)),
            Contender(WITHOUT_NOTIFY, Writers(OURS, notify=False)),
            Contender(FORMER.label, Writers(FORMER)),
        ),
    ),
)
