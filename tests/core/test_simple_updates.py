"""The trigger of an update does the same with and without its short ways for jobs that need little."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from procrastinate.alembic.replace_functions import replaced
from procrastinate.alembic.versions import p0028_simple_updates as revision
from procrastinate.alembic.versions.p0029_order_of_locks import WITHOUT_RETURNS
from procrastinate.core import channels
from tests.database import Databases, libpq_url

LONG = bool(os.environ.get("PROCRASTINATE_TESTS_LONG"))
SEEDS = range(40 if LONG else 4)
STATEMENTS = 200
JOBS = 24

LIMITS = """
INSERT INTO procrastinate_limits (name, concurrency, rates) VALUES ('two', 2, NULL), ('three', 3, '[[5, 60]]')
"""
STATE = """
SELECT
    id, status::text, readiness, queue_name, lock, limit_name, limit_key, limit_weight, abort_requested,
    scheduled_at IS NULL, finished_at IS NULL
FROM procrastinate_jobs ORDER BY id
"""
EVENTS = "SELECT job_id, type::text FROM procrastinate_events ORDER BY job_id, id"
OPENINGS = "SELECT lock, limit_name, limit_key FROM procrastinate_openings ORDER BY 1, 2, 3"
ARRIVALS = "SELECT * FROM procrastinate_arrivals ORDER BY id"
STARTS = "SELECT limit_name, limit_key, weight FROM procrastinate_starts ORDER BY 1, 2, 3"

START = "status = 'doing', readiness = 0"
END = "status = 'succeeded', finished_at = now(), readiness = 0, abort_requested = false"
MAY_START = "status = 'todo' AND (limit_name IS NULL OR readiness = 1)"
WAITS = "status = 'todo' AND limit_name IS NULL AND readiness IN (0, 2)"
UPDATES = (
    (MAY_START, START),
    (MAY_START, START),
    ("status = 'todo'", START),
    ("status = 'doing'", END),
    ("status = 'doing'", END),
    ("status = 'doing'", "status = 'failed', finished_at = now()"),
    ("status = 'doing'", "status = 'cancelled'"),
    ("status = 'doing'", "status = 'todo', readiness = 0, scheduled_at = now()"),
    (WAITS, "readiness = 1"),
    (WAITS, "readiness = 2"),
    (WAITS, "readiness = CASE WHEN id % 2 = 0 THEN 1 ELSE 2 END"),
    ("status = 'todo' AND readiness = 3", "readiness = 1"),
    ("status = 'todo' AND readiness IN (1, 2)", "readiness = CASE WHEN limit_name IS NULL THEN 0 ELSE 3 END"),
    ("status = 'todo'", "readiness = 1"),
    ("status NOT IN ('todo', 'doing')", "status = 'todo', readiness = 0, finished_at = NULL"),
    ("status NOT IN ('todo', 'doing')", "status = 'todo', readiness = 0, finished_at = NULL"),
    ("true", "abort_requested = NOT abort_requested"),
    ("true", "priority = priority + 1"),
)
"""What workers do to jobs in a state, most often, and what plain SQL may do to them."""
MOVE_AND_LEAVE = (
    ("status = 'todo' AND limit_name IS NOT NULL", START),
    ("status = 'doing' AND limit_name IS NOT NULL", END),
)
EXTRAS = (
    "lock = 'b'",
    "lock = NULL",
    "limit_key = 'k'",
    "limit_weight = 2",
    "scheduled_at = now()",
    "workflow_id = 1",
    "queue_name = 'r'",
    "abort_requested = true",
)


class Side:
    """One of the two databases, and what its triggers notify."""

    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(libpq_url(url), autocommit=True)
        for channel in channels.channels_for(None):
            self._connection.execute(f'LISTEN "{channel}"')

    def run(self, statement: str) -> str | None:
        """Run a statement, and return the code of the error if the database refuses it."""
        try:
            self._connection.execute(statement)
        except psycopg.Error as error:
            return error.sqlstate
        return None

    def look(self) -> dict[str, Any]:
        """Return all that the triggers have written since the last look, or ever."""
        self._connection.execute("NOTIFY procrastinate_any_queue_v1, 'end'")
        heard = []
        for notification in self._connection.notifies(timeout=10):
            if notification.payload == "end":
                break
            heard.append(json.loads(notification.payload))
        read = {name: self._connection.execute(query).fetchall() for name, query in QUERIES.items()}
        return {**read, "notifications": heard}

    def close(self) -> None:
        self._connection.close()


QUERIES = {"jobs": STATE, "events": EVENTS, "openings": OPENINGS, "starts": STARTS, "arrivals": ARRIVALS}


@pytest.fixture
def sides(databases: Databases) -> Iterator[tuple[Side, Side]]:
    """Yield a database with the triggers of today, and one with the trigger of updates that they were made from."""
    urls = [databases.create_migrated() for _ in range(2)]
    now, before = (Side(url) for url in urls)
    assert before.run(replaced(revision.former.JOBS_UPDATED, WITHOUT_RETURNS)) is None
    yield now, before
    for side, url in zip((now, before), urls, strict=True):
        side.close()
        databases.drop(url)


def inserts(rng: random.Random) -> Iterator[str]:
    """Yield statements that add jobs of all kinds."""
    for _ in range(JOBS):
        lock = rng.choice(["NULL", "NULL", "'a'", "'b'"])
        name = rng.choice(["NULL", "NULL", "'two'", "'three'", "'undefined'"])
        key = "NULL" if name == "NULL" else rng.choice(["'k'", "'l'"])
        readiness, due = (0, rng.choice(["NULL", "now()"])) if name == "NULL" else (3, "now()")
        values = f"'{rng.choice(['q', 'q', 'r'])}', 't', {lock}, {name}, {key}, {readiness}, {due}"
        columns = "queue_name, task_name, lock, limit_name, limit_key, readiness, scheduled_at"
        yield f"INSERT INTO procrastinate_jobs ({columns}) VALUES ({values})"  # noqa: S608


def update(rng: random.Random, state: str, change: str) -> str:
    """Return an update of some jobs of one state."""
    if rng.random() < 0.3:
        extra = rng.choice(EXTRAS)
        change = f"{change}, {extra}" if extra.split()[0] not in change else change
    chosen = f"SELECT id FROM procrastinate_jobs WHERE {state} ORDER BY (id * {rng.choice([5, 7, 11])}) % 23"  # noqa: S608
    limit = rng.choice([1, 1, 1, 2, 4, 8])
    return f"UPDATE procrastinate_jobs SET {change} WHERE id IN ({chosen} LIMIT {limit})"  # noqa: S608


def one_transaction(rng: random.Random) -> str:
    """Return one update or two. A transaction that moved a job to a slot hands on no slots."""
    both = MOVE_AND_LEAVE if rng.random() < 0.2 else [rng.choice(UPDATES) for _ in range(rng.choice([1, 1, 2]))]
    return "; ".join(update(rng, *one) for one in both)


@pytest.mark.parametrize("seed", SEEDS)
def test_any_update_leaves_the_same_rows_and_notifications_as_without_the_short_ways(
    sides: tuple[Side, Side], seed: int
) -> None:
    rng = random.Random(seed)
    statements = [LIMITS, *inserts(rng), *(one_transaction(rng) for _ in range(STATEMENTS))]
    for number, statement in enumerate(statements):
        codes = [side.run(statement) for side in sides]
        now, before = (side.look() for side in sides)
        assert (codes[0], now) == (codes[1], before), (number, statement)
