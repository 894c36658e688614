"""Short forms for the usual shapes: one after the other, side by side, and side by side with one at the end."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from procrastinate.calls import Call
from procrastinate.exceptions import InvalidWorkflow
from procrastinate.workflows.graph import IfFailed, Workflow


def chain(*calls: Call[Any], name: str = "chain", if_failed: IfFailed = "cancel") -> Workflow:
    """Return a workflow that runs the calls one after the other. Its ``defer()`` stores it.

    Parameters
    ----------
    calls:
        What ``task.call(...)`` returns.
    name, if_failed:
        As for ``app.workflow()``.

    Raises
    ------
    InvalidWorkflow
        There are no calls, or one cannot be a step.
    """
    workflow = _workflow_of("chain", calls, name, if_failed)
    before: tuple[Any, ...] = ()
    for call in calls:
        before = (workflow.add(call, after=before),)
    return workflow


def group(*calls: Call[Any], name: str = "group", if_failed: IfFailed = "cancel") -> Workflow:
    """Return a workflow that runs the calls side by side. The parameters are those of :func:`chain`."""
    workflow = _workflow_of("group", calls, name, if_failed)
    members = workflow.group("all")
    for call in calls:
        members.add(call)
    return workflow


def chord(calls: Workflow, last: Call[Any]) -> Workflow:
    """Return a workflow that runs a call once all calls of a :func:`group` have succeeded.

    The results of the group are not passed to the last call automatically. Use ``app.workflow()`` and ``group.values``
    for that.

    Parameters
    ----------
    calls:
        What :func:`group` returns. The last call is added to it.
    last:
        The call at the end.
    """
    if not isinstance(calls, Workflow):
        raise InvalidWorkflow(f"chord() takes a group, not {_kind(calls)}: write chord(group(...), task.call(...))")
    calls.add(last, after=["all"])
    return calls


def _workflow_of(shape: str, calls: tuple[Call[Any], ...], name: str, if_failed: IfFailed) -> Workflow:
    """Return a workflow of the app of the first call."""
    for call in calls:
        if not isinstance(call, Call):
            raise InvalidWorkflow(f"{shape}() takes calls, not {_kind(call)}: {_way_out(shape, call)}")
    if not calls:
        raise InvalidWorkflow(f"{shape}() needs a call: write {shape}(task.call(...))")
    first = calls[0].deferrer
    own = None if first.task is None else first.task.blueprint.own
    return Workflow(first.job_manager, name, if_failed=if_failed, own=own)


def _kind(value: object) -> str:
    return f"{value!r}" if isinstance(value, Workflow) else f"a value of type {type(value).__name__}"


def _way_out(shape: str, value: object) -> str:
    if isinstance(value, Workflow):
        return "build a workflow of several shapes with app.workflow(), add() and group()"
    if isinstance(value, Iterable):
        return f"write {shape}(*calls)"
    return "write task.call(...)"
