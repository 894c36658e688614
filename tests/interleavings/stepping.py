"""Actors with a transaction each, that go on one statement at a time, in every order there is.

An actor stops before each of its statements and before its commit. A scheduler lets one of the
unblocked actors do a step, and records which others it could have chosen. Repeated runs with other choices cover every
order. An actor that waits for a lock, according to PostgreSQL, is skipped until the lock is free.
"""

from __future__ import annotations

import dataclasses
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import sqlalchemy as sa

Operation = Callable[[sa.Connection], Any]

_BLOCKERS = sa.text("SELECT cardinality(pg_blocking_pids(:pid)) > 0")
_PATIENCE = 30.0


LONGEST_PLAN = 60
"""More steps than the acts have together."""


class Actor:
    """Runs one operation in its own transaction, connection and thread."""

    def __init__(self, engine: sa.Engine, operation: Operation) -> None:
        self.result: Any = None
        self.error: Exception | None = None
        self.is_blocked = False
        self.is_done = False
        self._operation = operation
        self._may_go = threading.Semaphore(0)
        self._has_stopped = threading.Semaphore(0)
        self._connection = engine.connect()
        self.pid: int = self._connection.connection.driver_connection.info.backend_pid  # type: ignore[union-attr]
        sa.event.listen(self._connection, "before_cursor_execute", self._stop)
        sa.event.listen(self._connection, "commit", self._stop)
        self._thread = threading.Thread(target=self._act)
        self._thread.start()

    def _stop(self, *_: Any) -> None:
        self._has_stopped.release()
        self._may_go.acquire()

    def _act(self) -> None:
        try:
            with self._connection.begin():
                self.result = self._operation(self._connection)
        except Exception as error:
            self.error = error
        finally:
            self._connection.close()
            self.is_done = True
            self._has_stopped.release()

    def go_on(self) -> None:
        """Let the actor do its next step."""
        self._may_go.release()

    def has_stopped(self, patience: float) -> bool:
        """Return whether the actor reaches its next stop, or its end, within `patience` seconds."""
        return self._has_stopped.acquire(timeout=patience)

    def join(self) -> None:
        """Wait for the actor's thread."""
        self._thread.join(_PATIENCE)


class GoingOn(tuple[int, ...]):
    """A plan after whose end the actor that went on last goes on, as long as it can.

    After the end of another plan, the first unblocked actor goes on.
    """

    __slots__ = ()


@dataclasses.dataclass
class Scheduler:
    """Runs actors to their end by a plan, and after its end one after the other."""

    watch: sa.Connection
    plan: Sequence[int]
    choices: list[tuple[int, int]] = dataclasses.field(default_factory=list)
    """For each step, the index of the chosen actor among the unblocked ones, and their number."""
    trace: list[int] = dataclasses.field(default_factory=list)
    """For each step, the index of the actor that went on."""
    can_go_on: list[bool] = dataclasses.field(default_factory=list)
    """For each step, whether the actor of the step before could go on."""

    def run(self, actors: Sequence[Actor]) -> None:
        """Run all actors to their end."""
        for actor in actors:
            self._wait(actor)
        while not all(actor.is_done for actor in actors):
            able = [number for number, actor in enumerate(actors) if not actor.is_done and not actor.is_blocked]
            if not able:
                self._wait_for_any(actors)
                continue
            place = self._next_place(able)
            self.choices.append((place, len(able)))
            self.trace.append(able[place])
            actors[able[place]].go_on()
            self._wait(actors[able[place]])
            for actor in actors:
                if actor.is_blocked:
                    self._wait(actor)
        for actor in actors:
            actor.join()

    def _next_place(self, able: Sequence[int]) -> int:
        """Return which of the unblocked actors goes on."""
        last = self.trace[-1] if self.trace else -1
        can_go_on = last in able
        self.can_go_on.append(can_go_on)
        if len(self.choices) < len(self.plan):
            return min(self.plan[len(self.choices)], len(able) - 1)  # a plan drawn at random knows no blocked actors
        if can_go_on and isinstance(self.plan, GoingOn):
            return able.index(last)
        return 0

    def _wait(self, actor: Actor) -> None:
        """Wait until the actor has stopped, or waits for a lock."""
        end = time.monotonic() + _PATIENCE
        while time.monotonic() < end:
            if actor.has_stopped(0.002):
                actor.is_blocked = False
                return
            if self.watch.execute(_BLOCKERS, {"pid": actor.pid}).scalar_one():
                actor.is_blocked = True
                return
        raise AssertionError("neither stops nor waits for a lock")

    def _wait_for_any(self, actors: Sequence[Actor]) -> None:
        """Wait until PostgreSQL unblocks one of the actors by a deadlock error or a timeout."""
        end = time.monotonic() + _PATIENCE
        while time.monotonic() < end:
            for actor in actors:
                if actor.is_blocked and actor.has_stopped(0.01):
                    actor.is_blocked = False
                    return
        raise AssertionError("all actors wait for each other")


def every_plan(run: Callable[[Sequence[int]], Scheduler]) -> Iterator[Scheduler]:
    """Run each plan that gives a new order, and yield its scheduler."""
    plan: list[int] | None = []
    while plan is not None:
        scheduler = run(plan)
        yield scheduler
        plan = _next_plan(scheduler.choices)


def plans_of_few_interruptions(run: Callable[[Sequence[int]], Scheduler], most: int) -> Iterator[Scheduler]:
    """Run each plan that gives a new order with few interruptions, and yield its scheduler.

    An interruption is a step of another actor, while the one that went on last could go on. Most faults need one or
    two, and the number of orders stays small for acts of many statements.
    """
    waiting: list[tuple[list[int], int]] = [([], 0)]
    while waiting:
        plan, interruptions = waiting.pop()
        scheduler = run(GoingOn(plan))
        yield scheduler
        places = [place for place, _ in scheduler.choices]
        for step in range(len(plan), len(places)):
            then = interruptions + scheduler.can_go_on[step]
            if then <= most:
                others = (place for place in range(scheduler.choices[step][1]) if place != places[step])
                waiting += [([*places[:step], other], then) for other in others]


def random_plans(number: int, actors: int) -> Iterator[Sequence[int]]:
    """Yield plans: one actor after the other, the second one first, and random mixtures, the same in each run."""
    draw = random.Random(0)
    yield []
    yield [1] * LONGEST_PLAN
    for _ in range(number):
        weights = [draw.choice((1, 3, 9)) for _ in range(actors)]
        yield draw.choices(range(actors), weights, k=LONGEST_PLAN)


def _next_plan(choices: Sequence[tuple[int, int]]) -> list[int] | None:
    """Return a plan with the next choice at the last step that has one left, or ``None``."""
    places = [place for place, _ in choices]
    for step in reversed(range(len(choices))):
        place, able = choices[step]
        if place + 1 < able:
            return [*places[:step], place + 1]
    return None
