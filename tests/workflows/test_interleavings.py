"""Pairs of operations on one workflow run one statement at a time, in any order.

No order loses a step.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import sqlalchemy as sa

from procrastinate import core
from procrastinate.core import (
    FinishedJob,
    GroupKind,
    NewDependency,
    NewGraph,
    NewGroup,
    NewStep,
    Rule,
    Status,
    errors,
)
from procrastinate.exceptions import WorkflowEnded
from tests.conformance.runs import SyncRun
from tests.database import new_job
from tests.interleavings.saved_tables import SavedTables
from tests.interleavings.stepping import Actor, Scheduler, every_plan

LONG = bool(os.environ.get("PROCRASTINATE_TESTS_LONG"))
ROUND = int(os.environ.get("PROCRASTINATE_TESTS_ROUND", "0"))
"""Selects the orders that are drawn, different ones in each round."""
ALIVE = 1
LEFT, RIGHT, MEMBER, LAST, AFTER, FAILED, BLOCKED = range(1, 8)
"""The jobs, by their ids. LEFT, RIGHT and MEMBER run. LAST waits for LEFT and RIGHT, and AFTER for the group of MEMBER.

FAILED is in the group of MEMBER and has failed, with nothing else that needs it. BLOCKED needs LEFT and FAILED.
"""
WORKFLOW, GROUP = 1, 2

Act = Callable[[sa.Connection], Any]


def finish(*job_ids: int, status: Status = Status.SUCCEEDED) -> Act:
    jobs = [FinishedJob(id=job_id, attempts=0, status=status) for job_id in job_ids]
    return lambda connection: core.finish_jobs(connection, jobs, worker_id=ALIVE)


def add_member(connection: sa.Connection) -> Any:
    group = (NewGroup(kind=GroupKind.GROUP, name="pages"),)
    steps = (NewStep(job=new_job(), step="added", group=0),)
    return core.add_to_workflow(
        connection, GROUP, NewGraph(if_failed="cancel", groups=group, steps=steps, dependencies=())
    )


def add_edge(connection: sa.Connection) -> Any:
    """Add a step that waits for LEFT, which may be ending."""
    graph = NewGraph(
        if_failed="cancel",
        groups=(NewGroup(kind=GroupKind.WORKFLOW, name="w"),),
        steps=(NewStep(job=new_job(), step="edge", group=0, waits=True),),
        dependencies=(NewDependency(step=0, rule=Rule.SUCCESS, parent_id=LEFT),),
    )
    return core.add_to_workflow(connection, WORKFLOW, graph)


def cancel(connection: sa.Connection) -> Any:
    if core.begin_cancel(connection, WORKFLOW):
        core.cancel_steps(connection, workflow_id=WORKFLOW)


def retry(connection: sa.Connection) -> Any:
    return core.retry_workflow(connection, WORKFLOW)


def delete(connection: sa.Connection) -> Any:
    return core.cancel_job(connection, LAST, delete=True)


def cancel_and_roll_back(connection: sa.Connection) -> Any:
    with connection.begin_nested() as savepoint:
        core.cancel_job(connection, LAST)
        savepoint.rollback()


ACTS: dict[str, Act] = {
    "finish left": finish(LEFT),
    "finish right": finish(RIGHT),
    "fail right": finish(RIGHT, status=Status.FAILED),
    "finish member": finish(MEMBER),
    "finish all": finish(LEFT, RIGHT, MEMBER),
    "resolve": core.resolve_arrivals,
    "add member": add_member,
    "add edge": add_edge,
    "cancel": cancel,
    "retry": retry,
    "delete": delete,
    "cancel last and roll back": cancel_and_roll_back,
}
MANY_STATEMENTS = {"resolve", "retry", "cancel"}
DRAWN = 400 if LONG else 25
"""Orders that are drawn for a pair with an act of many statements."""
PAIRS = [
    ("finish left", "finish right"),
    ("finish left", "fail right"),
    ("finish left", "add edge"),
    ("finish member", "add member"),
    ("finish all", "cancel"),
    ("finish all", "retry"),
    ("finish all", "delete"),
    ("resolve", "resolve"),
    ("resolve", "retry"),
    ("resolve", "add member"),
    ("resolve", "add edge"),
    ("resolve", "cancel"),
    ("resolve", "delete"),
    ("resolve", "finish all"),
    ("resolve", "cancel last and roll back"),
]
TRIPLES = [
    ("finish left", "finish right", "resolve"),
    ("finish member", "add member", "resolve"),
    ("finish left", "add edge", "resolve"),
    ("finish all", "retry", "resolve"),
]


def set_up(run: SyncRun) -> None:
    assert run(core.register_worker) == ALIVE
    graph = NewGraph(
        if_failed="cancel",
        groups=(NewGroup(kind=GroupKind.WORKFLOW, name="w"), NewGroup(kind=GroupKind.GROUP, name="pages", parent=0)),
        steps=(
            NewStep(job=new_job(), step="left", group=0),
            NewStep(job=new_job(), step="right", group=0),
            NewStep(job=new_job(), step="member", group=1),
            NewStep(job=new_job(), step="last", group=0, waits=True),
            NewStep(job=new_job(), step="after", group=0, waits=True),
            NewStep(job=new_job(), step="failed", group=1),
            NewStep(job=new_job(), step="blocked", group=0, waits=True),
        ),
        dependencies=(
            NewDependency(step=3, rule=Rule.SUCCESS, parent_step=0),
            NewDependency(step=3, rule=Rule.SUCCESS, parent_step=1),
            NewDependency(step=4, rule=Rule.SUCCESS, parent_group=1),
            NewDependency(step=6, rule=Rule.SUCCESS, parent_step=0),
            NewDependency(step=6, rule=Rule.SUCCESS, parent_step=5),
        ),
    )
    assert run(core.create_workflow, graph).job_ids == tuple(range(1, 8))
    assert len(run(core.fetch_jobs, worker_id=ALIVE, limit=10)) == 4
    run(core.finish_jobs, [FinishedJob(id=FAILED, attempts=0, status=Status.FAILED)], worker_id=ALIVE)


class Stage(SavedTables):
    """The tables of the scene, restored before each order."""

    def __init__(self, engine: sa.Engine) -> None:
        super().__init__(engine, set_up)

    def play(self, names: Sequence[str]) -> int:
        """Run acts concurrently in every order of their steps, and return the number of orders.

        Acts of many statements have tens of thousands of orders. Some of them are drawn at random.
        """
        if not set(names) & MANY_STATEMENTS:
            return sum(1 for _ in every_plan(lambda plan: self._play(names, plan)))
        drawn = random.Random(ROUND)
        traces = set()
        for _ in range(DRAWN):
            plan = [drawn.randrange(len(names)) for _ in range(60)]
            traces.add(tuple(self._play(names, plan).trace))
        return len(traces)

    def _play(self, names: Sequence[str], plan: Sequence[int]) -> Scheduler:
        self.put_back()
        with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as watch:
            scheduler = Scheduler(watch, plan)
            actors = [Actor(self._engine, ACTS[name]) for name in names]
            scheduler.run(actors)
        try:
            for actor in actors:
                is_documented = isinstance(actor.error, WorkflowEnded) or (
                    actor.error is not None and errors.is_deadlock(actor.error)
                )
                if actor.error is not None and not is_documented:
                    raise actor.error
            self._check()
        except BaseException as error:
            error.add_note(f"{' | '.join(names)}, in the order {scheduler.trace}")
            raise
        return scheduler

    def _check(self) -> None:
        """Run all that is left. Each job must come to its end, and each step after what it needs."""
        run = self.run
        running = {job.id for job in run(core.list_jobs, core.JobFilter(status=Status.DOING))}
        run(
            core.finish_jobs, [FinishedJob(id=i, attempts=0, status=Status.SUCCEEDED) for i in running], worker_id=ALIVE
        )
        for _ in range(30):
            taken = run(core.resolve_arrivals).taken
            run(core.promote_jobs)
            fetched = run(core.fetch_jobs, worker_id=ALIVE, limit=10)
            ends = [FinishedJob(id=job.id, attempts=job.attempts, status=Status.SUCCEEDED) for job in fetched]
            run(core.finish_jobs, ends, worker_id=ALIVE)
            if not taken and not fetched:
                break
        jobs = {job.id: job.status for job in run(core.list_jobs, core.JobFilter())}
        assert not [job_id for job_id, status in jobs.items() if status in (Status.TODO, Status.DOING)]
        self._check_needs(jobs)
        with self._engine.connect() as connection:
            open_groups = "SELECT count(*) FROM procrastinate_workflows WHERE finished_at IS NULL"
            assert connection.exec_driver_sql(open_groups).scalar_one() == 0

    @staticmethod
    def _check_needs(jobs: dict[int, Status]) -> None:
        def succeeded(*job_ids: int) -> bool:
            return all(jobs.get(job_id) is Status.SUCCEEDED for job_id in job_ids)

        if jobs.get(LAST) is Status.SUCCEEDED:
            assert succeeded(LEFT, RIGHT)
        for job_id, needed in ((AFTER, (MEMBER, FAILED)), (BLOCKED, (LEFT, FAILED))):
            if jobs[job_id] is Status.SUCCEEDED:
                assert succeeded(*needed)


@pytest.fixture
def stage(engine: sa.Engine) -> Stage:
    return Stage(engine)


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("names", PAIRS, ids=" | ".join)
def test_two_at_once(stage: Stage, names: tuple[str, str]) -> None:
    assert stage.play(names) >= 2


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("names", TRIPLES, ids=" | ".join)
def test_three_at_once(stage: Stage, names: tuple[str, ...]) -> None:
    assert stage.play(names) >= 6
