"""Operations on one limit, one statement at a time and in every order."""

from __future__ import annotations

import dataclasses
import datetime
import itertools
import os
from collections.abc import Mapping, Sequence

import pytest
import sqlalchemy as sa

from procrastinate import core
from procrastinate.core import FinishedJob, JobRetry, Status, admit, errors
from tests.conformance import steps
from tests.conformance.runs import Run
from tests.database import new_job
from tests.interleavings.scenes import ALIVE, LOST, OTHER, Act
from tests.interleavings.stage import Stage
from tests.invariants import list_rows

LONG = bool(os.environ.get("PROCRASTINATE_TESTS_LONG"))
LIMIT = core.LimitDefinition(name="a", concurrency=4)
TOTAL = core.LimitDefinition(name="t", total=2)
FAIR = core.LimitDefinition(name="f", fair=True, total=2)
FIRST, SECOND, STRANDED, UNSTARTED, NEXT, LOCKED, LAST = range(1, 8)
OF_X, OF_Y, NEXT_OF_X, NEXT_OF_Y = range(8, 12)
FAIR_OF_X, FAIR_OF_Y, NEXT_FAIR_OF_X, NEXT_FAIR_OF_Y = range(12, 16)
"""The jobs of the scene, by their ids."""


def set_up(run: Run) -> None:
    """Create jobs that have all slots of three limits, and jobs in line.

    The limit "a" gives four slots to a key. FIRST and SECOND run for ALIVE, STRANDED ran for LOST, UNSTARTED waits to
    be claimed. NEXT, LOCKED (lock "l") and LAST are in line. The limits "t" and "f" give two slots to all keys, "f" in
    turns. The jobs of the keys x and y run, and the next one of each is in line.
    """
    assert [run(core.register_worker) for _ in range(3)] == [ALIVE, LOST, OTHER]
    run(core.define_limits, [LIMIT, TOTAL, FAIR])
    queues = ("slot", "slot", "lost", "default", "default")
    run(core.defer_jobs, [_of("a", "k", queue_name=queue) for queue in queues])
    run(core.defer_jobs, [_of("a", "k", lock="l"), _of("a", "k")])
    for name in ("t", "f"):
        run(core.defer_jobs, [_of(name, key, queue_name="slot") for key in "xy"])
        run(core.defer_jobs, [_of(name, key) for key in "xy"])
    while run(core.admit_jobs).again:
        pass
    assert steps.fetch_ids(run, ALIVE, queues=["slot"]) == [FIRST, SECOND, OF_X, OF_Y, FAIR_OF_X, FAIR_OF_Y]
    assert steps.fetch_ids(run, LOST, queues=["lost"]) == [STRANDED]
    run(core.unregister_worker, LOST)
    assert steps.readiness(run, UNSTARTED) == 1
    in_line = (NEXT, LOCKED, LAST, NEXT_OF_X, NEXT_OF_Y, NEXT_FAIR_OF_X, NEXT_FAIR_OF_Y)
    assert {steps.readiness(run, job_id) for job_id in in_line} == {3}


def _of(name: str, key: str, **job: str) -> core.NewJob:
    return new_job(limit_name=name, limit_key=key, **job)


def _finish(name: str, *job_ids: int) -> Act:
    finished = [FinishedJob(id=job_id, attempts=0, status=Status.SUCCEEDED) for job_id in job_ids]
    return Act(name, core.finish_jobs, (finished,), {"worker_id": ALIVE})


