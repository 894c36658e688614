"""What limits leave behind is deleted in bounded steps: starts that no rate reaches, and hold-offs that are over."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from procrastinate import App, core
from procrastinate.core import LimitDefinition, LimitSweep, RateTerms
from procrastinate.core.promote import turn_taken
from tests.conformance.steps import query

HOUR, DAY = 3600.0, 86_400.0
STARTED = """
INSERT INTO procrastinate_starts (limit_name, limit_key, at)
SELECT :name, 'k', now() - make_interval(secs => :age) FROM generate_series(1, :number)
"""
HELD_OFF = """
INSERT INTO procrastinate_hold_offs (limit_name, limit_key, until)
SELECT 'l', 'key ' || n, now() + make_interval(secs => :seconds)
FROM generate_series(CAST(:first AS integer), :last) AS one (n)
"""


def start(connection: sa.Connection, name: str, age: float, number: int = 1) -> None:
    """Record starts of a limit that lie this many seconds back."""
    query(connection, STARTED, name=name, age=age, number=number)


def sweep(connection: sa.Connection, *, after: str | None = None, limit: int = 1000) -> LimitSweep:
    with connection.engine.begin() as other:
        return core.sweep_limits(other, after=after, limit=limit)


def left(connection: sa.Connection) -> list[str]:
    return [name for (name,) in query(connection, "SELECT limit_name FROM procrastinate_starts ORDER BY limit_name")]


def test_starts_that_no_rate_of_their_limit_reaches_are_deleted(connection: sa.Connection) -> None:
    """No admission looks at a limit that has no jobs any more."""
    core.define_limits(connection, [LimitDefinition(name="l", rates=(RateTerms(5, 60.0), RateTerms(9, HOUR)))])
    start(connection, "l", 61.0)
    start(connection, "l", HOUR + 1)
    assert sweep(connection) == LimitSweep(deleted=1, reached=None)
    assert left(connection) == ["l"]


def test_the_rates_of_an_operator_keep_starts_too(connection: sa.Connection) -> None:
    core.define_limits(connection, [LimitDefinition(name="l", rates=(RateTerms(5, 60.0),))])
    core.set_limit(connection, LimitDefinition(name="l", total_rates=(RateTerms(5, HOUR),)))
    start(connection, "l", 61.0)
    assert sweep(connection).deleted == 0


@pytest.mark.parametrize("kind", ["renamed", "without rates"])
def test_starts_of_a_limit_that_has_no_rates_any_more_are_deleted_after_a_month(
    connection: sa.Connection, kind: str
) -> None:
    """It may get its rates back until then."""
    if kind == "without rates":
        core.define_limits(connection, [LimitDefinition(name="l", concurrency=1)])
    start(connection, "l", 30 * DAY)
    start(connection, "l", 32 * DAY)
    assert sweep(connection).deleted == 1
    assert left(connection) == ["l"]


def test_a_step_deletes_no_more_rows_than_it_may(connection: sa.Connection) -> None:
    for name in ("a", "b"):
        start(connection, name, 32 * DAY, number=3)
    start(connection, "c", 1.0)
    query(connection, HELD_OFF, seconds=-1, first=1, last=5)
    steps = [sweep(connection, limit=4)]
    while steps[-1].reached is not None:
        steps.append(sweep(connection, after=steps[-1].reached, limit=4))
    assert [step.deleted for step in steps] == [8, 3]
    assert left(connection) == ["c"]


def test_a_sweep_goes_on_after_a_hundred_limits(connection: sa.Connection) -> None:
    for number in range(101):
        start(connection, f"limit {number:03}", 32 * DAY)
    first = sweep(connection)
    assert first == LimitSweep(deleted=100, reached="limit 099")
    assert sweep(connection, after=first.reached) == LimitSweep(deleted=1, reached=None)


def test_hold_offs_that_are_over_are_deleted(connection: sa.Connection) -> None:
    query(connection, HELD_OFF, seconds=-1, first=1, last=3)
    query(connection, HELD_OFF, seconds=HOUR, first=4, last=4)
    assert sweep(connection).deleted == 3
    assert query(connection, "SELECT limit_key FROM procrastinate_hold_offs") == [("key 4",)]


def test_a_sweep_leaves_the_rows_to_an_admission_that_has_the_turn(
    connection: sa.Connection, engine: sa.Engine
) -> None:
    start(connection, "l", 32 * DAY)
    with engine.begin() as other:
        assert other.execute(sa.select(turn_taken())).scalar_one()
        assert sweep(connection) == LimitSweep(deleted=0, reached="")
    assert sweep(connection, after="") == LimitSweep(deleted=1, reached=None)


def test_a_worker_has_nothing_to_sweep_without_starts_and_hold_offs(connection: sa.Connection) -> None:
    assert not core.find_unswept(connection).starts
    start(connection, "l", 1.0)
    assert core.find_unswept(connection).starts
    query(connection, "DELETE FROM procrastinate_starts")
    query(connection, HELD_OFF, seconds=HOUR, first=1, last=1)
    assert core.find_unswept(connection).starts


async def test_a_worker_deletes_them(connection: sa.Connection, database_url: str) -> None:
    start(connection, "renamed", 32 * DAY)
    app = App(connector=database_url)
    task = app.task(name="task")(lambda: None)
    async with app.open_async():
        await task.defer_async()
        await app.run_worker_async(wait=False, install_signal_handlers=False)
    assert left(connection) == []
