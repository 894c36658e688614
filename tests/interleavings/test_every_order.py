"""Pairs and triples of operations run one statement at a time, in every order. No order may break an invariant or
raise an undocumented error.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence

import pytest
import sqlalchemy as sa

from procrastinate import core
from tests.conformance.runs import SyncRun
from tests.interleavings.scenes import ACTS, Act, set_up
from tests.interleavings.stepping import Actor, Scheduler, every_plan
from tests.invariants import check_invariants, come_to_rest, drain

LONG = bool(os.environ.get("PROCRASTINATE_TESTS_LONG"))
SHARE = 1 if LONG else 16
"""One in `SHARE` of all pairs is tested."""
ROUND = int(os.environ.get("PROCRASTINATE_TESTS_ROUND", "0"))
"""Selects the tested pairs, different ones in each round."""

TRIPLES = [
    ("promote", "finish", "defer under the lock"),
    ("promote", "finish", "cancel the next"),
    ("promote", "promote", "finish"),
    ("finish", "abort", "rescue"),
    ("fetch", "fetch from queues, by another", "cancel or abort the free one"),
    ("finish", "sweep", "cancel the next"),
    ("retry a failed job by hand", "defer or replace", "fetch"),
    ("finish", "finish by hand", "take stock"),
    ("give back", "abort", "promote"),
    ("give back", "fetch", "defer under the lock"),
    ("give back", "promote", "defer under the lock"),
    ("finish the slot", "cancel the unstarted", "cancel the lined"),
    ("finish the slot", "give the slot back", "defer under the limit"),
    ("finish the heavy one", "cancel the heavier", "admit"),
    ("give the start back", "fetch", "fetch from queues, by another"),
]

_TABLES = [table.name for table in core.metadata.sorted_tables]


class Stage:
    """The tables of a scene, restored before each order."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self.run = SyncRun(engine)
        set_up(self.run)
        self._execute("; ".join(f"CREATE TABLE saved_{table} AS TABLE {table}" for table in _TABLES))

    def _execute(self, statements: str) -> None:
        with self._engine.begin() as connection:
            connection.exec_driver_sql(statements)

    def _put_back(self) -> None:
        copies = [f"INSERT INTO {table} OVERRIDING SYSTEM VALUE TABLE saved_{table}" for table in _TABLES]
        truncate = f"TRUNCATE {', '.join(_TABLES)}"
        self._execute("; ".join(["SET LOCAL session_replication_role = replica", truncate, *copies]))

    def play_in_every_order(self, acts: Sequence[Act]) -> int:
        """Run acts concurrently in every order of their steps, and return the number of orders."""
        return sum(1 for _ in every_plan(lambda plan: self._play(acts, plan)))

    def _play(self, acts: Sequence[Act], plan: Sequence[int]) -> Scheduler:
        self._put_back()
        with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as watch:
            scheduler = Scheduler(watch, plan)
            actors = [Actor(self._engine, act) for act in acts]
            scheduler.run(actors)
        try:
            for act, actor in zip(acts, actors, strict=True):
                _check_error(act, actor.error)
            released = _released(acts, actors)
            _check_handed_out_once(acts, actors, released)
            check_invariants(self.run, released)
            come_to_rest(self.run)
            check_invariants(self.run, released)
            drain(self.run, released=released)
        except Exception as error:
            error.add_note(f"{' | '.join(map(str, acts))}, in the order {scheduler.trace}")
            raise
        return scheduler


def _released(acts: Sequence[Act], actors: Sequence[Actor]) -> Counter[int]:
    """Count the releases of each job, from the results of the acts."""
    return Counter(
        job_id
        for act, actor in zip(acts, actors, strict=True)
        if act.operation is core.release_jobs and actor.error is None
        for job_id in actor.result
    )


def _check_handed_out_once(acts: Sequence[Act], actors: Sequence[Actor], released: Counter[int]) -> None:
    """Check that no two fetches got the same run of a job, unless it was released. The table does not show this."""
    runs = Counter(
        (job.id, job.attempts)
        for act, actor in zip(acts, actors, strict=True)
        if act.operation is core.fetch_jobs and actor.error is None
        for job in actor.result
    )
    doubled = [run for run, times in runs.items() if times > 1 + released[run[0]]]
    assert doubled == [], "these runs were handed out twice (id, attempts)"


def _check_error(act: Act, error: Exception | None) -> None:
    if error is not None and not any(is_documented(error) for is_documented in act.may_raise):
        raise error


@pytest.fixture
def stage(engine: sa.Engine) -> Stage:
    return Stage(engine)


def _partners(first: Act) -> list[Act]:
    place = ACTS.index(first)
    return [act for other, act in enumerate(ACTS[place:], place) if (place + other + ROUND) % SHARE == 0]


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("first", [act for act in ACTS if _partners(act)], ids=str)
def test_two_at_once(stage: Stage, first: Act) -> None:
    for second in _partners(first):
        assert stage.play_in_every_order([first, second]) >= 2


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("names", TRIPLES if LONG else [TRIPLES[(4 + ROUND) % len(TRIPLES)]], ids=" | ".join)
def test_three_at_once(stage: Stage, names: tuple[str, ...]) -> None:
    by_name = {act.name: act for act in ACTS}
    assert stage.play_in_every_order([by_name[name] for name in names]) >= 6