BRIEF = (errors.is_lock_timeout, errors.is_unique_violation)
ACTS = [
    Act("admit", core.admit_jobs, may_raise=(errors.is_unique_violation,)),
    _finish("finish the first", FIRST, OF_X, FAIR_OF_X),
    _finish("finish the second", SECOND, OF_Y, FAIR_OF_Y),
    Act("retry the first", core.retry_jobs, ([JobRetry(id=FIRST, attempts=0)],), {"worker_id": ALIVE}),
    Act("finish the first by hand", core.finish_job_by_id, (FIRST,), {"status": Status.FAILED, "delete": True}),
    Act("rescue", core.rescue_jobs, (), {"max_rescues": 3}, may_raise=BRIEF),
    Act("cancel the next", core.cancel_job, (NEXT,)),
    Act("cancel the unstarted", core.cancel_job, (UNSTARTED,), {"delete": True}),
    Act("fetch", core.fetch_jobs, (), {"worker_id": OTHER, "limit": 9}),
    Act("defer", core.defer_jobs, ([_of("a", "k"), _of("t", "z"), _of("f", "z")],)),
    Act("lower", core.set_limit, (dataclasses.replace(LIMIT, concurrency=1),)),
    Act("raise", core.set_limit, (dataclasses.replace(LIMIT, concurrency=6),)),
    Act("hold off", core.hold_off, ("a", "k", 0.001)),
    Act("sweep", core.sweep_lines),
]
NAMED = {act.name: act for act in ACTS}
PAIRS = [
    ("admit", "admit"),
    ("admit", "finish the first"),
    ("finish the first", "finish the second"),
    ("finish the first", "rescue"),
    ("finish the first", "cancel the next"),
    ("finish the first", "lower"),
    ("admit", "lower"),
]
OF_SHORT_ACTS = [
    ("finish the first", "finish the second", "cancel the next"),
    ("rescue", "finish the first", "cancel the unstarted"),
]
"""Triples of so few statements that they are played in every order."""
TRIPLES = [
    *OF_SHORT_ACTS,
    ("finish the first", "finish the second", "lower"),
    ("lower", "finish the first by hand", "rescue"),
    *itertools.combinations(("admit", "finish the first", "rescue", "cancel the unstarted", "lower"), 3),
]
CASES = [(first.name, second.name) for place, first in enumerate(ACTS) for second in ACTS[place:]] + TRIPLES
ROUND = int(os.environ.get("PROCRASTINATE_TESTS_ROUND", "0"))
"""Selects the triple of the short form, another one in each round."""

CHANGES = {"lower", "raise"}
INTERRUPTIONS, RANDOM_ORDERS = (2, 200) if LONG else (1, 5)


def play(stage: Stage, names: Sequence[str]) -> int:
    """Play acts in every order, and return the number of orders.

    A change of a limit has too many statements for that, and so have three acts, unless all are short. They are played
    in every order with few interruptions, and changes in random orders as well. With an admission, which waits half a
    second for a change, all orders took more than an hour.
    """
    acts = [NAMED[name] for name in names]
    has_change = bool(CHANGES & set(names))
    if not has_change and (len(names) == 2 or names in OF_SHORT_ACTS):
        return stage.play_in_every_order(acts)
    if has_change:
        stage.play_in_random_orders(acts, RANDOM_ORDERS)
    return stage.play_with_few_interruptions(acts, INTERRUPTIONS)


@pytest.fixture
def stage(engine: sa.Engine) -> Stage:
    return Stage(engine, set_up, lowered={LIMIT.name: LIMIT.concurrency or 0})


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("names", CASES if LONG else [*PAIRS, TRIPLES[ROUND % len(TRIPLES)]], ids=" | ".join)
def test_no_order_exceeds_a_limit_or_forgets_a_job_in_line(stage: Stage, names: tuple[str, ...]) -> None:
    assert play(stage, names) >= 2


class StageOfLowering(Stage):
    """Checks that no job may start above the lower limit."""

    def _check_what_is_left(self, released: Mapping[int, int]) -> None:
        rows = self.run(list_rows).values()
        unclaimed = [row["id"] for row in rows if row["limit_name"] == LIMIT.name and row["readiness"] == 1]
        assert unclaimed == [], "these may start above the lower limit"
        super()._check_what_is_left(released)


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("other", ["fetch", "defer", "admit"])
def test_no_job_starts_above_a_limit_that_was_lowered(
    engine: sa.Engine, other: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admit, "LONGEST_CHANGE", datetime.timedelta(minutes=10))
    stage = StageOfLowering(engine, set_up_with_room, lowered={LIMIT.name: LIMIT.concurrency or 0})
    assert play(stage, ["lower", other]) >= 2


def set_up_with_room(run: Run) -> None:
    """Let one slot more be free, so that an admission gives it away. UNSTARTED and NEXT have slots, too."""
    set_up(run)
    run(core.set_limit, dataclasses.replace(LIMIT, concurrency=6))
