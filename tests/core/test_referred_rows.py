"""Jobs to whose rows other tables refer. A foreign key locks such a row until its transaction ends."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from procrastinate import core
from procrastinate.core import LimitDefinition
from tests.conformance.steps import query
from tests.database import new_job


@pytest.fixture
def ids(connection: sa.Connection, engine: sa.Engine) -> list[int]:
    """Return three jobs that have slots of a limit."""
    core.define_limits(connection, [LimitDefinition(name="l", concurrency=5)])
    ids = core.defer_jobs(connection, [new_job(queue_name="mail", limit_name="l", limit_key="k") for _ in range(3)])
    with engine.begin() as other:
        assert core.admit_jobs(other).admitted == 3
    return ids


@pytest.fixture
def change(engine: sa.Engine, ids: list[int]) -> Iterator[sa.Connection]:
    """Yield a transaction next to another one, which has locked the rows as foreign keys do."""
    with contextlib.ExitStack() as stack:
        other = stack.enter_context(engine.begin())
        assert len(query(other, "SELECT id FROM procrastinate_jobs FOR KEY SHARE")) == len(ids)
        yield stack.enter_context(engine.begin())


def promoted(change: sa.Connection) -> list[int]:
    return [row[0] for row in query(change, "SELECT id FROM procrastinate_jobs WHERE readiness = 1 ORDER BY id")]


def test_a_lower_limit_takes_their_slots(change: sa.Connection, ids: list[int]) -> None:
    core.set_limit(change, LimitDefinition(name="l", concurrency=1))
    assert promoted(change) == ids[:1]


def test_a_hold_off_takes_their_slots(change: sa.Connection, ids: list[int]) -> None:
    core.hold_off(change, "l", "k", 3600.0)
    assert promoted(change) == []


def test_a_pause_takes_their_slots(change: sa.Connection, ids: list[int]) -> None:
    assert sorted(core.free_locks_of_paused(change, queue="mail")) == ids
    assert promoted(change) == []
