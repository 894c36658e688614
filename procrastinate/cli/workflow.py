"""The ``workflow`` sub-command: print a workflow as a tree."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from procrastinate._quoting import quoted
from procrastinate._text.terminal import write
from procrastinate.app import App
from procrastinate.cli.arguments import integer
from procrastinate.cli.waits import database_awaited
from procrastinate.workflows.states import Graph, Node, WorkflowInfo

_LONGEST_NAME = 100
_WIDEST = 80
"""Characters of the indent. What is deeper in a long chain is not indented further."""


def add_workflow_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the sub-command."""
    parser.add_argument("id", type=integer, help="the id of the workflow")


def workflow_command(app: App, arguments: argparse.Namespace) -> None:
    """Print the state of a workflow, and its steps below the steps that they wait for."""
    with database_awaited(), app.open():
        info = app.workflows.get(arguments.id)
        graph = app.workflows.graph(arguments.id)
    write("\n".join(tree_lines(info, graph)))


def tree_lines(info: WorkflowInfo, graph: Graph) -> Iterator[str]:
    """Yield the lines of the tree. A step that waits for several stands below the last of them, once."""
    counts = info.counts
    yield (
        f"{quoted(info.name, _LONGEST_NAME)} [{info.id}]: {info.state.value}, "
        f"{counts.succeeded} of {counts.total} steps succeeded"
    )
    parent_of = {child: parent for parent, child in graph.edges}
    children: dict[str | None, list[Node]] = {}
    for node in graph.nodes:
        children.setdefault(parent_of.get(node.key), []).append(node)
    ahead = _with_indent(children.get(None, []), "")
    while ahead:
        node, indent, is_last = ahead.pop()
        yield f"{indent}{'└── ' if is_last else '├── '}{_described(node)}"
        below = indent + ("    " if is_last else "│   ")
        ahead += _with_indent(children.get(node.key, []), below if len(below) <= _WIDEST else indent)


def _with_indent(nodes: list[Node], indent: str) -> list[tuple[Node, str, bool]]:
    """Return the nodes in the order of a stack, each with its indent, and whether it is the last of them."""
    return [(node, indent, node is nodes[-1]) for node in reversed(nodes)]


def _described(node: Node) -> str:
    name = quoted(node.title, _LONGEST_NAME)
    if node.is_group:
        return f"{name}: {node.label}, {node.counts.succeeded} of {node.counts.total} succeeded"
    return f"{name} [job {node.job_ids[0]}]: {node.label}"
