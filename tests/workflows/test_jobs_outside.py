"""A job outside of workflows pays nothing for them, and no open transaction on a workflow makes another job wait."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from procrastinate import core
from procrastinate.app import App
from procrastinate.core import (
    FinishedJob,
    GroupKind,
    JobRetry,
    NewDependency,
    NewGraph,
    NewGroup,
    NewStep,
    Rule,
    Status,
)
from procrastinate.testing import InMemoryConnector, Jobs
from tests.call_counts import Calls, counted_calls
from tests.core.plans import explain
from tests.database import new_job

OF_WORKFLOWS = ("procrastinate_workflows", "procrastinate_dependencies", "procrastinate_arrivals")
OF_STEPS = ("procrastinate_arrive", "procrastinate_go_on")
FUNCTIONS_OF_STEPS = ("_prepare_step", "may_start", "list_cancelled_groups", "read_values")


def graph(steps: int = 3, **job: Any) -> NewGraph:
    """Return a workflow whose first step is ready, and whose others wait for each other in a row."""
    return NewGraph(
        if_failed="cancel",
        groups=(NewGroup(kind=GroupKind.WORKFLOW, name="w"),),
        steps=tuple(NewStep(job=new_job(**job), step=str(n), group=0, waits=n > 0) for n in range(steps)),
        dependencies=tuple(NewDependency(step=n, rule=Rule.SUCCESS, parent_step=n - 1) for n in range(1, steps)),
    )


def scans(connection: sa.Connection, table: str) -> int:
    """Return how often the open transaction has looked into a table or an index of it."""
    of_indexes = "SELECT sum(pg_stat_get_xact_numscans(indexrelid)) FROM pg_index WHERE indrelid = %(name)s::regclass"
    statement = f"SELECT pg_stat_get_xact_numscans(%(name)s::regclass) + ({of_indexes})"
    return int(connection.exec_driver_sql(statement, {"name": table}).scalar_one())


def calls_of(connection: sa.Connection, function: str) -> int:
    """Return how often the open transaction has called a function, with ``track_functions`` on."""
    counts = "SELECT coalesce(sum(calls), 0) FROM pg_stat_xact_user_functions WHERE funcname = %s"
    return int(connection.exec_driver_sql(counts, (function,)).scalar_one())


def live(connection: sa.Connection, worker: int, jobs: int = 20) -> None:
    """Take jobs of all kinds through their lives, in the open transaction."""
    for number in range(jobs):
        core.defer_job(connection, new_job(task_name="plain", lock="lock" if number % 4 == 3 else None))
    core.promote_jobs(connection)
    fetched = core.fetch_jobs(connection, worker_id=worker, limit=jobs, queues=["default"])
    assert fetched
    retried, *ended = [job for job in fetched if job.lock is None]
    locked = [job for job in fetched if job.lock is not None]
    core.retry_jobs(connection, [JobRetry(id=retried.id, attempts=0)], worker_id=worker)
    ways = (Status.SUCCEEDED, Status.FAILED, Status.ABORTED)
    finished = [
        FinishedJob(id=job.id, attempts=0, status=ways[place % 3], delete=place % 5 == 4)
        for place, job in enumerate([*ended, *locked])
    ]
    assert len(core.finish_jobs(connection, finished, worker_id=worker)) == len(finished)
    core.cancel_job(connection, retried.id)


def test_the_life_of_a_job_outside_looks_into_no_table_of_workflows(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        core.create_workflow(connection, graph(100, queue_name="steps"))
        worker = core.register_worker(connection)
    with engine.begin() as connection:
        live(connection, worker)
        assert {table: scans(connection, table) for table in OF_WORKFLOWS[:2]} == dict.fromkeys(OF_WORKFLOWS[:2], 0)
        assert scans(connection, "procrastinate_arrivals") <= 1  # the promotion asks once
        assert scans(connection, "procrastinate_jobs") > 0


def test_the_end_of_a_step_looks_into_the_tables_of_workflows(engine: sa.Engine) -> None:
    """Show that the counters of the test before can count."""
    with engine.begin() as connection:
        core.create_workflow(connection, graph())
        worker = core.register_worker(connection)
    with engine.begin() as connection:
        (step,) = core.fetch_jobs(connection, worker_id=worker, limit=5)
        assert scans(connection, "procrastinate_dependencies") == 0
        core.finish_jobs(connection, [FinishedJob(id=step.id, attempts=0, status=Status.SUCCEEDED)], worker_id=worker)
        assert scans(connection, "procrastinate_dependencies") > 0


@pytest.mark.parametrize("with_step", [False, True])
def test_the_triggers_call_what_steps_need_only_for_steps(engine: sa.Engine, with_step: bool) -> None:
    with engine.begin() as connection:
        worker = core.register_worker(connection)
        core.defer_job(connection, new_job())
        if with_step:
            core.create_workflow(connection, graph())
    with engine.begin() as connection:
        connection.exec_driver_sql("SET LOCAL track_functions = 'all'")
        fetched = core.fetch_jobs(connection, worker_id=worker, limit=5)
        finished = [FinishedJob(id=job.id, attempts=0, status=Status.SUCCEEDED) for job in fetched]
        core.finish_jobs(connection, finished, worker_id=worker)
        assert calls_of(connection, "procrastinate_jobs_updated") >= 2
        assert [calls_of(connection, name) > 0 for name in OF_STEPS] == [with_step, with_step]


def test_a_job_outside_is_in_no_index_of_steps(engine: sa.Engine) -> None:
    """Their size stays that of an empty index, however many jobs come and go."""
    of_steps = """
        SELECT indexrelid::regclass::text, pg_relation_size(indexrelid), pg_get_expr(indpred, indrelid)
        FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attname IN ('workflow_id', 'step')
        WHERE indrelid = 'procrastinate_jobs'::regclass AND attnum = ANY (indkey)
        ORDER BY 1
    """
    with engine.begin() as connection:
        before = connection.exec_driver_sql(of_steps).all()
        assert before
        assert all("workflow_id IS NOT NULL" in predicate for *_, predicate in before)
        worker = core.register_worker(connection)
        live(connection, worker, jobs=600)
        assert connection.exec_driver_sql(of_steps).all() == before
        core.create_workflow(connection, graph())
        assert connection.exec_driver_sql(of_steps).all() != before


def test_waiting_steps_change_no_plan_of_the_jobs_outside(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        worker = core.register_worker(connection)
        jobs = core.defer_jobs(connection, [new_job(queue_name="plain") for _ in range(300)])
        connection.exec_driver_sql("UPDATE procrastinate_jobs SET status = 'doing', worker_id = %s", (worker,))
        core.defer_jobs(connection, [new_job(queue_name="plain") for _ in range(50)])

    def plans() -> list[tuple[set[str], set[str], int]]:
        found = []
        finished = [FinishedJob(id=jobs[0], attempts=0, status=Status.SUCCEEDED)]
        with engine.connect() as connection:
            for operation, options in (
                (core.fetch_jobs, {"worker_id": worker, "limit": 10, "queues": ["plain"]}),
                (core.fetch_jobs, {"worker_id": worker, "limit": 10}),
                (core.finish_jobs, {"finished": finished, "worker_id": worker}),
            ):
                for plan in explain(connection, operation, **options):  # type: ignore[arg-type]
                    found.append((plan.indexes, plan.scanned_tables, plan.rows_thrown_away))
        return found

    def vacuum() -> None:
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("VACUUM ANALYZE procrastinate_jobs")

    vacuum()
    before = plans()
    with engine.begin() as connection:
        steps = [NewStep(job=new_job(queue_name="plain"), step="s", group=0, waits=True) for _ in range(5_000)]
        waiting = NewGraph(if_failed="cancel", groups=graph().groups, steps=tuple(steps), dependencies=())
        core.create_workflow(connection, waiting)
    vacuum()
    assert plans() == before


def test_a_run_of_a_job_outside_calls_no_function_for_steps() -> None:
    app = App(connector=InMemoryConnector())
    ran: list[str] = []

    @app.task
    def note(name: str) -> None:
        ran.append(name)

    with Jobs(app) as jobs:
        note.defer(name="first")
        jobs.run()
        with counted_calls() as calls:
            note.defer(name="second")
            jobs.run()
        wf = app.workflow("one step")
        wf.add(note, name="step")
        wf.defer()
        with counted_calls() as calls_of_step:
            jobs.run()
    assert ran == ["first", "second", "step"]
    assert _of_steps(calls) == set()
    assert _of_steps(calls_of_step) != set()  # the names are right


def _of_steps(calls: Calls) -> set[str]:
    return {function for _, function in calls.names if function.rpartition(".")[2] in FUNCTIONS_OF_STEPS}


# Open transactions of users


def _create(connection: sa.Connection, workflow_id: int, step: int) -> None:
    core.create_workflow(connection, graph())


def _add(connection: sa.Connection, workflow_id: int, step: int) -> None:
    core.add_to_workflow(connection, workflow_id, graph(1))


def _cancel_workflow(connection: sa.Connection, workflow_id: int, step: int) -> None:
    core.begin_cancel(connection, workflow_id)
    core.cancel_steps(connection, workflow_id=workflow_id)


def _cancel_step(connection: sa.Connection, workflow_id: int, step: int) -> None:
    core.cancel_job(connection, step)


def _finish_step(connection: sa.Connection, workflow_id: int, step: int) -> None:
    core.finish_job_by_id(connection, step, status=Status.SUCCEEDED, delete=False)


def _retry_workflow(connection: sa.Connection, workflow_id: int, step: int) -> None:
    core.cancel_job(connection, step)
    core.retry_workflow(connection, workflow_id)


def _resolve(connection: sa.Connection, workflow_id: int, step: int) -> None:
    core.cancel_job(connection, step)
    core.resolve_arrivals(connection)


ACTS = [_create, _add, _cancel_workflow, _cancel_step, _finish_step, _retry_workflow, _resolve]


@pytest.mark.parametrize("act", ACTS, ids=lambda act: act.__name__.strip("_"))
def test_an_open_transaction_on_a_workflow_makes_no_other_session_wait(
    engine: sa.Engine, act: Callable[[sa.Connection, int, int], None]
) -> None:
    with engine.begin() as connection:
        stored = core.create_workflow(connection, graph(queue_name="held"))
        core.create_workflow(connection, graph(queue_name="free"))
        worker = core.register_worker(connection)
    with engine.begin() as user:
        act(user, stored.group_ids[0], stored.job_ids[0])
        with engine.begin() as other:
            other.exec_driver_sql("SET LOCAL lock_timeout = '1ms'")  # a wait is an error
            live(other, worker)
            for _ in range(3):
                core.promote_jobs(other, without_turn=True)
                for job in core.fetch_jobs(other, worker_id=worker, limit=100):
                    end = FinishedJob(id=job.id, attempts=job.attempts, status=Status.SUCCEEDED)
                    core.finish_jobs(other, [end], worker_id=worker)
                core.resolve_arrivals(other)
            core.list_cancelled_groups(other, stored.group_ids)
            ended = core.JobFilter(queue_name="free", status=Status.SUCCEEDED)
            assert len(core.list_jobs(other, ended)) == 3
