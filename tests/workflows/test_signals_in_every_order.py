"""A signal comes at once with its timeout, with another one or with a cancel. It ends once, in every order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from procrastinate import core
from procrastinate.core import FinishedJob, NewDependency, NewGraph, NewGroup, NewStep, Rule, Status
from procrastinate.core.workflow_rows import SIGNAL_TASK
from tests.conformance.runs import SyncRun
from tests.database import new_job
from tests.workflows import test_interleavings as scene
from tests.workflows.test_interleavings import ALIVE, WORKFLOW, Stage

SIGNAL, AFTER = 1, 2


def set_up(run: SyncRun) -> None:
    """Store a signal whose time is over, and a step that waits for it."""
    assert run(core.register_worker) == ALIVE
    graph = NewGraph(
        if_failed="cancel",
        groups=(NewGroup(kind=core.GroupKind.WORKFLOW, name="w"),),
        steps=(
            NewStep(job=new_job(task_name=SIGNAL_TASK), step="approved", group=0, waits=True),
            NewStep(job=new_job(), step="after", group=0, waits=True),
        ),
        dependencies=(
            NewDependency(step=0, rule=Rule.END, delay=0.0),
            NewDependency(step=1, rule=Rule.SUCCESS, parent_step=0),
        ),
    )
    assert run(core.create_workflow, graph).job_ids == (SIGNAL, AFTER)
    run(core.resolve_arrivals)


def send(payload: str) -> Callable[[sa.Connection], Any]:
    return lambda connection: core.send_signal(connection, WORKFLOW, "approved", payload=payload)


def _end_of(job_id: int) -> Status:
    return Status.FAILED if job_id == SIGNAL else Status.SUCCEEDED


def run_out(connection: sa.Connection) -> Any:
    """Claim the signal, whose time is over, and fail it."""
    core.promote_jobs(connection)
    fetched = core.fetch_jobs(connection, worker_id=ALIVE, limit=5)
    ends = [FinishedJob(id=job.id, attempts=job.attempts, status=_end_of(job.id)) for job in fetched]
    return core.finish_jobs(connection, ends, worker_id=ALIVE) if ends else None


ACTS: dict[str, Callable[[sa.Connection], Any]] = {
    "signal": send('"first"'),
    "another signal": send('"second"'),
    "run out": run_out,
}
ENDS = {
    (Status.SUCCEEDED, Status.SUCCEEDED),
    (Status.FAILED, Status.CANCELLED),
    (Status.CANCELLED, Status.CANCELLED),
    (Status.SUCCEEDED, Status.CANCELLED),
}
"""What may come of the signal and of the step after it. The last pair is a cancel after the signal."""


class SignalStage(Stage):
    """Runs all that is left, and notes what came of the signal and of the step after it."""

    ends: set[tuple[Status, Status]]

    def _check(self) -> None:
        run = self.run
        for _ in range(10):
            taken = run(core.resolve_arrivals).taken
            run(core.promote_jobs)
            fetched = run(core.fetch_jobs, worker_id=ALIVE, limit=5)
            is_cancelled = run(core.list_cancelled_groups, [WORKFLOW])
            ends = [
                FinishedJob(
                    id=job.id,
                    attempts=job.attempts,
                    status=Status.CANCELLED if is_cancelled else _end_of(job.id),
                )
                for job in fetched
            ]
            run(core.finish_jobs, ends, worker_id=ALIVE)
            if not taken and not fetched:
                break
        statuses = {job.id: job.status for job in run(core.list_jobs, core.JobFilter())}
        found = statuses[SIGNAL], statuses[AFTER]
        assert found in ENDS
        self.ends.add(found)
        value = run(core.get_result, SIGNAL)
        assert (value is not None and value.value is not None) == (found[0] is Status.SUCCEEDED)


@pytest.fixture
def stage(engine: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> SignalStage:
    monkeypatch.setattr(scene, "set_up", set_up)
    for name, act in ACTS.items():
        monkeypatch.setitem(scene.ACTS, name, act)
    stage = SignalStage(engine)
    stage.ends = set()
    return stage


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("other", ["run out", "another signal", "cancel", "resolve"])
def test_a_signal_ends_once_at_once_with(stage: SignalStage, other: str) -> None:
    assert stage.play(("signal", other)) >= 2
    possible = {
        "run out": {(Status.SUCCEEDED, Status.SUCCEEDED), (Status.FAILED, Status.CANCELLED)},
        "cancel": {(Status.SUCCEEDED, Status.CANCELLED), (Status.CANCELLED, Status.CANCELLED)},
    }
    assert stage.ends == possible.get(other, {(Status.SUCCEEDED, Status.SUCCEEDED)})
