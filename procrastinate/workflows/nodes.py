"""The parts of a workflow that is being built."""

from __future__ import annotations

import dataclasses
from typing import Any

from procrastinate.calls import Call
from procrastinate.core import GroupKind, NewJob, Rule


@dataclasses.dataclass(eq=False)
class GroupNode:
    """A group of a workflow that is being built, or the workflow itself."""

    kind: GroupKind
    name: str
    parent: GroupNode | None
    after: tuple[Any, ...] = ()
    needs: str = "success"
    needs_results: bool = False
    members: list[StepNode] = dataclasses.field(default_factory=list)
    place: int = 0


@dataclasses.dataclass(frozen=True)
class StoredParent:
    """A step that is stored already, by the id of its job."""

    job_id: int


@dataclasses.dataclass(eq=False)
class Edge:
    """A step waits for another step or for a group. ``argument`` is the place that the result is for.

    ``parent`` is ``None`` for a signal that nothing comes before.
    """

    parent: StepNode | GroupNode | StoredParent | None
    rule: Rule
    argument: str | None = None
    delay: float | None = None


@dataclasses.dataclass(eq=False)
class StepNode:
    """A step of a workflow that is being built. ``expansion`` is the group of what it adds, with the step itself."""

    name: str
    call: Call[Any]
    job: NewJob
    group: GroupNode
    edges: list[Edge]
    delay: float | None = None
    waits: bool = False
    expansion: GroupNode | None = None
    place: int = 0
    handle: Any = None

    @property
    def target(self) -> StepNode | GroupNode:
        """What a dependant of this step waits for."""
        return self.expansion or self
