"""Pairs and triples of operations run one statement at a time, in every order. No order may break an invariant or
raise an undocumented error.
"""

from __future__ import annotations

import os

import pytest
import sqlalchemy as sa

from tests.interleavings.scenes import ACTS, Act, set_up
from tests.interleavings.stage import Stage, StageWithoutSweep

LONG = bool(os.environ.get("PROCRASTINATE_TESTS_LONG"))
SHARE = 1 if LONG else 16
"""One in `SHARE` of all pairs is tested."""
ROUND = int(os.environ.get("PROCRASTINATE_TESTS_ROUND", "0"))
"""Selects the tested pairs, different ones in each round."""

LEFT_TO_THE_SWEEP = {"cancel the heavier"}
"""No slot becomes free when a heavy job leaves the line, so nothing lets those go on that it has held up."""
UNSWEPT = [act for act in ACTS if act.name not in LEFT_TO_THE_SWEEP]

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


@pytest.fixture
def stage(engine: sa.Engine) -> Stage:
    return Stage(engine, set_up)


def _partners(first: Act) -> list[Act]:
    place = ACTS.index(first)
    return [act for other, act in enumerate(ACTS[place:], place) if (place + other + ROUND) % SHARE == 0]


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("first", [act for act in ACTS if _partners(act)], ids=str)
def test_two_at_once(stage: Stage, first: Act) -> None:
    for second in _partners(first):
        assert stage.play_in_every_order([first, second]) >= 2


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("first", [act for act in UNSWEPT if _partners(act)], ids=str)
def test_two_at_once_leave_nothing_to_the_sweep(engine: sa.Engine, first: Act) -> None:
    """Workers are notified, or promote after a moment. The sweep comes only with a heartbeat."""
    stage = StageWithoutSweep(engine, set_up)
    for second in _partners(first):
        if second in UNSWEPT:
            assert stage.play_in_every_order([first, second]) >= 2


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("names", TRIPLES if LONG else [TRIPLES[(4 + ROUND) % len(TRIPLES)]], ids=" | ".join)
def test_three_at_once(stage: Stage, names: tuple[str, ...]) -> None:
    by_name = {act.name: act for act in ACTS}
    assert stage.play_in_every_order([by_name[name] for name in names]) >= 6
