"""Workers in PostgreSQL: their ids, and rows with invalid values."""

from __future__ import annotations

import secrets

import pytest
import sqlalchemy as sa

from procrastinate import core
from procrastinate.core import WorkerTerms

TERMS = WorkerTerms(heartbeat_interval=10, stalled_timeout=30)


def test_the_numbers_of_workers_are_no_series(connection: sa.Connection) -> None:
    """A sequence that was reset returns the same numbers again."""
    first = core.register_worker(connection, TERMS)
    connection.exec_driver_sql("TRUNCATE procrastinate_workers RESTART IDENTITY")
    assert core.register_worker(connection, TERMS) != first


def test_no_worker_has_the_number_of_one_of_an_older_release(connection: sa.Connection) -> None:
    """Older releases take positive numbers from the sequence."""
    old = connection.exec_driver_sql("INSERT INTO procrastinate_workers DEFAULT VALUES RETURNING id").scalar_one()
    assert old > 0 > core.register_worker(connection, TERMS) >= -(2**53)


def test_a_number_that_is_taken_is_drawn_again(connection: sa.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = iter([5, 5, 6])
    monkeypatch.setattr(secrets, "randbits", lambda _bits: next(numbers))
    assert [core.register_worker(connection, TERMS) for _ in range(2)] == [-6, -7]


@pytest.mark.parametrize("column", ["last_heartbeat", "heartbeat_interval", "stalled_timeout"])
@pytest.mark.parametrize("value", ["infinity", "-infinity", "NaN", "1.7e308", "-1.7e308", "5e-324", "0"])
def test_a_row_with_an_odd_value_does_not_hide_the_others(connection: sa.Connection, column: str, value: str) -> None:
    if column == "last_heartbeat" and "infinity" not in value:
        value = {"NaN": "294276-12-31", "0": "4713-01-01 BC"}.get(value, "2000-01-01")
    judge, odd, dead = (core.register_worker(connection, TERMS) for _ in range(3))
    statement = f"UPDATE procrastinate_workers SET {column} = '{value}' WHERE id = {odd}"  # noqa: S608
    connection.exec_driver_sql(statement)
    connection.execute(
        sa.text("UPDATE procrastinate_workers SET last_heartbeat = now() - interval '1 hour' WHERE id = :id"),
        {"id": dead},
    )
    late = core.list_late_workers(connection, worker_id=judge, heartbeat_interval=10, stalled_timeout=30)
    assert dead in core.remove_dead_workers(connection, late)
    connection.execute(
        sa.text("UPDATE procrastinate_workers SET last_heartbeat = now() - interval '1 hour' WHERE id = :id"),
        {"id": judge},
    )
    assert judge in core.prune_stalled_workers(connection, seconds_since_heartbeat=60)


@pytest.mark.parametrize("value", ["infinity", "NaN", "1.7e308"])
def test_a_worker_that_says_odd_terms_is_dead_when_it_is_silent(connection: sa.Connection, value: str) -> None:
    """Otherwise its jobs would never run."""
    judge, odd = (core.register_worker(connection, TERMS) for _ in range(2))
    connection.execute(
        sa.text(
            "UPDATE procrastinate_workers SET last_heartbeat = now() - interval '1 hour', "
            "heartbeat_interval = CAST(:value AS float8), stalled_timeout = CAST(:value AS float8) WHERE id = :id"
        ),
        {"value": value, "id": odd},
    )
    (late,) = core.list_late_workers(connection, worker_id=judge, heartbeat_interval=10, stalled_timeout=30)
    assert (late.id, late.heartbeat_interval, late.stalled_timeout) == (odd, 10, 30)
    assert core.prune_stalled_workers(connection, seconds_since_heartbeat=60) == [odd]


def test_a_locked_worker_row_does_not_block_the_removal_of_other_dead_workers(
    connection: sa.Connection, engine: sa.Engine
) -> None:
    """A session that locks one worker's row must not block the rescue of other workers' jobs."""
    judge, locked, dead = (core.register_worker(connection, TERMS) for _ in range(3))
    connection.exec_driver_sql("UPDATE procrastinate_workers SET last_heartbeat = now() - interval '1 hour'")
    late = core.list_late_workers(connection, worker_id=judge, heartbeat_interval=10, stalled_timeout=30)
    assert {one.id for one in late} == {locked, dead}
    with engine.connect() as other:
        other.execute(sa.text("SELECT 1 FROM procrastinate_workers WHERE id = :id FOR UPDATE"), {"id": locked})
        assert core.remove_dead_workers(connection, late) == [dead]
        other.rollback()
    assert core.remove_dead_workers(connection, late) == [locked]
