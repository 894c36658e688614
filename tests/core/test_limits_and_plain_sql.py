"""Plain SQL that changes the limit of a job gives away no slot that the job did not have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from procrastinate import core
from procrastinate.core import LimitDefinition
from tests.conformance.steps import query
from tests.database import new_job
from tests.invariants import check_invariants

A, B = {"limit_name": "l", "limit_key": "a"}, {"limit_name": "l", "limit_key": "b"}
OTHER = {"limit_name": "other", "limit_key": "b"}
END = "UPDATE procrastinate_jobs SET status = 'succeeded' WHERE id = 1"
DELETE = "DELETE FROM procrastinate_jobs WHERE id = :id"
INSERT = """
INSERT INTO procrastinate_jobs (queue_name, task_name, limit_name, limit_key, readiness, status)
VALUES ('default', 'task', 'l', 'b', 1, CAST(:status AS procrastinate_job_status)) RETURNING id
"""
START = "UPDATE procrastinate_jobs SET status = 'doing' WHERE id = 1"


def run(engine: sa.Engine) -> Callable[..., Any]:
    """Run each operation in a transaction of its own."""

    def run(operation: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        with engine.begin() as connection:
            return operation(connection, *args, **kwargs)

    return run


def admit(engine: sa.Engine) -> None:
    run(engine)(core.admit_jobs)


def open_key(connection: sa.Connection) -> None:
    query(connection, "INSERT INTO procrastinate_openings (limit_name, limit_key) VALUES ('l', 'b')")


def held(connection: sa.Connection, key: str = "b") -> int:
    return core.show_limit(connection, "l", key).held


def scene(connection: sa.Connection, first: dict[str, Any], *, concurrency: int = 2, is_running: bool = False) -> None:
    """Let job 1 have a slot, which may be of another key, job 2 one of the key b, and others wait for b."""
    core.define_limits(
        connection,
        [LimitDefinition(name="l", concurrency=concurrency), LimitDefinition(name="other", concurrency=1)],
    )
    core.defer_jobs(connection, [new_job(**first), new_job(**B)])
    admit(connection.engine)
    core.promote_jobs(connection)
    worker_id = core.register_worker(connection)
    if is_running:
        assert core.fetch_jobs(connection, worker_id=worker_id, limit=1)[0].id == 1
    core.defer_jobs(connection, [new_job(**B) for _ in range(4)])
    query(connection, "DELETE FROM procrastinate_openings")
    assert held(connection) == (1 if first.get("limit_key") != "b" or first["limit_name"] != "l" else 2)


MOVES = {
    "a promoted job gets another key": (A, False, ["UPDATE procrastinate_jobs SET limit_key = 'b' WHERE id = 1"]),
    "a promoted job gets another limit": (
        OTHER,
        False,
        ["UPDATE procrastinate_jobs SET limit_name = 'l' WHERE id = 1"],
    ),
    "a job without a limit gets one": (
        {},
        False,
        ["UPDATE procrastinate_jobs SET limit_name = 'l', limit_key = 'b' WHERE id = 1"],
    ),
    "a running job gets another key and ends": (
        A,
        True,
        ["UPDATE procrastinate_jobs SET limit_key = 'b' WHERE id = 1", END],
    ),
    "a running job gets a limit and is deleted": (
        {},
        True,
        ["UPDATE procrastinate_jobs SET limit_name = 'l', limit_key = 'b' WHERE id = 1", DELETE],
    ),
    "a job gets another key as it starts, and ends": (
        A,
        False,
        ["UPDATE procrastinate_jobs SET status = 'doing', limit_key = 'b' WHERE id = 1", END],
    ),
    "a job starts without a slot and ends": (
        A,
        False,
        [
            "UPDATE procrastinate_jobs SET limit_key = 'b', readiness = 3 WHERE id = 1",
            START,
            END,
        ],
    ),
}


@pytest.mark.parametrize("move", MOVES)
def test_a_job_that_plain_sql_moves_to_a_key_hands_on_no_slot_of_it(
    engine: sa.Engine, connection: sa.Connection, move: str
) -> None:
    """An admission at the same time does not see the move, and gives the free slot of the key away."""
    first, is_running, statements = MOVES[move]
    scene(connection, first, is_running=is_running)
    with engine.begin() as user:
        for statement in statements:
            query(user, statement, id=1)
        open_key(connection)
        admit(engine)
    assert held(connection) == 2
    admit(engine)
    assert held(connection) == 2


@pytest.mark.parametrize("status", ["doing", "todo"])
def test_a_job_that_plain_sql_inserts_with_a_slot_hands_on_no_slot(
    engine: sa.Engine, connection: sa.Connection, status: str
) -> None:
    scene(connection, A)
    with engine.begin() as user:
        [(job_id,)] = query(user, INSERT, status=status)
        query(user, DELETE, id=job_id)
        open_key(connection)
        admit(engine)
    assert held(connection) == 2


HEAVIER = "UPDATE procrastinate_jobs SET limit_weight = 3 WHERE id = 1"


def test_a_promoted_job_that_plain_sql_makes_heavier_gets_back_in_line(
    engine: sa.Engine, connection: sa.Connection
) -> None:
    scene(connection, B, concurrency=3)
    admit(engine)
    query(connection, HEAVIER)
    assert held(connection) <= 3
    check_invariants(run(engine))


@pytest.mark.parametrize("is_running", [True, False], ids=["running", "promoted"])
def test_a_job_that_plain_sql_makes_heavier_hands_on_no_more_slots_than_it_had(
    engine: sa.Engine, connection: sa.Connection, is_running: bool
) -> None:
    scene(connection, B, concurrency=4, is_running=is_running)
    with engine.begin() as user:
        user.exec_driver_sql(HEAVIER)
        user.exec_driver_sql(END)
        open_key(connection)
        admit(engine)
    assert held(connection) <= 4
    admit(engine)
    assert held(connection) == 4


def test_a_job_in_line_that_plain_sql_makes_lighter_gets_the_slots_it_needs(
    engine: sa.Engine, connection: sa.Connection
) -> None:
    core.define_limits(connection, [LimitDefinition(name="l", concurrency=3)])
    core.defer_jobs(connection, [new_job(**B, limit_weight=2), new_job(**B, limit_weight=2)])
    admit(engine)
    assert held(connection) == 2
    query(connection, "UPDATE procrastinate_jobs SET limit_weight = 1 WHERE id = 2")
    core.promote_jobs(connection)
    admit(engine)
    assert held(connection) == 3
