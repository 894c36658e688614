"""Random graphs, and what becomes of their steps."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Collection, Sequence

from hypothesis import strategies as st

from procrastinate.core import GroupKind, NewDependency, NewGraph, NewGroup, NewJob, NewStep, Rule, Status
from tests.database import new_job


@dataclasses.dataclass(frozen=True)
class Planned:
    """A step: the steps and groups that it waits for with the rule for each, its group, and how its runs end."""

    steps: dict[int, Rule]
    groups: dict[int, Rule]
    group: int
    end: Status
    retries: int


_ENDS = (Status.SUCCEEDED,) * 4 + (Status.FAILED, Status.ABORTED)
_RULES = (Rule.SUCCESS, Rule.SUCCESS, Rule.END)


@st.composite
def graphs(draw: st.DrawFn, max_steps: int = 25) -> list[Planned]:
    """Return steps in an order in which they can run. Groups 1 and 2 are of several steps, and 0 is the workflow.

    A step waits for a group only after the last member of the group, so there is no cycle.
    """
    rules = st.sampled_from(_RULES)
    number = draw(st.integers(1, max_steps))
    last_of_group = {group: draw(st.integers(0, number)) for group in (1, 2)}
    steps: list[Planned] = []
    for place in range(number):
        open_groups = [0, *(group for group, last in last_of_group.items() if place <= last)]
        closed = [group for group, last in last_of_group.items() if place > last]
        parents = draw(st.lists(st.integers(0, place - 1), max_size=3, unique=True)) if place else []
        steps.append(
            Planned(
                steps={parent: draw(rules) for parent in parents},
                groups={group: draw(rules) for group in closed if draw(st.booleans())},
                group=draw(st.sampled_from(open_groups)),
                end=draw(st.sampled_from(_ENDS)),
                retries=draw(st.sampled_from((0, 0, 1))),
            )
        )
    return steps


def large_graph(seed: int, size: int) -> list[Planned]:
    """Return a graph of that many steps, of which one in thirty does not succeed, so that most of them run."""
    drawn = random.Random(seed)
    last_of_group = {1: size // 2, 2: 3 * size // 4}
    steps: list[Planned] = []
    for place in range(size):
        open_groups = [0, *(group for group, last in last_of_group.items() if place <= last)]
        closed = [group for group, last in last_of_group.items() if place > last and drawn.random() < 0.1]
        parents = drawn.sample(range(max(0, place - 20), place), k=min(place, drawn.randint(0, 3)))
        steps.append(
            Planned(
                steps={parent: drawn.choice((*_RULES, Rule.END)) for parent in parents},
                groups=dict.fromkeys(closed, Rule.END),
                group=drawn.choice(open_groups),
                end=drawn.choice(_ENDS) if drawn.random() < 0.1 else Status.SUCCEEDED,
                retries=drawn.choice((0, 0, 0, 1)),
            )
        )
    return steps


def _any_job(place: int) -> NewJob:
    return new_job()


def to_graph(steps: Sequence[Planned], job: Callable[[int], NewJob] = _any_job) -> NewGraph:
    """Return the graph to store, with a callback of each kind. ``job`` makes the job of each place."""
    groups = [
        NewGroup(kind=GroupKind.WORKFLOW, name="w"),
        NewGroup(kind=GroupKind.STEPS, name="w", parent=0),
        *(NewGroup(kind=GroupKind.GROUP, name=f"g{number}", parent=1) for number in (1, 2)),
    ]
    edges = [
        NewDependency(step=place, rule=rule, parent_step=parent)
        for place, step in enumerate(steps)
        for parent, rule in step.steps.items()
    ]
    edges += [
        NewDependency(step=place, rule=rule, parent_group=group + 1)
        for place, step in enumerate(steps)
        for group, rule in step.groups.items()
    ]
    callbacks = (Rule.ON_SUCCESS, Rule.ON_FAILURE, Rule.END)
    edges += [NewDependency(step=len(steps) + place, rule=rule, parent_group=1) for place, rule in enumerate(callbacks)]
    return NewGraph(
        if_failed="cancel",
        groups=tuple(groups),
        steps=(
            *(
                NewStep(job=job(place), step=f"s{place}", group=step.group + 1, waits=bool(step.steps or step.groups))
                for place, step in enumerate(steps)
            ),
            *(
                NewStep(job=job(len(steps) + number), step=rule.name, group=0, waits=True)
                for number, rule in enumerate(callbacks)
            ),
        ),
        dependencies=tuple(edges),
    )


def expected(steps: Sequence[Planned], deleted: Collection[int] = ()) -> list[Status | None]:
    """Return the end of each step, and of the three callbacks. A step that was deleted before it ran has none."""
    ends: list[Status | None] = []
    for place, step in enumerate(steps):
        needed = [ends[parent] for parent, rule in step.steps.items() if rule is Rule.SUCCESS]
        for group, rule in step.groups.items():
            if rule is Rule.SUCCESS:
                needed += [end for one, end in zip(steps, ends, strict=False) if one.group == group]
        if place in deleted:
            ends.append(None)
        elif any(end is not Status.SUCCEEDED for end in needed):
            ends.append(Status.CANCELLED)
        else:
            ends.append(step.end)
    all_succeeded = all(end is Status.SUCCEEDED for end in ends)
    callbacks = [Status.SUCCEEDED, Status.CANCELLED] if all_succeeded else [Status.CANCELLED, Status.SUCCEEDED]
    return [*ends, *callbacks, Status.SUCCEEDED]
