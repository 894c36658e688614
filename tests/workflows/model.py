"""Random graphs, and what becomes of their steps."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from hypothesis import strategies as st

from procrastinate.core import GroupKind, NewDependency, NewGraph, NewGroup, NewStep, Rule, Status
from tests.database import new_job


@dataclasses.dataclass(frozen=True)
class Planned:
    """A step: the steps and groups that it waits for with the rule for each, its group, and how its runs end."""

    steps: dict[int, Rule]
    groups: dict[int, Rule]
    group: int
    succeeds: bool
    retries: int


@st.composite
def graphs(draw: st.DrawFn, max_steps: int = 25) -> list[Planned]:
    """Return steps in an order in which they can run. Groups 1 and 2 are of several steps, and 0 is the workflow.

    A step waits for a group only after the last member of the group, so there is no cycle.
    """
    rules = st.sampled_from((Rule.SUCCESS, Rule.SUCCESS, Rule.END))
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
                succeeds=draw(st.sampled_from((True, True, True, False))),
                retries=draw(st.sampled_from((0, 0, 1))),
            )
        )
    return steps


def to_graph(steps: Sequence[Planned]) -> NewGraph:
    """Return the graph to store, with a callback of each kind."""
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
                NewStep(job=new_job(), step=f"s{place}", group=step.group + 1, waits=bool(step.steps or step.groups))
                for place, step in enumerate(steps)
            ),
            *(NewStep(job=new_job(), step=rule.name, group=0, waits=True) for rule in callbacks),
        ),
        dependencies=tuple(edges),
    )


def expected(steps: Sequence[Planned]) -> list[Status]:
    """Return the end of each step, and of the three callbacks."""
    ends: list[Status] = []
    for step in steps:
        needed = [ends[parent] for parent, rule in step.steps.items() if rule is Rule.SUCCESS]
        for group, rule in step.groups.items():
            if rule is Rule.SUCCESS:
                needed += [end for one, end in zip(steps, ends, strict=False) if one.group == group]
        if any(end is not Status.SUCCEEDED for end in needed):
            ends.append(Status.CANCELLED)
        else:
            ends.append(Status.SUCCEEDED if step.succeeds else Status.FAILED)
    all_succeeded = all(end is Status.SUCCEEDED for end in ends)
    callbacks = [Status.SUCCEEDED, Status.CANCELLED] if all_succeeded else [Status.CANCELLED, Status.SUCCEEDED]
    return [*ends, *callbacks, Status.SUCCEEDED]
