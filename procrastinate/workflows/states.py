"""What a program sees of a stored workflow."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Sequence

from procrastinate.core import (
    Counts,
    GroupKind,
    StoredDependency,
    StoredGroup,
    StoredStep,
    StoredWorkflow,
    WorkflowState,
)
from procrastinate.core.job_states import label_of
from procrastinate.core.workflow_rows import callback_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class WorkflowInfo:
    """A stored workflow.

    Parameters
    ----------
    id, name, if_failed:
        As the workflow was deferred.
    state:
        ``running``, ``held``, ``succeeded``, ``failed`` or ``cancelled``. Callbacks do not count.
    counts:
        The number of steps in each state, without the callbacks. A waiting step counts in the state that pages show,
        such as ``waiting_for_signal``.
    created_at, finished_at:
        Start and end, as aware datetimes. The end includes the callbacks.
    """

    id: int
    name: str
    if_failed: str
    state: WorkflowState
    counts: Counts
    created_at: datetime.datetime | None
    finished_at: datetime.datetime | None

    @property
    def has_ended(self) -> bool:
        """True if all steps have ended. Callbacks may still run."""
        return self.state not in (WorkflowState.RUNNING, WorkflowState.HELD)


def to_info(stored: StoredWorkflow) -> WorkflowInfo:
    """Return what a program sees of a workflow."""
    return WorkflowInfo(
        id=stored.id,
        name=stored.name,
        if_failed=stored.if_failed,
        state=_state(stored),
        counts=stored.counts,
        created_at=stored.created_at,
        finished_at=stored.finished_at,
    )


def _state(stored: StoredWorkflow) -> WorkflowState:
    counts = stored.counts
    without_success = counts.failed + counts.cancelled + counts.aborted + counts.lost
    if not stored.steps_ended:
        is_held = without_success and counts.open and not stored.goes_on
        return WorkflowState.HELD if is_held and stored.if_failed == "hold" else WorkflowState.RUNNING
    if not without_success:
        return WorkflowState.SUCCEEDED
    return WorkflowState.FAILED if stored.cancelled_at is None else WorkflowState.CANCELLED


@dataclasses.dataclass(frozen=True, kw_only=True)
class Node:
    """A step of a graph, or a group whose steps are folded into one node.

    ``counts`` says what became of the steps, and ``job_ids`` names the first of them. ``is_callback`` is true for a
    step that runs once all others have ended, and ``callback`` says which one: ``on_success``, ``on_failure`` or
    ``on_end``.
    """

    key: str
    name: str
    is_group: bool
    counts: Counts
    job_ids: tuple[int, ...]
    is_callback: bool = False
    callback: str | None = None

    @property
    def state(self) -> str:
        """One word for the state of the node. For a group, it is the state that needs most attention."""
        for word in _BY_URGENCY:
            if getattr(self.counts, word):
                return word
        return "empty"

    @property
    def title(self) -> str:
        """The name of the step. A callback has its kind in front, as in ``on failure: tell_customer``."""
        return f"{label_of(self.callback)}: {self.name}" if self.callback else self.name

    @property
    def label(self) -> str:
        """The state as people read it."""
        return label_of(self.state)


_BY_URGENCY = (
    "failed",
    "aborted",
    "lost",
    "running",
    "ready",
    "limited",
    "blocked",
    "scheduled",
    "waiting_for_signal",
    "waiting_for_steps",
    "cancelled",
    "succeeded",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Graph:
    """The steps of a workflow as nodes. An edge has the keys of a node and of one that waits for it."""

    id: int
    name: str
    nodes: tuple[Node, ...]
    edges: tuple[tuple[str, str], ...]

    def mermaid(self) -> str:
        """Return the graph as text for Mermaid. All names are escaped."""
        lines = ["flowchart LR"]
        lines += [f'    {node.key}["{_escaped(_label(node))}"]:::{node.state}' for node in self.nodes]
        lines += [f"    {parent} --> {child}" for parent, child in self.edges]
        return "\n".join(lines)


def _label(node: Node) -> str:
    if not node.is_group:
        return f"{node.title} ({node.label})"
    return f"{node.name} ({node.counts.succeeded} of {node.counts.total}, {node.label})"


def _escaped(text: str) -> str:
    return "".join(one if one.isascii() and (one.isalnum() or one in " _.,()-") else f"#{ord(one)};" for one in text)


_LISTED = 20
"""Job ids that a folded group names."""


def to_graph(
    workflow_id: int,
    groups: Sequence[StoredGroup],
    steps: Sequence[StoredStep],
    dependencies: Sequence[StoredDependency],
) -> Graph:
    """Return the graph of a workflow. A named group is one node, and so is a step with the steps that it added."""
    by_id = {group.id: group for group in groups}
    node_of_group = {group.id: _node_of_group(group, by_id) for group in groups}
    keys = {step.job_id: node_of_group[step.group_id] or f"s{step.job_id}" for step in steps}
    members: dict[str, list[StoredStep]] = {key: [] for key in node_of_group.values() if key is not None}
    for step in steps:
        members.setdefault(keys[step.job_id], []).append(step)
    names = {f"g{group.id}": group.name for group in groups}
    folded = _counts_of_nodes(groups, node_of_group)
    has_callbacks = any(group.kind is GroupKind.STEPS for group in groups)
    kinds = _callbacks(groups, dependencies)
    nodes = tuple(
        dataclasses.replace(
            _node(key, names.get(key), some, folded.get(key)),
            is_callback=has_callbacks and any(step.group_id == workflow_id for step in some),
            callback=next((kinds[step.job_id] for step in some[:1] if step.job_id in kinds), None),
        )
        for key, some in members.items()
    )
    return Graph(
        id=workflow_id,
        name=by_id[workflow_id].name,
        nodes=nodes,
        edges=tuple(dict.fromkeys(_edges(dependencies, keys, node_of_group, by_id))),
    )


def _callbacks(groups: Sequence[StoredGroup], dependencies: Sequence[StoredDependency]) -> dict[int, str]:
    """Return the kinds of the callbacks by their ids. They, and no step, wait for the group of all steps."""
    all_steps = {group.id for group in groups if group.kind is GroupKind.STEPS}
    return {edge.job_id: callback_of(edge.rule) for edge in dependencies if edge.parent_group_id in all_steps}


def _node_of_group(group: StoredGroup, by_id: dict[int, StoredGroup]) -> str | None:
    """Return the key of the outermost group that is drawn as one node, or ``None`` for a group that is the workflow."""
    key = None
    around: StoredGroup | None = group
    while around is not None:
        if around.kind in (GroupKind.GROUP, GroupKind.EXPANSION):
            key = f"g{around.id}"
        around = None if around.parent_id is None else by_id.get(around.parent_id)
    return key


def _counts_of_nodes(groups: Sequence[StoredGroup], node_of_group: dict[int, str | None]) -> dict[str, Counts]:
    """Return the counts of each folded group, with those of the groups in it."""
    found: dict[str, Counts] = {}
    for group in groups:
        key = node_of_group[group.id]
        if key is not None:
            found[key] = found.get(key, Counts()) + group.counts
    return found


def _node(key: str, group_name: str | None, steps: list[StoredStep], folded: Counts | None) -> Node:
    """Return a node. A group has more steps than were read, so it brings its counts."""
    return Node(
        key=key,
        name=group_name if group_name is not None else steps[0].step,
        is_group=group_name is not None,
        counts=folded or Counts(**{steps[0].word: 1}),
        job_ids=tuple(step.job_id for step in steps[:_LISTED]),
    )


def _edges(
    dependencies: Sequence[StoredDependency],
    keys: dict[int, str],
    node_of_group: dict[int, str | None],
    by_id: dict[int, StoredGroup],
) -> list[tuple[str, str]]:
    found = []
    for edge in dependencies:
        child = keys[edge.job_id]
        if edge.parent_id is not None:
            parents = [keys[edge.parent_id]] if edge.parent_id in keys else []
        else:
            parents = _parents_of_group(edge.parent_group_id, child, keys, node_of_group, by_id)
        found += [(parent, child) for parent in parents if parent != child]
    return found


def _parents_of_group(
    group_id: int | None,
    child: str,
    keys: dict[int, str],
    node_of_group: dict[int, str | None],
    by_id: dict[int, StoredGroup],
) -> list[str]:
    """Return the node of a group. Callbacks wait for the group of all steps, which is no node: they get no edge."""
    if group_id is None or group_id not in by_id:
        return []
    key = node_of_group[group_id]
    return [] if key is None else [key]
