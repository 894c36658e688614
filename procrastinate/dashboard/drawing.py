"""Places of the steps of a workflow, as numbers for an SVG image that the server draws."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from procrastinate.workflows.states import Graph, Node

BOX_WIDTH, BOX_HEIGHT = 188, 54
_GAP_X, _GAP_Y = 22, 40
_MARGIN = 8
_LONGEST_ROW = 5
"""Boxes side by side. More boxes of a level continue in the next row."""
MOST = 200
"""Boxes that are drawn. More of them are only listed."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Box:
    """A step or a folded group, with the place of its upper left corner.

    ``done`` is the width of the part of a group that has succeeded.
    """

    node: Node
    x: int
    y: int
    done: float


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Drawing:
    """Boxes, and the path of a curve from each box to the boxes that wait for it."""

    boxes: tuple[Box, ...]
    curves: tuple[str, ...]
    width: int
    height: int


def draw(graph: Graph) -> Drawing | None:
    """Return the drawing of a graph, from top to bottom, or ``None`` if it has too many boxes."""
    if not 0 < len(graph.nodes) <= MOST:
        return None
    rows = _rows(graph)
    width = max(_width(row) for row in rows)
    boxes = {
        node.key: Box(
            node=node,
            x=_MARGIN + (width - _width(row)) // 2 + place * (BOX_WIDTH + _GAP_X),
            y=_MARGIN + number * (BOX_HEIGHT + _GAP_Y),
            done=_done(node),
        )
        for number, row in enumerate(rows)
        for place, node in enumerate(row)
    }
    return Drawing(
        boxes=tuple(boxes.values()),
        curves=tuple(_curve(boxes[parent], boxes[child]) for parent, child in graph.edges if child in boxes),
        width=width + 2 * _MARGIN,
        height=len(rows) * (BOX_HEIGHT + _GAP_Y) - _GAP_Y + 2 * _MARGIN,
    )


def _rows(graph: Graph) -> list[list[Node]]:
    """Return the boxes of each row. A box stands below all boxes that it waits for, and a callback below all steps."""
    levels = _levels(graph)
    by_level: dict[int, list[Node]] = {}
    place: dict[str, float] = {}
    parents: dict[str, list[str]] = {}
    for parent, child in graph.edges:
        parents.setdefault(child, []).append(parent)
    last = max(levels.values()) + 1
    for node in graph.nodes:
        by_level.setdefault(last if node.is_callback else levels[node.key], []).append(node)
    rows = []
    for level in sorted(by_level):
        # A box stands where the boxes above it are on average, so that few curves cross.
        nodes = sorted(by_level[level], key=lambda node: _average([place[one] for one in parents.get(node.key, ())]))
        for number, node in enumerate(nodes):
            place[node.key] = (number + 0.5) / len(nodes)
        rows += [nodes[start : start + _LONGEST_ROW] for start in range(0, len(nodes), _LONGEST_ROW)]
    return rows


def _levels(graph: Graph) -> dict[str, int]:
    """Return the length of the longest way to each box."""
    children: dict[str, list[str]] = {node.key: [] for node in graph.nodes}
    above = dict.fromkeys(children, 0)
    for parent, child in graph.edges:
        children[parent].append(child)
        above[child] += 1
    levels = dict.fromkeys(children, 0)
    ready = [key for key, count in above.items() if count == 0]
    while ready:
        key = ready.pop()
        for child in children[key]:
            levels[child] = max(levels[child], levels[key] + 1)
            above[child] -= 1
            if above[child] == 0:
                ready.append(child)
    return levels


def _average(places: Sequence[float]) -> float:
    return sum(places) / len(places) if places else 0.0


def _width(row: Sequence[Node]) -> int:
    return len(row) * (BOX_WIDTH + _GAP_X) - _GAP_X


def _done(node: Node) -> float:
    return round(BOX_WIDTH * node.counts.succeeded / node.counts.total, 1) if node.counts.total else 0.0


def _curve(parent: Box, child: Box) -> str:
    x1, y1 = parent.x + BOX_WIDTH // 2, parent.y + BOX_HEIGHT
    x2, y2 = child.x + BOX_WIDTH // 2, child.y
    bend = max((y2 - y1) // 2, 12)
    return f"M{x1} {y1}C{x1} {y1 + bend} {x2} {y2 - bend} {x2} {y2}"
