"""The sweep of the lines: what it reads, and which workers it counts for a fair limit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import sqlalchemy as sa

from procrastinate import core
from procrastinate.core import LimitDefinition, WorkerIdentity, WorkerTerms
from tests.conformance.steps import query
from tests.core.plans import Plan, explain
from tests.database import new_job

KEYS, HOLDERS = 50, 300
SLOTS = "procrastinate_jobs_slots_idx"
RUNNING = """
INSERT INTO procrastinate_jobs
    (queue_name, task_name, status, worker_id, scheduled_at, limit_name, limit_key)
SELECT :queue, 't', 'doing', 1, now(), :name, 'running' FROM generate_series(1, :number)
"""


def run_jobs(connection: sa.Connection, number: int, *, name: str = "l", queue: str = "q") -> None:
    query(connection, RUNNING, queue=queue, name=name, number=number)


def defer(connection: sa.Connection, number: int, **job: Any) -> None:
    core.defer_jobs(connection, [new_job(limit_name="l", limit_key=f"key {one}", **job) for one in range(number)])


def rows_read(plans: Sequence[Plan], index: str) -> int:
    nodes = [node for plan in plans for node in plan.nodes() if node.get("Index Name") == index]
    assert nodes
    return sum(int(node["Actual Rows"] * node["Actual Loops"]) for node in nodes)


@pytest.mark.parametrize("numbers", [{"total": 400}, {"fair": True}, {"fair": True, "total": 400}], ids=str)
def test_the_slots_of_all_keys_are_counted_once(
    connection: sa.Connection, engine: sa.Engine, numbers: dict[str, Any]
) -> None:
    core.define_limits(connection, [LimitDefinition(name="l", **numbers)])
    run_jobs(connection, HOLDERS)
    defer(connection, KEYS)
    with engine.connect() as other:
        other.exec_driver_sql("SET enable_seqscan = off")
        other.commit()
        plans = explain(other, core.sweep_lines)
    assert HOLDERS <= rows_read(plans, SLOTS) <= 3 * HOLDERS


def test_only_workers_of_the_queues_of_the_limit_count_for_it(connection: sa.Connection) -> None:
    terms = WorkerTerms(heartbeat_interval=10.0, stalled_timeout=30.0)
    for queue, concurrency in (("mail", 1), ("reports", 5)):
        identity = WorkerIdentity(
            name="w", hostname="h", pid=1, version="1", queues=(queue,), concurrency=concurrency, listens=True
        )
        core.register_worker(connection, terms, identity)
    core.define_limits(connection, [LimitDefinition(name=name, fair=True) for name in ("l", "other")])
    run_jobs(connection, 1, queue="mail")
    run_jobs(connection, 1, name="other", queue="reports")
    defer(connection, 1, queue_name="mail")
    core.defer_job(connection, new_job(limit_name="other", limit_key="k", queue_name="reports"))
    query(connection, "DELETE FROM procrastinate_openings")
    core.sweep_lines(connection)
    assert query(connection, "SELECT limit_name FROM procrastinate_openings") == [("other",)]
