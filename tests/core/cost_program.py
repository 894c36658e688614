"""Print the processor time of jobs without a limit in PostgreSQL: ``python -m tests.core.cost_program URL``.

Works with the package of any release. For each line of input, it defers, fetches and finishes some jobs, and prints the
nanoseconds that its backend took for each.
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


def nanoseconds(pid: int) -> int:
    """Return the time for which a process has been on a processor."""
    return int(pathlib.Path(f"/proc/{pid}/schedstat").read_text().split()[0])


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
    connection.exec_driver_sql("TRUNCATE procrastinate_jobs, procrastinate_events")
    return [later - earlier for earlier, later in itertools.pairwise(times)]


def main(url: str) -> None:
    """Measure once for each line of input."""
    with sa.create_engine(url, isolation_level="AUTOCOMMIT").connect() as connection:
        connection.exec_driver_sql("UPDATE procrastinate_workers SET last_heartbeat = now() + interval '1 day'")
        worker_id = core.register_worker(connection)
        pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        for _ in sys.stdin:
            print(json.dumps(measure(connection, worker_id, pid)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
