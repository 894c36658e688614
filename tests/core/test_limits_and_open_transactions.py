"""An open transaction of a user on jobs with a limit, and other sessions that go on with all else."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import pytest
import sqlalchemy as sa

from procrastinate import core
from procrastinate.core import FinishedJob, LimitDefinition, Status
from tests.database import new_job

LIMIT = LimitDefinition(name="l", concurrency=2)
STARTED, UNSTARTED, FIRST_IN_LINE, LAST_IN_LINE = range(1, 5)
"""Jobs of the key that the user's transaction touches."""


def _cancel_unstarted(connection: sa.Connection) -> None:
    core.cancel_job(connection, UNSTARTED)


def _cancel_in_line(connection: sa.Connection) -> None:
    core.cancel_job(connection, FIRST_IN_LINE)


def _delete_in_line(connection: sa.Connection) -> None:
    core.cancel_job(connection, LAST_IN_LINE, delete=True)


def _finish(connection: sa.Connection) -> None:
    core.finish_job_by_id(connection, STARTED, status=Status.SUCCEEDED, delete=False)


def _retry(connection: sa.Connection) -> None:
    core.retry_job_by_id(connection, STARTED)


def _defer(connection: sa.Connection) -> None:
    core.defer_job(connection, _of("k"))


def _defer_first_of_its_key(connection: sa.Connection) -> None:
    core.defer_job(connection, _of("unknown so far"))


def _lower(connection: sa.Connection) -> None:
    core.set_limit(connection, LimitDefinition(name="l", concurrency=1))


ACTS = [
    _cancel_unstarted,
    _cancel_in_line,
    _delete_in_line,
    _finish,
    _retry,
    _defer,
    _defer_first_of_its_key,
    _lower,
]


@pytest.fixture
def worker(engine: sa.Engine) -> int:
    """Admit as many jobs of one key as its limit allows, leave two in line, and return the id of a worker."""
    with engine.begin() as connection:
        core.define_limits(connection, [LIMIT])
        core.defer_jobs(connection, [_of("k") for _ in range(4)])
        worker_id = core.register_worker(connection)
    _admit(engine)
    return worker_id


@pytest.mark.parametrize("act", ACTS, ids=lambda act: act.__name__.strip("_"))
def test_an_open_transaction_on_a_job_with_a_limit_makes_no_other_session_wait(
    engine: sa.Engine, worker: int, act: Callable[[sa.Connection], None]
) -> None:
    """Other keys run to their end, and so do jobs without a limit. The same key gets outcomes and new jobs."""
    with engine.begin() as connection:
        assert [job.id for job in core.fetch_jobs(connection, worker_id=worker, limit=1)] == [STARTED]
    with engine.begin() as user:
        act(user)
        with engine.begin() as other:
            _never_wait(other)
            core.defer_jobs(other, [_of("other", queue_name="free") for _ in range(6)])
            core.defer_job(other, new_job(queue_name="free"))
            core.defer_job(other, _of("k"))
        ended = 0
        end = time.monotonic() + 10
        while ended < 7 and time.monotonic() < end:
            _admit(engine)
            ended += _run_ready(engine, worker, queues=["free"])
        assert ended == 7
        if act not in (_finish, _retry):  # these write the row whose outcome it is
            with engine.begin() as other:
                _never_wait(other)
                assert core.finish_jobs(other, [_ended(STARTED)], worker_id=worker)


@pytest.mark.parametrize(
    "act", [_cancel_in_line, _delete_in_line, _defer, _lower], ids=lambda act: act.__name__.strip("_")
)
def test_a_slot_of_the_same_key_is_taken_while_an_open_transaction_touches_its_line(
    engine: sa.Engine, worker: int, act: Callable[[sa.Connection], None]
) -> None:
    with engine.begin() as user:
        act(user)
        assert _run_ready(engine, worker) == (1 if act is _lower else 2)  # it has taken one slot back


def _of(key: str, *, queue_name: str = "default") -> core.NewJob:
    return new_job(limit_name=LIMIT.name, limit_key=key, queue_name=queue_name)


def _ended(job_id: int) -> FinishedJob:
    return FinishedJob(id=job_id, attempts=0, status=Status.SUCCEEDED)


def _admit(engine: sa.Engine) -> None:
    """Promote and admit like a worker, and wait for no lock."""
    for operation in (core.promote_jobs, core.admit_jobs):
        with engine.begin() as other:
            _never_wait(other)
            operation(other)


def _run_ready(engine: sa.Engine, worker_id: int, *, queues: Sequence[str] | None = None) -> int:
    """Fetch the ready jobs and end them. Return their number."""
    with engine.begin() as other:
        _never_wait(other)
        jobs = core.fetch_jobs(other, worker_id=worker_id, limit=10, queues=queues)
    with engine.begin() as other:
        _never_wait(other)
        core.finish_jobs(other, [_ended(job.id) for job in jobs], worker_id=worker_id)
    return len(jobs)


def _never_wait(connection: sa.Connection) -> None:
    """Make a wait for a lock an error."""
    connection.exec_driver_sql("SET LOCAL lock_timeout = '1ms'")
