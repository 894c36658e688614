"""What the loads read of a table with everything in the way: a bounded part, along indexes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from procrastinate.core import WorkflowState, bulk, inspection
from procrastinate.core.doctor import diagnose
from procrastinate.core.inspection import JobSearch, JobState, workflow
from tests.core.plans import Plan, explain
from tests.core.test_query_plans import fill, insert_statement
from tests.database import Databases

_BIG = {"procrastinate_jobs", "procrastinate_events", "procrastinate_errors"}

_ERRORS = """
INSERT INTO procrastinate_errors (job_id, attempt, exception_class, message, traceback)
SELECT n, 1, 'Error', 'message ' || n, '' FROM generate_series(1, 20000) AS n
"""


@pytest.fixture(scope="module", params=[False, True], ids=["no statistics", "statistics"])
def full_engine(request: pytest.FixtureRequest, databases: Databases) -> Iterator[sa.Engine]:
    """An engine on a full database.

    Many jobs ended just now, many at one time, and many have a lock that no promotion has looked at.
    """
    url = databases.create_migrated()
    fill(url, analysed=False)
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        ended = {"task_name": "'just ended'", "status": "'succeeded'", "finished_at": "now() - n * interval '10 ms'"}
        connection.exec_driver_sql(insert_statement(100_000, ended))
        for state in ("succeeded", "failed"):
            at_once = {"task_name": "'ended at once'", "status": f"'{state}'", "finished_at": "now()"}
            connection.exec_driver_sql(insert_statement(30_000, at_once))
        connection.exec_driver_sql(insert_statement(30_000, {"task_name": "'undecided'", "lock": "'lock ' || n"}))
        connection.exec_driver_sql(insert_statement(30_000, {"task_name": "'long line'", "queue_name": "'long line'"}))
        connection.exec_driver_sql(_ERRORS)
        if request.param:
            connection.exec_driver_sql("VACUUM ANALYZE")
    yield engine
    engine.dispose()
    databases.drop(url)


@pytest.fixture
def full(full_engine: sa.Engine) -> Iterator[sa.Connection]:
    """A connection to the full database."""
    with full_engine.connect().execution_options(isolation_level="READ COMMITTED") as connection:
        yield connection


def check(plans: list[Plan], *, buffers: int, rows: int) -> None:
    """No plan reads a big table from end to end, or more rows of it than this."""
    assert not _BIG & set().union(*(plan.scanned_tables for plan in plans))
    assert max(_rows_read(plan) for plan in plans) <= rows
    assert sum(plan.buffers for plan in plans) <= buffers


def _rows_read(plan: Plan) -> float:
    """Return the most rows that a node reads of a big table."""
    return max(
        (
            node["Actual Loops"] * (node["Actual Rows"] + node.get("Rows Removed by Filter", 0))
            for node in plan.nodes()
            if node.get("Relation Name") in _BIG
        ),
        default=0,
    )


def test_the_overview_reads_no_more_than_its_limits(full: sa.Connection) -> None:
    check(explain(full, inspection.load_overview), buffers=30_000, rows=10_001)


def test_the_counts_of_the_states_stop_at_their_limit(full: sa.Connection) -> None:
    check(explain(full, inspection.count_states), buffers=15_000, rows=1_001)


def test_the_head_of_a_page_reads_no_jobs(full: sa.Connection) -> None:
    check(explain(full, inspection.load_server_state), buffers=20, rows=0)


def test_the_queues_read_no_more_than_their_limits(full: sa.Connection) -> None:
    check(explain(full, inspection.load_queues, ["default"]), buffers=60_000, rows=100_100)


def test_the_tasks_read_the_last_jobs_alone(full: sa.Connection) -> None:
    check(explain(full, inspection.load_tasks), buffers=50_000, rows=10_001)


def test_the_failures_read_the_newest_errors_alone(full: sa.Connection) -> None:
    check(explain(full, inspection.load_failures), buffers=40_000, rows=5_001)


def test_the_locks_read_the_first_parked_jobs_alone(full: sa.Connection) -> None:
    check(explain(full, inspection.load_locks), buffers=25_000, rows=20_001)


def test_the_periodic_tasks_jump_from_one_schedule_to_the_next(full: sa.Connection) -> None:
    check(explain(full, inspection.load_periodic, [("tick", "")]), buffers=100, rows=10)


def test_the_workers_read_running_jobs_alone(full: sa.Connection) -> None:
    check(explain(full, inspection.load_workers), buffers=300, rows=300)


@pytest.mark.parametrize("job_id", [1, 100_500, 150_000])
def test_a_job_reads_its_own_rows_alone(full: sa.Connection, job_id: int) -> None:
    check(explain(full, inspection.load_job, job_id), buffers=300, rows=1_001)


@pytest.mark.parametrize("state", [None, *JobState])
def test_a_page_of_jobs_reads_its_jobs_alone(full: sa.Connection, state: JobState | None) -> None:
    rows = 300 if state is JobState.RUNNING else 60
    check(explain(full, inspection.list_jobs_page, JobSearch(state=state)), buffers=2_500, rows=rows)


@pytest.mark.parametrize("state", [None, *JobState])
def test_a_search_without_an_index_stops_at_its_reach(full: sa.Connection, state: JobState | None) -> None:
    search = JobSearch(state=state, task="no such task")
    check(explain(full, inspection.list_jobs_page, search), buffers=60_000, rows=20_001)


@pytest.mark.parametrize("place", [("5", "60000"), ("10", "60000")])
def test_a_later_page_begins_at_its_place(full: sa.Connection, place: tuple[str, str]) -> None:
    search = JobSearch(state=JobState.READY, queue="busy 1")
    check(explain(full, inspection.list_jobs_page, search, after=place), buffers=2_500, rows=300)


def test_the_figures_read_no_more_than_their_limits(full: sa.Connection) -> None:
    check(explain(full, inspection.load_figures), buffers=30_000, rows=20_001)
    check(explain(full, inspection.count_startable), buffers=60_000, rows=20_001)


def test_the_calls_of_waiting_jobs_are_read_from_the_heads_of_indexes(full: sa.Connection) -> None:
    check(explain(full, inspection.load_waiting_calls), buffers=200_000, rows=50_001)


def test_the_doctor_reads_the_heads_of_indexes_alone(full: sa.Connection) -> None:
    check(explain(full, diagnose), buffers=120_000, rows=100_100)


def test_a_search_for_an_error_reads_the_errors_of_its_jobs_alone(full: sa.Connection) -> None:
    """None of the newest jobs has an error."""
    plans = explain(full, inspection.list_jobs_page, JobSearch(error="NoSuchError"))
    check(plans, buffers=90_000, rows=20_001)
    assert sum(_rows_read_of("procrastinate_errors", plan) for plan in plans) == 0


def _rows_read_of(table: str, plan: Plan) -> float:
    return sum(
        node["Actual Loops"] * (node["Actual Rows"] + node.get("Rows Removed by Filter", 0))
        for node in plan.nodes()
        if node.get("Relation Name") == table
    )


def test_a_count_that_stops_at_the_reach_of_a_search_is_round(full: sa.Connection) -> None:
    search = JobSearch(state=JobState.FAILED, task="ended at once")
    assert str(bulk.count_matching_jobs(full, search)) == "20,000+"


@pytest.mark.parametrize("state", JobState)
def test_a_step_of_a_bulk_operation_reads_no_more_than_its_reach(full: sa.Connection, state: JobState) -> None:
    operation = start_cancellation(full, JobSearch(state=state, task="no such task"))
    check(explain(full, bulk.step_bulk_operation, operation), buffers=150_000, rows=22_001)


@pytest.mark.parametrize(
    ("search", "rows"),
    [
        (JobSearch(state=JobState.RUNNING, task="no such task"), 300),
        (JobSearch(state=JobState.RUNNING, error="NoSuchError"), 300),
        (JobSearch(state=JobState.CANCELLED), 0),
        (JobSearch(state=JobState.LIMITED), 0),
        (JobSearch(state=JobState.WAITING_FOR_STEPS), 0),
        (JobSearch(state=JobState.READY, queue="busy 1", task="no such task"), 1_000),
        (JobSearch(state=JobState.BLOCKED, lock="held 1", task="no such task"), 100),
    ],
)
def test_a_bulk_operation_on_a_state_of_few_jobs_passes_all_other_jobs_by(
    full: sa.Connection, search: JobSearch, rows: int
) -> None:
    operation = start_cancellation(full, search)
    plans = explain(full, bulk.step_bulk_operation, operation)
    check(plans, buffers=30_000, rows=2_000 + rows)
    with full.begin():
        bulk.step_bulk_operation(full, operation)
        (done,) = bulk.load_bulk_operations(full, operation)
    assert done.is_over


def start_cancellation(full: sa.Connection, search: JobSearch) -> int:
    """Store an operation that changes nothing, because its jobs do not match or cannot be cancelled."""
    with full.begin():
        return bulk.start_bulk_operation(full, "cancel", search)


@pytest.mark.parametrize("task", ["long line", "undecided"])
def test_the_first_job_of_a_long_line_is_explained_from_the_head_of_the_line(full: sa.Connection, task: str) -> None:
    statement = f"SELECT min(id), count(*) FROM procrastinate_jobs WHERE task_name = '{task}'"  # noqa: S608
    first, length = full.exec_driver_sql(statement).one()
    full.rollback()
    assert length > 20_000
    check(explain(full, inspection.explain_job, first), buffers=60_000, rows=10_101)


def test_workflows_in_a_state_are_looked_for_in_bounded_parts(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No index has the states. Of many workflows the only failed one may be the oldest."""
    monkeypatch.setattr(workflow, "EXAMINED_WORKFLOWS", 100)
    before, found = None, []
    with engine.connect().execution_options(isolation_level="READ COMMITTED") as connection:
        connection.exec_driver_sql(
            "INSERT INTO procrastinate_workflows (root_id, kind, name, if_failed, finished_at, failed) SELECT n, "
            "'workflow', 'w', 'cancel', now(), CASE n WHEN 1 THEN 1 ELSE 0 END FROM generate_series(1, 250) AS n"
        )
        while before is not None or not found:
            page = inspection.load_workflows(connection, WorkflowState.FAILED, before)
            found.append([one.id for one in page.workflows])
            before = page.next_before
        plans = explain(connection, inspection.load_workflows, WorkflowState.FAILED)
    assert found == [[], [], [1]]
    nodes = [node for plan in plans for node in plan.nodes() if node.get("Relation Name") == "procrastinate_workflows"]
    assert max(node["Actual Loops"] * node["Actual Rows"] for node in nodes) <= 100
