"""The queue for tests: defers jobs, waits for them, and checks their outcomes."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

import procrastinate
from tests.database import libpq_url
from tests.faults.ledger import Ledger
from tests.faults.verdict import Verdict
from tests.faults.waiting import PATIENCE, until

_DOUBLED = """
SELECT count(DISTINCT later.job_id) FROM procrastinate_events AS later
JOIN procrastinate_events AS ended ON ended.job_id = later.job_id AND ended.id < later.id
WHERE ended.type IN ('succeeded', 'failed', 'aborted', 'cancelled')
"""


class Queue:
    """A database of jobs on the faulty server.

    Parameters
    ----------
    url:
        The database, for SQLAlchemy.
    ledger:
        Where its jobs write down their runs.
    """

    def __init__(self, url: str, ledger: Ledger) -> None:
        self.url = url
        self.ledger = ledger
        self._engine = sa.create_engine(url, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
        self._app = procrastinate.App(connector=procrastinate.SyncPsycopgConnector(conninfo=libpq_url(url)))
        self._app.open()
        self._began = time.monotonic()

    def close(self) -> None:
        """Close the connections."""
        self._app.close()
        self._engine.dispose()

    def defer(self, task: str, number: int, lock: str | None = None, queue: str = "default", **arguments: Any) -> int:
        """Defer a job, and return its id."""
        return self._app.configure_task(task, lock=lock, queue=queue).defer(number=number, **arguments)

    def defer_many(self, task: str, numbers: Iterable[int], **arguments: Any) -> None:
        """Defer a job for each number."""
        calls = [{"number": number, **arguments} for number in numbers]
        self._app.configure_task(task, queue="default").batch_defer(*calls)

    def sql(self, statement: str, **parameters: Any) -> Any:
        """Run a statement, and return the first value."""
        with self._engine.connect() as connection:
            result = connection.execute(sa.text(statement), parameters)
            return result.scalar() if result.returns_rows else None

    def statuses(self) -> dict[str, int]:
        """Return the number of jobs by status."""
        with self._engine.connect() as connection:
            rows = connection.execute(sa.text("SELECT status::text, count(*) FROM procrastinate_jobs GROUP BY 1"))
            return {row[0]: row[1] for row in rows}

    def came_through(self, status: str = "succeeded") -> int:
        """Count the jobs with this status and a finished run in the ledger. The status alone does not prove a run."""
        numbers = "SELECT coalesce(args->>'number', args->>'timestamp')::bigint FROM procrastinate_jobs"
        with self._engine.connect() as connection:
            rows = connection.execute(sa.text(f"{numbers} WHERE status::text = :status"), {"status": status})
            ended = list(rows.scalars())
        finished = self.ledger.finished()
        return sum(number in finished for number in ended)

    def status(self, job_id: int) -> str:
        """Return the status of a job."""
        return str(self.sql("SELECT status::text FROM procrastinate_jobs WHERE id = :id", id=job_id))

    def attempts(self, job_id: int) -> int:
        """Return how often the job has left ``doing``."""
        return int(self.sql("SELECT attempts FROM procrastinate_jobs WHERE id = :id", id=job_id))

    def becomes(self, job_id: int, status: str, within: float = PATIENCE) -> None:
        """Wait until a job has this status."""
        until(lambda: self.status(job_id) == status, f"job {job_id} becomes {status}: {self.statuses()}", within)

    def has_started(self, number: int, times: int = 1) -> None:
        """Wait until a job has been started `times` times."""
        until(lambda: self.ledger.starts(number) >= times, f"job {number} starts")

    def has_succeeded(self, count: int, within: float = PATIENCE) -> None:
        """Wait until `count` jobs have succeeded."""
        until(lambda: self.statuses().get("succeeded", 0) >= count, f"{count} jobs have succeeded", within)

    def is_empty(self, within: float = PATIENCE) -> None:
        """Wait until no job waits or runs."""
        try:
            until(lambda: not self.statuses().keys() & {"todo", "doing"}, "all jobs have ended", within)
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.statuses()}") from None

    def entries_of_ticks(self) -> list[int]:
        """Return the ticks of the periodic task whose jobs have run."""
        return sorted(entry.number for entry in self.ledger.entries() if entry.moment == "end" and entry.number > 10**9)

    def start_clock(self) -> None:
        """Restart the clock of the verdict, which otherwise counts from the start of the test."""
        self._began = time.monotonic()

    def verdict(self, jobs: int, *, ended: str = "succeeded", recovered: int | None = None) -> Verdict:
        """Return the verdict on `jobs` jobs, all of which should have run and ended in the status `ended`.

        Parameters
        ----------
        recovered:
            The number of jobs that ended as they should, if not all should end in the same status.
        """
        return Verdict(
            jobs=jobs,
            recovered=self.came_through(ended) if recovered is None else recovered,
            again=self.ledger.run_again(),
            doubled=int(self.sql(_DOUBLED)),
            seconds=round(time.monotonic() - self._began, 1),
        )
