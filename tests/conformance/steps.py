"""Short helpers for operations on the queue. All of them go through ``run``."""

from __future__ import annotations

import datetime
from typing import Any

import sqlalchemy as sa

from procrastinate import core
from procrastinate._checks.times import utcnow
from procrastinate.core import FinishedJob, Readiness, Status, StoredJob
from procrastinate.core.tables import (
    errors,
    events,
    hold_offs,
    jobs,
    periodic_defers,
    results,
    starts,
    windows,
    workers,
)
from tests.conformance.runs import Run
from tests.database import new_job

HOUR = datetime.timedelta(hours=1)
PAST = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
FUTURE = datetime.datetime(2100, 1, 1, tzinfo=datetime.UTC)


class Rollback(Exception):
    """Leaves a transaction, and rolls it back."""


def query(connection: sa.Connection, statement: str, **parameters: Any) -> list[tuple[Any, ...]]:
    """Run plain SQL as an operation, and return its rows, if any."""
    result = connection.execute(sa.text(statement), parameters)
    return [tuple(row) for row in result] if result.returns_rows else []


def defer(run: Run, **job: Any) -> int:
    """Insert a job, and return its id."""
    job_id = run(core.defer_job, new_job(**job))
    assert job_id is not None
    return job_id


def settle(run: Run) -> int:
    """Promote until nothing is left to decide, and return how many jobs became ready."""
    promoted = 0
    for _ in range(20):
        promotion = run(core.promote_jobs)
        admission = run(core.admit_jobs) if promotion.has_openings else core.Admission()
        promoted += promotion.promoted + admission.admitted
        if not promotion.again and not admission.again:
            return promoted
    raise AssertionError("promote_jobs comes to no end")


def worker(run: Run) -> int:
    """Register a worker."""
    return run(core.register_worker)


def fetch(run: Run, worker_id: int, limit: int = 10, queues: list[str] | None = None) -> list[StoredJob]:
    """Promote what is due, and fetch."""
    settle(run)
    return run(core.fetch_jobs, worker_id=worker_id, limit=limit, queues=queues)


def fetch_ids(run: Run, worker_id: int, limit: int = 10, queues: list[str] | None = None) -> list[int]:
    """Call :func:`fetch`, and return the ids of the jobs."""
    return [job.id for job in fetch(run, worker_id, limit, queues)]


def fetch_one(run: Run, worker_id: int) -> StoredJob:
    """Promote what is due, and fetch one job, which must be there."""
    (job,) = fetch(run, worker_id, limit=1)
    return job


def finish(run: Run, *fetched: StoredJob, status: Status = Status.SUCCEEDED, delete: bool = False) -> set[int]:
    """Record one outcome for jobs of one worker."""
    (worker_id,) = {job.worker_id for job in fetched}
    assert worker_id is not None
    outcomes = [FinishedJob(id=job.id, attempts=job.attempts, status=status, delete=delete) for job in fetched]
    return run(core.finish_jobs, outcomes, worker_id=worker_id)


def stored(run: Run, job_id: int) -> StoredJob:
    """Return a job from the table."""
    (job,) = run(core.list_jobs, core.JobFilter(id=job_id))
    return job


def read_column(connection: sa.Connection, job_id: int, name: str) -> Any:
    """Read one column of a job, as an operation."""
    return connection.execute(sa.select(jobs.c[name]).where(jobs.c.id == job_id)).scalar_one()


def column(run: Run, job_id: int, name: str) -> Any:
    """Return one column of a job."""
    return run(read_column, job_id, name)


def write_columns(connection: sa.Connection, job_id: int, values: dict[str, Any]) -> None:
    """Update columns of a job, like a user with plain SQL."""
    connection.execute(sa.update(jobs).where(jobs.c.id == job_id).values(values))


def change(run: Run, job_id: int, **values: Any) -> None:
    """Update columns of a job, like a user with plain SQL."""
    run(write_columns, job_id, values)


def readiness(run: Run, job_id: int) -> Readiness:
    """Return the readiness of a job."""
    return Readiness(column(run, job_id, "readiness"))


def set_heartbeat(connection: sa.Connection, worker_id: int, heartbeat: datetime.datetime) -> None:
    """Set the time of a worker's last heartbeat, as an operation."""
    connection.execute(sa.update(workers).where(workers.c.id == worker_id).values(last_heartbeat=heartbeat))


def silence(run: Run, worker_id: int, seconds: int = 3600) -> None:
    """Move a worker's last heartbeat `seconds` into the past."""
    run(set_heartbeat, worker_id, utcnow() - datetime.timedelta(seconds=seconds))


def count_details(connection: sa.Connection) -> tuple[int, int]:
    """Count all stored results and all errors, as an operation."""
    count = sa.select(*(sa.select(sa.func.count()).select_from(table).scalar_subquery() for table in (results, errors)))
    kept, raised = connection.execute(count).one()
    return kept, raised


def list_workers(connection: sa.Connection) -> list[int]:
    """List the ids of the registered workers, as an operation."""
    return list(connection.execute(sa.select(workers.c.id).order_by(workers.c.id)).scalars())


def list_history(connection: sa.Connection, job_id: int) -> list[str]:
    """List the types of a job's events in order, as an operation."""
    statement = sa.select(events.c.type).where(events.c.job_id == job_id).order_by(events.c.id)
    return [event_type.value for event_type in connection.execute(statement).scalars()]


def age_history(connection: sa.Connection, job_id: int, age: datetime.timedelta) -> None:
    """Move the events of a job `age` into the past, as an operation."""
    connection.execute(sa.update(events).where(events.c.job_id == job_id).values(at=events.c.at - age))


def list_tick_jobs(connection: sa.Connection) -> list[int | None]:
    """List the job ids of the deferred ticks, as an operation."""
    return list(connection.execute(sa.select(periodic_defers.c.job_id).order_by(periodic_defers.c.id)).scalars())


def age_windows(connection: sa.Connection, seconds: float) -> None:
    """Move starts, windows and hold-offs of limits into the past, as an operation."""
    ago = datetime.timedelta(seconds=seconds)
    connection.execute(sa.update(starts).values(at=starts.c.at - ago))
    connection.execute(sa.update(windows).values(opens_at=windows.c.opens_at - ago))
    connection.execute(sa.update(hold_offs).values(until=hold_offs.c.until - ago))


def pass_time(run: Run, seconds: float) -> None:
    """Let limits be as if this many seconds had passed."""
    run(age_windows, seconds)
