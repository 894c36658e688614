"""Turn a workflow that was built into the rows to store."""

from __future__ import annotations

from collections.abc import Sequence

from procrastinate.core import GroupKind, NewDependency, NewGraph, NewGroup, NewStep
from procrastinate.workflows.nodes import Edge, GroupNode, StepNode, StoredParent


def compile_graph(
    if_failed: str, groups: Sequence[GroupNode], steps: Sequence[StepNode], callbacks: Sequence[StepNode] = ()
) -> NewGraph:
    """Return the graph to store. The first group is the workflow.

    With callbacks, the steps are in a group of their own. A callback waits for that group, and the workflow ends with
    its last callback.
    """
    root, *rest = groups
    first = 2 if callbacks else 1
    root.place = first - 1
    for place, group in enumerate(rest, first):
        group.place = place
    members = [*steps, *callbacks]
    for place, step in enumerate(members):
        step.place = place
    head = [NewGroup(kind=GroupKind.WORKFLOW, name=root.name)]
    if callbacks:
        head.append(NewGroup(kind=GroupKind.STEPS, name=root.name, parent=0))
    return NewGraph(
        if_failed=if_failed,
        groups=(*head, *(_group(group) for group in rest)),
        steps=(*(_step(step, step.group.place) for step in steps), *(_step(step, 0) for step in callbacks)),
        dependencies=tuple(_dependency(step, edge) for step in members for edge in step.edges),
    )


def _group(group: GroupNode) -> NewGroup:
    return NewGroup(kind=group.kind, name=group.name, parent=None if group.parent is None else group.parent.place)


def _step(step: StepNode, group: int) -> NewStep:
    return NewStep(job=step.job, step=step.name, group=group, waits=bool(step.edges) or step.waits, delay=step.delay)


def _dependency(step: StepNode, edge: Edge) -> NewDependency:
    parent = edge.parent
    return NewDependency(
        step=step.place,
        rule=edge.rule,
        parent_step=parent.place if isinstance(parent, StepNode) else None,
        parent_group=parent.place if isinstance(parent, GroupNode) else None,
        parent_id=parent.job_id if isinstance(parent, StoredParent) else None,
        argument=edge.argument,
        delay=edge.delay,
    )
