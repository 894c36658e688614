"""Plays acts on the tables of a scene, in every order, and checks what is left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import sqlalchemy as sa

from procrastinate import core
from tests.conformance.runs import Run
from tests.conformance.steps import settle
from tests.interleavings.saved_tables import SavedTables
from tests.interleavings.scenes import Act
from tests.interleavings.stepping import Actor, Scheduler, every_plan, plans_of_few_interruptions, random_plans
from tests.invariants import check_invariants, check_rest, come_to_rest, drain


class Stage(SavedTables):
    """The tables of a scene, restored before each order.

    Parameters
    ----------
    set_up:
        Fills the tables.
    lowered:
        Limits that acts may lower, and the number of slots that jobs of a key may still have then.
    """

    def __init__(
        self, engine: sa.Engine, set_up: Callable[[Run], None], lowered: Mapping[str, int] = MappingProxyType({})
    ) -> None:
        super().__init__(engine, set_up)
        self._lowered = lowered

    def play_in_every_order(self, acts: Sequence[Act]) -> int:
        """Run acts concurrently in every order of their steps, and return the number of orders."""
        return sum(1 for _ in every_plan(lambda plan: self._play(acts, plan)))

    def play_with_few_interruptions(self, acts: Sequence[Act], most: int) -> int:
        """Run acts of many statements in every order with few interruptions, and return the number of orders."""
        return sum(1 for _ in plans_of_few_interruptions(lambda plan: self._play(acts, plan), most))

    def play_in_random_orders(self, acts: Sequence[Act], number: int) -> int:
        """Run acts of many statements concurrently in some orders, the same each time, and return their number."""
        orders = {tuple(self._play(acts, plan).trace) for plan in random_plans(number, len(acts))}
        return len(orders)

    def _play(self, acts: Sequence[Act], plan: Sequence[int]) -> Scheduler:
        self.put_back()
        with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as watch:
            scheduler = Scheduler(watch, plan)
            actors = [Actor(self._engine, act) for act in acts]
            scheduler.run(actors)
        try:
            for act, actor in zip(acts, actors, strict=True):
                _check_error(act, actor.error)
            released = _released(acts, actors)
            _check_handed_out_once(acts, actors, released)
            check_invariants(self.run, released, self._lowered)
            self._check_what_is_left(released)
        except Exception as error:
            error.add_note(f"{' | '.join(map(str, acts))}, in the order {scheduler.trace}")
            raise
        return scheduler

    def _check_what_is_left(self, released: Mapping[int, int]) -> None:
        """Check that all jobs can run."""
        come_to_rest(self.run)
        check_invariants(self.run, released, self._lowered)
        drain(self.run, released=released)


class StageWithoutSweep(Stage):
    """Checks instead that promotions and admissions leave nothing to the sweep of the next heartbeat."""

    def _check_what_is_left(self, released: Mapping[int, int]) -> None:
        settle(self.run)
        check_rest(self.run)


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
