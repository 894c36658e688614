"""What a lowered limit gives away, one statement at a time and in every order."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest
import sqlalchemy as sa

from tests.conformance import steps
from tests.interleavings.scenes import Act
from tests.interleavings.stage import Stage
from tests.interleavings.stepping import Scheduler
from tests.interleavings.test_limits_in_every_order import CASES, LIMIT, LONG, PAIRS, play, set_up


@dataclasses.dataclass(frozen=True)
class Slots:
    """The slots of a key of the limit "a", and the jobs that have one."""

    number: int
    ids: frozenset[int]


_READ_SLOTS = """
SELECT coalesce(set_concurrency, concurrency), ARRAY(
    SELECT id FROM procrastinate_jobs
    WHERE (limit_name, limit_key) = ('a', 'k') AND (status = 'doing' OR (status = 'todo' AND readiness = 1))
)
FROM procrastinate_limits WHERE name = 'a'
"""


def read_slots(connection: sa.Connection) -> Slots:
    """Read the slots in one statement, which is one step more of an act."""
    [(number, ids)] = steps.query(connection, _READ_SLOTS)
    return Slots(number, frozenset(ids))


@dataclasses.dataclass(frozen=True)
class WatchedAct(Act):
    """Notes the slots before it begins."""

    seen: list[Slots] = dataclasses.field(default_factory=list)

    def __call__(self, connection: sa.Connection) -> Any:
        self.seen.append(read_slots(connection))
        return super().__call__(connection)


class StageAfterLowering(Stage):
    """Checks what the acts give away that begin after the commit of the one that lowers the limit "a".

    Jobs that had slots keep them. No other job gets one, as long as there are as many of these as the limit says.
    """

    def __init__(self, engine: sa.Engine) -> None:
        super().__init__(engine, set_up, lowered={LIMIT.name: LIMIT.concurrency or 0})
        self.number_checked = 0
        self._watched: list[WatchedAct] = []

    def _play(self, acts: Sequence[Act], plan: Sequence[int]) -> Scheduler:
        watched = [WatchedAct(**vars(act)) if act.name != "lower" else act for act in acts]
        self._watched = [act for act in watched if isinstance(act, WatchedAct)]
        return super()._play(watched, plan)

    def _check_what_is_left(self, released: Any) -> None:
        seen = [slots for act in self._watched for slots in act.seen]
        if all(slots.number < (LIMIT.concurrency or 0) for slots in seen):
            had_slots = frozenset[int]().union(*(slots.ids for slots in seen))
            self._check_slots(had_slots)
            steps.settle(self.run)
            self._check_slots(had_slots)
            self.number_checked += 1
        super()._check_what_is_left(released)

    def _check_slots(self, had_slots: frozenset[int]) -> None:
        now = self.run(read_slots)
        assert len(now.ids) <= now.number or now.ids <= had_slots, f"these got slots: {set(now.ids - had_slots)}"


WITH_LOWER = [case for case in (CASES if LONG else PAIRS) if "lower" in case and set(case) != {"lower"}]


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("names", WITH_LOWER, ids=" | ".join)
def test_no_job_gets_a_slot_once_the_limit_is_lowered(engine: sa.Engine, names: tuple[str, ...]) -> None:
    stage = StageAfterLowering(engine)
    play(stage, names)
    assert stage.number_checked
