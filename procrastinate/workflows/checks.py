"""Refuse steps that cannot work, where they are written. Each message names the step."""

from __future__ import annotations

import dataclasses
import datetime
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from procrastinate.calls import Call
from procrastinate.core import Rule
from procrastinate.exceptions import InvalidWorkflow
from procrastinate.jobs import Job, JobDeferrer
from procrastinate.locks import ArgumentLock
from procrastinate.tasks import Task
from procrastinate.unique_deferrer import UniqueDeferrer
from procrastinate.workflows.nodes import GroupNode, StepNode, StoredParent
from procrastinate.workflows.references import Place


@runtime_checkable
class HasStep(Protocol):
    """A task of a framework that brings its own form of a call."""

    def as_step(self, /, *args: Any, **kwargs: Any) -> Call[Any]:
        """Return the call of the task with these arguments."""


@runtime_checkable
class MakesCalls(Protocol):
    """A backend of a framework that makes the calls of its tasks. A task may be declared for another backend."""

    def call_of(self, task: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Call[Any]:
        """Return the call of a task with these arguments."""


RULES = {"success": Rule.SUCCESS, "end": Rule.END}
LONGEST_NAME = 200
"""Characters."""


def check_name(what: str, name: Any) -> str:
    """Return a name that can be stored."""
    if not isinstance(name, str) or not name or "\x00" in name or len(name) > LONGEST_NAME:
        raise InvalidWorkflow(f"The name of a {what} must be a text of 1 to {LONGEST_NAME} characters, not {name!r}")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise InvalidWorkflow(f"The name of a {what} cannot be stored: {name!r}") from None
    return name


def read_rule(name: str, needs: Any) -> Rule:
    """Return the rule that ``needs`` names."""
    rule = RULES.get(needs) if isinstance(needs, str) else None
    if rule is None:
        raise InvalidWorkflow(f"{name!r}: needs={needs!r}: write 'success' or 'end'")
    return rule


def read_parents(after: Any) -> tuple[Any, ...]:
    """Return the parents of a step as a tuple. Refuse a single one, which is easily written by mistake."""
    if isinstance(after, str) or not isinstance(after, Iterable):
        raise InvalidWorkflow(f"after={after!r} must be a list: write after=[{after!r}]")
    return tuple(after)


def read_delay(delay: Any) -> float | None:
    """Return a delay in seconds."""
    if delay is None:
        return None
    seconds = delay.total_seconds() if isinstance(delay, datetime.timedelta) else delay
    is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if not is_number or not math.isfinite(seconds) or not 0 <= seconds <= 10**9:
        raise InvalidWorkflow(f"delay={delay!r}: write a number of seconds or a timedelta, not negative")
    return float(seconds)


def refuse_positional(task: Any, positional: tuple[Any, ...]) -> None:
    """Refuse positional arguments of a step. The message names the way out.

    Raises
    ------
    TypeError
        There are some.
    """
    if not positional:
        return
    if isinstance(task, Call):
        raise TypeError(f"The call of {task.task_name} has its arguments: add it without further ones")
    way_out = (
        "write add(task.as_step(value))" if isinstance(task, HasStep) else "name them, as in add(task, name=value)"
    )
    name = getattr(task, "name", None) or repr(task)
    raise TypeError(f"Task {name} was added with positional arguments {positional!r}: {way_out}")


def as_call(task: Any, arguments: Mapping[str, Any], own: Callable[[Any], Any] | None = None) -> Call[Any]:
    """Return the call of a task with these arguments.

    Parameters
    ----------
    own:
        Returns a task as the app of the workflow has it.
    """
    if own is None:
        return _as_call(task, arguments)
    call = _as_call(own(task) if isinstance(task, Task) else task, arguments)
    if call.deferrer.task is None:
        return call
    # The name may also be an old one: the task was added to another app after the call.
    wanted = own(call.deferrer.task)
    return call if wanted.name == call.task_name else dataclasses.replace(call, deferrer=call.deferrer.for_task(wanted))


def _as_call(task: Any, arguments: Mapping[str, Any]) -> Call[Any]:
    if not isinstance(arguments, Mapping):
        raise TypeError(
            f"The arguments of a step are a dict, as in add_many(task, [{{'name': value}}]), and not {arguments!r}"
        )
    if isinstance(task, Call):
        if arguments:
            raise InvalidWorkflow(
                f"The call of {task.task_name} has its arguments: {sorted(arguments)[0]!r} must be one of them"
            )
        return task
    if isinstance(task, Task | JobDeferrer):
        return task.call(**arguments)
    if isinstance(task, HasStep):
        return task.as_step(**arguments)
    if (backend := _backend_of(task)) is not None:
        return backend.call_of(task, (), arguments)
    raise InvalidWorkflow(f"{task!r} is no task: add a task, or a call of one")


def _backend_of(task: Any) -> MakesCalls | None:
    """Return the backend that makes the calls of a task, or ``None`` if there is none."""
    get_backend = getattr(task, "get_backend", None)
    backend = get_backend() if callable(get_backend) else None
    return backend if isinstance(backend, MakesCalls) else None


def make_job(name: str, call: Call[Any], arguments: dict[str, Any], places: list[Place], *, waits: bool) -> Job:
    """Return the job of a step. Refuse what a step cannot have."""
    deferrer = call.deferrer
    if deferrer.job.queueing_lock is not None or deferrer.locks["queueing_lock"] is not None:
        raise InvalidWorkflow(
            f"Step {name!r}: task {call.task_name} has a queueing lock, and a step is never left out for another job. "
            "Declare a task without one for the workflow"
        )
    if isinstance(deferrer, UniqueDeferrer):
        raise InvalidWorkflow(
            f"Step {name!r}: task {call.task_name} is unique, and a step is never left out for another job. "
            "Declare a task without unique= for the workflow"
        )
    if deferrer.connection is not None:
        raise InvalidWorkflow(f"Step {name!r} has a connection of its own: give it to workflow.defer(connection=...)")
    if waits and deferrer.job.scheduled_at is not None:
        raise InvalidWorkflow(f"Step {name!r} waits for others, and has a schedule: write delay= instead")
    _refuse_lock_on_reference(name, deferrer, places)
    return deferrer.make_new_job(**arguments)


def _refuse_lock_on_reference(name: str, deferrer: JobDeferrer, places: list[Place]) -> None:
    """Refuse a lock or a key that is made of a result, which is not known when the step is stored."""
    filled = {json.loads(place.path)[0] for place in places}
    for option, lock in deferrer.locks.items():
        if lock is None or not filled:
            continue
        if isinstance(lock, ArgumentLock) and lock.names and not filled.intersection(lock.names):
            continue
        raise InvalidWorkflow(
            f"Step {name!r}: its {option} is made of its arguments, and one of them is a result that is not known yet"
        )


def require_result(name: str, call: Call[Any]) -> None:
    """Refuse the value of a task that stores no result."""
    if call.stores_result is False:
        raise InvalidWorkflow(
            f"Step {name!r} has no value: declare task {call.task_name} with store_result=True to use what it returns"
        )


def refuse_cycle(step: StepNode) -> None:
    """Refuse a member of a group that waits for its own group, also by way of other steps."""
    around: set[Any] = set()
    group: GroupNode | None = step.group
    while group is not None and group.parent is not None:
        around.add(group)
        group = group.parent
    seen: set[Any] = set()
    look = [edge.parent for edge in step.edges]
    while look and around:
        node = look.pop()
        if node is None or isinstance(node, StoredParent) or node in seen:
            continue
        seen.add(node)
        if node in around:
            raise InvalidWorkflow(
                f"Step {step.name!r} would wait for its own group {node.name!r}. This is a cycle: it would never run"
            )
        steps = [node] if isinstance(node, StepNode) else node.members
        look += [edge.parent for one in steps for edge in one.edges]
