"""Print the processor time of jobs without a limit in PostgreSQL: ``python -m tests.core.cost_program URL BACKLOG``.

Works with the package of any release. ``BACKLOG`` jobs wait all the time, in each of two ways. For each line of
input, it defers, fetches and finishes some jobs, and prints the nanoseconds that its backend took for each.
"""

from __future__ import annotations

import itertools
import json
import pathlib
import sys

import sqlalchemy as sa

from procrastinate import core
from procrastinate.core import FinishedJob, NewJob, Status

BATCHES, JOBS = 25, 20
WAITING = [
    {"scheduled_at": "now() + interval '1 day'"},
    {"lock": "'held'", "readiness": "2"},
]
"""The jobs of the backlog: not due, and behind a lock."""


def nanoseconds(pid: int) -> int:
    """Return the time for which a process has been on a processor."""
    return int(pathlib.Path(f"/proc/{pid}/schedstat").read_text().split()[0])


def fill(connection: sa.Connection, number: int) -> None:
    """Create the jobs that wait."""
    for values in WAITING:
        columns = {"task_name": "'waits'", "queue_name": "'default'"} | values
        names, expressions = ", ".join(columns), ", ".join(columns.values())
        rows = f"SELECT {expressions} FROM generate_series(1, {number})"  # noqa: S608
        connection.exec_driver_sql(f"INSERT INTO procrastinate_jobs ({names}) {rows}")


def measure(connection: sa.Connection, worker_id: int, pid: int) -> list[int]:
    """Return the times of the defers, the fetches and the ends."""
    times = [nanoseconds(pid)]
    for _ in range(BATCHES):
        core.defer_jobs(connection, [NewJob(queue_name="default", task_name="t", args="{}") for _ in range(JOBS)])
    times.append(nanoseconds(pid))
    fetched = [core.fetch_jobs(connection, worker_id=worker_id, limit=JOBS) for _ in range(BATCHES)]
    times.append(nanoseconds(pid))
    for jobs in fetched:
        finished = [FinishedJob(id=job.id, attempts=0, status=Status.SUCCEEDED) for job in jobs]
        assert len(core.finish_jobs(connection, finished, worker_id=worker_id)) == JOBS
    times.append(nanoseconds(pid))
    connection.exec_driver_sql("DELETE FROM procrastinate_jobs WHERE task_name = 't'")
    connection.exec_driver_sql("VACUUM procrastinate_jobs, procrastinate_events")
    return [later - earlier for earlier, later in itertools.pairwise(times)]


def main(url: str, backlog: str) -> None:
    """Measure once for each line of input."""
    with sa.create_engine(url, isolation_level="AUTOCOMMIT").connect() as connection:
        fill(connection, int(backlog))
        connection.exec_driver_sql("VACUUM ANALYZE")
        connection.exec_driver_sql("UPDATE procrastinate_workers SET last_heartbeat = now() + interval '1 day'")
        worker_id = core.register_worker(connection)
        pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        for _ in sys.stdin:
            print(json.dumps(measure(connection, worker_id, pid)), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
