"""A cancel runs at once with whatever sends a step back to wait, adds one or lets one go.

No order lets a step start after both have been committed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from procrastinate import core
from procrastinate.core import FetchedJob, FinishedJob, JobRetry, Status
from tests.workflows import test_interleavings as scene
from tests.workflows.test_interleavings import ALIVE, LEFT, MEMBER, RIGHT, WORKFLOW, Stage


def release(connection: sa.Connection) -> Any:
    return core.release_jobs(connection, [FetchedJob(id=RIGHT, attempts=0)], worker_id=ALIVE)


def retry_step(connection: sa.Connection) -> Any:
    return core.retry_jobs(connection, [JobRetry(id=RIGHT, attempts=0)], worker_id=ALIVE)


def rescue(connection: sa.Connection) -> Any:
    core.unregister_worker(connection, ALIVE)
    return core.rescue_jobs(connection, max_rescues=10)


def claim_again(connection: sa.Connection) -> Any:
    core.release_jobs(connection, [FetchedJob(id=RIGHT, attempts=0)], worker_id=ALIVE)
    return core.fetch_jobs(connection, worker_id=ALIVE, limit=10)


def finish_and_resolve(connection: sa.Connection) -> Any:
    finished = [FinishedJob(id=job_id, attempts=0, status=Status.SUCCEEDED) for job_id in (LEFT, RIGHT, MEMBER)]
    core.finish_jobs(connection, finished, worker_id=ALIVE)
    return core.resolve_arrivals(connection)


SENDS_BACK: dict[str, Callable[[sa.Connection], Any]] = {
    "release": release,
    "retry the step": retry_step,
    "rescue": rescue,
    "claim again": claim_again,
    "finish and resolve": finish_and_resolve,
    "promote": core.promote_jobs,
}
ACTS = [*SENDS_BACK, "add member", "add edge", "resolve"]
STARTED = {LEFT, RIGHT, MEMBER}
"""The steps that run. They may end after the cancel."""


class CancelledStage(Stage):
    """Asks for each step that is claimed after the cancel whether it may start, as a worker does."""

    def _check(self) -> None:
        run = self.run
        worker = run(core.register_worker)
        for job in run(core.list_jobs, core.JobFilter(status=Status.DOING)):
            assert job.workflow_id is not None
            assert run(core.list_cancelled_groups, [job.workflow_id]) == [job.workflow_id]
            end = FinishedJob(id=job.id, attempts=job.attempts, status=Status.CANCELLED)
            assert job.worker_id is not None
            run(core.finish_jobs, [end], worker_id=job.worker_id)
        for _ in range(30):
            taken = run(core.resolve_arrivals).taken
            run(core.promote_jobs)
            fetched = run(core.fetch_jobs, worker_id=worker, limit=10)
            groups = {job.workflow_id for job in fetched if job.workflow_id is not None}
            assert set(run(core.list_cancelled_groups, sorted(groups))) == groups
            ends = [FinishedJob(id=job.id, attempts=job.attempts, status=Status.CANCELLED) for job in fetched]
            run(core.finish_jobs, ends, worker_id=worker)
            if not taken and not fetched:
                break
        statuses = {job.id: job.status for job in run(core.list_jobs, core.JobFilter())}
        assert not {Status.TODO, Status.DOING} & set(statuses.values())
        assert {job_id for job_id, status in statuses.items() if status is Status.SUCCEEDED} <= STARTED
        state = run(core.get_workflow, WORKFLOW)
        assert state is not None
        assert state.finished_at is not None
        assert state.cancelled_at is not None


@pytest.fixture
def stage(engine: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> CancelledStage:
    for name, act in SENDS_BACK.items():
        monkeypatch.setitem(scene.ACTS, name, act)
    return CancelledStage(engine)


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", ACTS)
def test_no_step_starts_after_a_cancel_at_once_with(stage: CancelledStage, name: str) -> None:
    assert stage.play(("cancel", name)) >= 2
