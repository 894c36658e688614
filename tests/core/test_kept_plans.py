"""A worker keeps the plans of its statements. One that was made on a small table is good when the table has grown.

The tables are never analysed in between: PostgreSQL would make the plans again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from procrastinate import core
from procrastinate.core import (
    FinishedJob,
    Rank,
    Status,
    WorkerTerms,
    dead_workers,
    fetch,
    finish,
    heartbeats,
    look,
    notify_interest,
    open_operations,
    promote,
    release,
)
from procrastinate.core.operation_marks import is_prepared
from procrastinate.core.worker_session import begin_worker_session
from tests.core.plans import KeptPlans, Plan
from tests.core.test_query_plans import (
    CROWD,
    LOCK_HOLDER,
    PRIMARY_KEY,
    READY,
    READY_OF_QUEUE,
    UPCOMING,
    check,
    insert_statement,
    running,
)
from tests.database import Databases

WORKER = 1
TERMS = WorkerTerms(heartbeat_interval=10.0, stalled_timeout=30.0)
PLACE = Rank(priority=0, id=1)
MANY_QUEUES = ["default", "busy 1", "empty"]
SMALL = {"procrastinate_workflows", "procrastinate_workers"}
Operation = Callable[..., Any]
Explain = Callable[..., list[Plan]]


def outcomes(ids: list[int], *, delete: bool) -> list[FinishedJob]:
    return [FinishedJob(id=id_, attempts=0, status=Status.SUCCEEDED, delete=delete) for id_ in ids]


USES: list[tuple[Operation, dict[str, Any]]] = [
    (core.fetch_jobs, {"worker_id": WORKER, "limit": 20}),
    (core.fetch_jobs, {"worker_id": WORKER, "limit": 20, "after": PLACE}),
    (core.fetch_jobs, {"worker_id": WORKER, "limit": 20, "queues": ["default"]}),
    (core.fetch_jobs, {"worker_id": WORKER, "limit": 20, "queues": ["default"], "after": PLACE}),
    (core.fetch_jobs, {"worker_id": WORKER, "limit": 20, "queues": MANY_QUEUES}),
    (core.promote_jobs, {}),
    (core.finish_jobs, {"finished": outcomes([1], delete=False), "worker_id": WORKER}),
    (core.finish_jobs, {"finished": outcomes([1], delete=True), "worker_id": WORKER}),
    (core.start_waiting, {"worker_id": WORKER, "queues": None}),
    (core.read_unaware, {}),
    (core.have_ended_before, {"transaction": 1}),
    (core.call_all_workers, {"job_id": 1}),
    (core.update_heartbeat, {"worker_id": WORKER}),
    (core.update_heartbeat, {"worker_id": WORKER, "terms": TERMS}),
    (core.beat, {"worker_id": WORKER, "report": core.WorkerReport(), "interval": 10.0}),
    (core.list_unknown_jobs, {"worker_id": WORKER, "known_ids": [1, 2]}),
    (core.list_late_workers, {"worker_id": WORKER, "heartbeat_interval": 10.0, "stalled_timeout": 30.0}),
    (core.find_unswept, {}),
    (core.list_open_operations, {}),
]
"""Every statement that a worker prepares, used once."""


def prepare_tables(engine: sa.Engine, state: str) -> None:
    """Bring the tables into the state in which plans are made."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        core.register_worker(connection)
        if state == "small":
            for count, values in CROWD:
                connection.exec_driver_sql(insert_statement(max(count // 1000, 1), values))
        if state != "new":
            connection.exec_driver_sql("VACUUM ANALYZE")


def fill(engine: sa.Engine) -> None:
    """Let the tables grow, without the triggers."""
    with engine.begin() as connection:
        connection.exec_driver_sql("SET LOCAL session_replication_role = replica")
        connection.exec_driver_sql("DELETE FROM procrastinate_jobs")
        for count, values in CROWD:
            connection.exec_driver_sql(insert_statement(count, values))


@pytest.fixture(scope="module", params=["new", "empty", "small"])
def explain(request: pytest.FixtureRequest, databases: Databases) -> Iterator[tuple[sa.Connection, Explain]]:
    """A full database, and the plans that were made before it was filled."""
    url = databases.create_migrated()
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    prepare_tables(engine, request.param)
    with engine.connect() as connection:
        driver: Any = connection.connection.driver_connection
        assert begin_worker_session(connection, backend_pid=driver.info.backend_pid).is_direct
        connection.commit()
        kept = KeptPlans(connection)
        for operation, arguments in USES:
            kept.make(operation, **arguments)
        fill(engine)
        yield connection, kept.explain
    engine.dispose()
    databases.drop(url)


def test_every_statement_that_may_be_prepared_is_tried_here(engine: sa.Engine) -> None:
    modules = (dead_workers, fetch, finish, heartbeats, look, notify_interest, open_operations, promote, release)
    values = [value for module in modules for value in vars(module).values()]
    values += [one for value in values if isinstance(value, dict) for one in value.values()]
    marked = {str(one.compile(engine)) for one in values if isinstance(one, sa.Executable) and is_prepared(one)}
    used: set[str] = set()
    with engine.connect() as connection:

        def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
            used.add(statement)

        sa.event.listen(connection, "before_cursor_execute", note)
        for operation, arguments in USES:
            operation(connection, **arguments)
        connection.rollback()
    assert marked == used


@pytest.mark.parametrize(
    ("use", "index"),
    [*zip(USES[:5], [READY, READY, READY_OF_QUEUE, READY_OF_QUEUE, READY_OF_QUEUE], strict=True)],
    ids=["all", "all after a place", "one", "one after a place", "many"],
)
def test_a_kept_fetch(
    explain: tuple[sa.Connection, Explain], use: tuple[Operation, dict[str, Any]], index: str
) -> None:
    operation, arguments = use
    plans = explain[1](operation, **arguments)
    check(plans, reads={index, PRIMARY_KEY}, buffers=1000)


def test_a_kept_promotion(explain: tuple[sa.Connection, Explain]) -> None:
    check(explain[1](core.promote_jobs), reads={UPCOMING, LOCK_HOLDER, PRIMARY_KEY}, buffers=7000)


def test_a_kept_look_for_what_needs_a_sweep(explain: tuple[sa.Connection, Explain]) -> None:
    """It probes, and reads the rows of running jobs."""
    check(explain[1](core.find_unswept), reads={"procrastinate_jobs_doing_idx"}, buffers=1000, small=SMALL)


def test_a_kept_look_for_late_workers(explain: tuple[sa.Connection, Explain]) -> None:
    arguments = {"worker_id": WORKER, "heartbeat_interval": 10.0, "stalled_timeout": 30.0}
    check(explain[1](core.list_late_workers, **arguments), reads=set(), buffers=100, thrown_away=1, small=SMALL)


def test_a_kept_look_for_open_operations(explain: tuple[sa.Connection, Explain]) -> None:
    check(explain[1](core.list_open_operations), reads=set(), buffers=10, small={"procrastinate_operations"})


@pytest.mark.parametrize("delete", [False, True])
def test_kept_outcomes(explain: tuple[sa.Connection, Explain], delete: bool) -> None:
    connection, explained = explain
    ids = running(connection, "running", 20) + running(connection, "holder", 20)
    plans = explained(core.finish_jobs, outcomes(ids, delete=delete), worker_id=WORKER)
    check(plans, reads={PRIMARY_KEY}, buffers=2500)
