"""Build a workflow: its steps, its groups, and what waits for what. Each call checks what it adds."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Generic, Literal, Never, TypeAlias, TypeVar, cast, overload

from procrastinate._job_checks import to_new_job
from procrastinate.calls import Call
from procrastinate.core import GroupKind, NewGraph, Rule, StoredGraph
from procrastinate.core.workflow_rows import SIGNAL_TASK
from procrastinate.exceptions import InvalidWorkflow
from procrastinate.jobs import DEFAULT_QUEUE, Job, JobDeferrer
from procrastinate.tasks import Task
from procrastinate.workflows.checks import (
    LONGEST_NAME,
    RULES,
    as_call,
    check_name,
    make_job,
    read_delay,
    read_parents,
    read_rule,
    refuse_cycle,
    refuse_positional,
    require_result,
)
from procrastinate.workflows.compile import compile_graph
from procrastinate.workflows.nodes import Edge, GroupNode, StepNode, StoredParent
from procrastinate.workflows.references import Place, Reference, without_references

if TYPE_CHECKING:
    from procrastinate.manager import JobManager

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

Needs: TypeAlias = Literal["success", "end"]
IfFailed: TypeAlias = Literal["cancel", "hold"]
Delay: TypeAlias = float | datetime.timedelta
TaskLike: TypeAlias = Task[..., Any, ...] | Call[Any] | JobDeferrer
Own: TypeAlias = Callable[[Task[..., Any, ...]], Task[..., Any, ...]]
"""Returns a task in the version of the app of a workflow."""


class Step(Generic[R_co]):
    """A step of a workflow.

    Attributes
    ----------
    job_id:
        The id of its job, once the workflow is deferred.
    """

    def __init__(self, node: StepNode, workflow: Workflow) -> None:
        self._node = node
        self._workflow = workflow
        self.job_id: int | None = None

    def __repr__(self) -> str:
        return f"<Step {self.name}>"

    @property
    def name(self) -> str:
        """The name of the step, which is unique in its workflow unless the step is in a group."""
        return self._node.name

    @property
    def value(self) -> R_co:
        """A placeholder for the result of this step, as an argument of another step. That step then waits for this one.

        Raises
        ------
        InvalidWorkflow
            The task stores no result.
        """
        require_result(self.name, self._node.call)
        return cast("R_co", Reference(self))


class Group(Generic[R_co]):
    """A group of steps that others wait for together. A dependency on a group costs the same for any size."""

    def __init__(self, node: GroupNode, workflow: Workflow) -> None:
        self._node = node
        self._workflow = workflow

    def __repr__(self) -> str:
        return f"<Group {self.name}>"

    @property
    def name(self) -> str:
        """The name of the group, which is unique in its workflow."""
        return self._node.name

    @property
    def values(self) -> list[R_co]:
        """A placeholder for the list of the results of all members, in the order in which they were added.

        Raises
        ------
        InvalidWorkflow
            The task of a member stores no result.
        """
        self._node.needs_results = True
        for step in self._node.members:
            require_result(f"{self.name}: {step.name}", step.call)
        return cast("list[R_co]", Reference(self))

    def add(self, task: TaskLike, /, *positional: Never, **arguments: Any) -> Step[Any]:
        """Add a step to the group. The parameters are those of :meth:`Workflow.add`."""
        refuse_positional(task, positional)
        return self._workflow.add_step(task, arguments, self._node)

    def add_many(
        self,
        task: TaskLike,
        arguments: Iterable[Mapping[str, Any]],
        *,
        after: Iterable[Parent] = (),
        needs: Needs = "success",
        delay: Delay | None = None,
    ) -> list[Step[Any]]:
        """Add a step to the group for each dict of arguments, and return the steps."""
        options = {"after": read_parents(after), "needs": needs, "delay": delay}
        return [self._workflow.add_step(task, options, self._node, given=one) for one in arguments]


Parent: TypeAlias = "Step[Any] | Group[Any] | str"


class Workflow:
    """A workflow that is being built. :meth:`defer` stores it, all or nothing.

    ``app.workflow(...)`` makes it. A running step builds one for the steps that it adds. Their ``after`` may have
    stored steps.

    Parameters
    ----------
    name:
        A name for lists and pages. Several workflows may share it.
    if_failed:
        What becomes of a step if a step whose success it needs does not succeed. ``"cancel"`` cancels it, and the
        steps that need it in turn. ``"hold"`` keeps it waiting, for a retry by hand.
    own:
        Returns a task in the version of the workflow's app. Several apps may share a task.

    Attributes
    ----------
    id:
        The id of the workflow, once it is deferred.
    """

    def __init__(
        self,
        job_manager: JobManager,
        name: str,
        *,
        if_failed: IfFailed = "cancel",
        accepts_stored: bool = False,
        own: Own | None = None,
    ) -> None:
        if if_failed not in ("cancel", "hold"):
            raise InvalidWorkflow(f"if_failed={if_failed!r}: write 'cancel' or 'hold'")
        self.name = check_name("workflow", name)
        self.if_failed = if_failed
        self.id: int | None = None
        self._job_manager = job_manager
        self._accepts_stored = accepts_stored
        self._own = own
        self.root = GroupNode(GroupKind.WORKFLOW, self.name, None)
        self.groups: list[GroupNode] = [self.root]
        self.steps: list[StepNode] = []
        self.callbacks: list[StepNode] = []
        self._names: dict[str, Step[Any] | Group[Any]] = {}
        self._next_numbers: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"<Workflow {self.name}: {len(self.steps)} steps>"

    # Steps

    @overload
    def add(
        self,
        task: Call[R],
        /,
        *,
        after: Iterable[Parent] = (),
        needs: Needs = "success",
        delay: Delay | None = None,
        step: str | None = None,
        expands: bool = False,
    ) -> Step[R]: ...
    @overload
    def add(
        self,
        task: Task[..., Coroutine[Any, Any, R], ...],
        /,
        *,
        after: Iterable[Parent] = (),
        needs: Needs = "success",
        delay: Delay | None = None,
        step: str | None = None,
        expands: bool = False,
        **arguments: Any,
    ) -> Step[R]: ...
    @overload
    def add(
        self,
        task: Task[..., R, ...],
        /,
        *,
        after: Iterable[Parent] = (),
        needs: Needs = "success",
        delay: Delay | None = None,
        step: str | None = None,
        expands: bool = False,
        **arguments: Any,
    ) -> Step[R]: ...
    @overload
    def add(
        self,
        task: JobDeferrer,
        /,
        *,
        after: Iterable[Parent] = (),
        needs: Needs = "success",
        delay: Delay | None = None,
        step: str | None = None,
        expands: bool = False,
        **arguments: Any,
    ) -> Step[Any]: ...
    def add(self, task: Any, /, *positional: Never, **arguments: Any) -> Step[Any]:
        """Add a step.

        Parameters
        ----------
        task:
            A task, or a call of one (``task.call(...)``), which a type checker checks against the function.
        after:
            The steps and groups that it waits for, or their names. If the ``value`` of a step is an
            argument, that step need not be named.
        needs:
            ``"success"`` if these have to succeed, ``"end"`` if it is enough that they end.
        delay:
            Time from the end of these steps to the start, in seconds or as a ``timedelta``.
        step:
            The name of the step. The default is the name of the function, with a number if it is taken.
        expands:
            If true, the steps that wait for this step also wait for the steps that it adds while it runs.
        arguments:
            The arguments of the task. Use ``task.call(...)`` for an argument that has one of the names above.

        Raises
        ------
        InvalidWorkflow
            The step cannot work. The message names it.
        InvalidJob, TypeError
            As for :meth:`Task.defer <procrastinate.tasks.Task.defer>`.
        """
        refuse_positional(task, positional)
        return self.add_step(task, arguments, self.root)

    def add_step(
        self,
        task: TaskLike,
        options: Mapping[str, Any],
        group: GroupNode,
        *,
        given: Mapping[str, Any] | None = None,
        callback: Rule | None = None,
    ) -> Step[Any]:
        """Add a step to a group. ``options`` are the keyword arguments of :meth:`add`."""
        self._require_open()
        rest = dict(options)
        after, needs = read_parents(rest.pop("after", ())), rest.pop("needs", "success")
        delay, name = read_delay(rest.pop("delay", None)), rest.pop("step", None)
        expands = rest.pop("expands", False)
        call = as_call(task, rest if given is None else given, self._own)
        name = self._step_name(name, call, group)
        clean, places = without_references(call.arguments)
        job = make_job(name, call, clean, places, waits=bool(after or places or group.after or callback is not None))
        edges = self._edges(name, after, needs, places, group, callback)
        node = StepNode(name, call, to_new_job(job, self._job_manager.connector.json_dumps), group, edges)
        if edges:
            for edge in edges:
                edge.delay = delay
        else:
            node.delay = delay
        refuse_cycle(node)
        if group.needs_results:
            require_result(f"{group.name}: {name}", call)
        return self._keep(node, expands=expands, is_callback=callback is not None)

    def _keep(self, node: StepNode, *, expands: bool = False, is_callback: bool = False) -> Step[Any]:
        if expands:
            node.expansion = GroupNode(GroupKind.EXPANSION, node.name, node.group)
            node.group = node.expansion
            self.groups.append(node.expansion)
        step: Step[Any] = Step(node, self)
        node.handle = step
        if is_callback:
            self.callbacks.append(node)
            return step
        if node.group is self.root or expands:
            self._names[node.name] = step
        node.group.members.append(node)
        self.steps.append(node)
        return step

    def group(self, name: str, *, after: Iterable[Parent] = (), needs: Needs = "success") -> Group[Any]:
        """Add a group of steps, which others can wait for together.

        Parameters
        ----------
        name:
            The name of the group, unique in the workflow.
        after, needs:
            What each member waits for, as for :meth:`add`.
        """
        self._require_open()
        self._require_free(check_name("group", name))
        read_rule(name, needs)
        node = GroupNode(GroupKind.GROUP, name, self.root, read_parents(after), needs)
        for parent in node.after:
            self._node_of(name, parent)
        self.groups.append(node)
        group: Group[Any] = Group(node, self)
        self._names[name] = group
        return group

    def add_signal(
        self,
        name: str,
        *,
        after: Iterable[Parent] = (),
        needs: Needs = "success",
        timeout: Delay | None = None,
        queue: str = DEFAULT_QUEUE,
    ) -> Step[Any]:
        """Add a step that runs nothing. It ends when ``app.workflows.signal(id, name, payload)`` is called.

        The signal may come before the steps in ``after`` have ended. Its payload is the ``value`` of the step.

        Parameters
        ----------
        after, needs:
            What comes before the signal, as for :meth:`add`.
        timeout:
            Time after which the step fails, in seconds or as a ``timedelta``. It begins when all in ``after`` have
            ended. The default is to wait without end.
        queue:
            The queue whose workers look after the timeout.
        """
        self._require_open()
        self._require_free(check_name("signal", name))
        seconds = math.inf if timeout is None else read_delay(timeout)
        job = Job(queue=queue, lock=None, queueing_lock=None, task_name=SIGNAL_TASK, task_kwargs={"name": name})
        call: Call[Any] = Call(JobDeferrer(self._job_manager, job), {"name": name})
        edges = self._edges(name, read_parents(after), needs, [], self.root, None) or [Edge(None, Rule.END)]
        for edge in edges:
            edge.delay = seconds
        return self._keep(
            StepNode(name, call, to_new_job(job, self._job_manager.connector.json_dumps), self.root, edges)
        )

    # Callbacks

    def on_success(self, task: TaskLike, /, *positional: Never, **arguments: Any) -> None:
        """Run a task once all steps have succeeded."""
        refuse_positional(task, positional)
        self.add_step(task, {}, self.root, given=arguments, callback=Rule.ON_SUCCESS)

    def on_failure(self, task: TaskLike, /, *positional: Never, **arguments: Any) -> None:
        """Run a task once all steps have ended and not all have succeeded, unless the workflow was cancelled."""
        refuse_positional(task, positional)
        self.add_step(task, {}, self.root, given=arguments, callback=Rule.ON_FAILURE)

    def on_end(self, task: TaskLike, /, *positional: Never, **arguments: Any) -> None:
        """Run a task once all steps have ended, whatever came of them."""
        refuse_positional(task, positional)
        self.add_step(task, {}, self.root, given=arguments, callback=Rule.END)

    # Names and parents

    def _step_name(self, name: str | None, call: Call[Any], group: GroupNode) -> str:
        if name is not None:
            if group is self.root:
                self._require_free(check_name("step", name))
            return check_name("step", name)
        short = call.task_name.rpartition(".")[2].rpartition(":")[2][:LONGEST_NAME] or "step"
        if group is not self.root or short not in self._names:
            return short
        number = self._next_numbers.get(short, 2)
        while f"{short}-{number}" in self._names:
            number += 1
        self._next_numbers[short] = number  # a name that is taken stays taken
        return f"{short}-{number}"

    def _require_free(self, name: str) -> None:
        if name in self._names:
            raise InvalidWorkflow(f"Workflow {self.name!r} has a step or a group {name!r} already: choose another name")

    def _require_open(self) -> None:
        if self.id is not None:
            raise InvalidWorkflow(
                f"Workflow {self.name!r} is deferred already, as {self.id}: its tasks add steps with context.workflow"
            )

    def _node_of(self, name: str, parent: Parent) -> StepNode | GroupNode | StoredParent:
        found = self._names.get(parent) if isinstance(parent, str) else parent
        if isinstance(found, Step | Group) and found._workflow is self:
            node = found._node
            return node.target if isinstance(node, StepNode) else node
        if self._accepts_stored and isinstance(found, Step) and found.job_id is not None:
            return StoredParent(found.job_id)
        if not isinstance(parent, str | Step | Group):
            raise InvalidWorkflow(f"Step {name!r}: after={parent!r} is neither a step nor a group, nor the name of one")
        which = parent if isinstance(parent, str) else parent.name
        raise InvalidWorkflow(f"Step {name!r} waits for {which!r}, which is no step of workflow {self.name!r}")

    def _edges(
        self,
        name: str,
        after: tuple[Parent, ...],
        needs: Needs,
        places: list[Place],
        group: GroupNode,
        callback: Rule | None,
    ) -> list[Edge]:
        rule = read_rule(name, needs)
        edges = [Edge(self._node_of(name, parent), rule) for parent in dict.fromkeys(after)]
        edges += [Edge(self._node_of(name, parent), RULES[group.needs]) for parent in group.after]
        if callback is not None:
            edges.append(Edge(self.root, callback))
            rule = Rule.END
        for place in places:
            whole = self._node_of(name, place.source)
            source = whole if isinstance(whole, StoredParent) else place.source._node
            edges.append(Edge(source, rule, place.path))
            if whole is not source:  # a step that adds steps: its value is its own, and the wait is for all
                edges.append(Edge(whole, rule))
        return edges

    # Store

    def defer(self, *, connection: Any | None = None) -> int:
        """Store the workflow, and return its id. Nothing runs before the transaction is committed.

        Parameters
        ----------
        connection:
            An open connection of yours. The workflow is committed or rolled back with its transaction.

        Raises
        ------
        InvalidWorkflow
            The workflow has no steps, or was deferred already.
        """
        graph = self._compile()
        return self.set_stored(self._job_manager.create_workflow(graph, connection))

    async def defer_async(self, *, connection: Any | None = None) -> int:
        """Asynchronous version of :meth:`defer`."""
        graph = self._compile()
        return self.set_stored(await self._job_manager.create_workflow_async(graph, connection))

    def _compile(self) -> NewGraph:
        self._require_open()
        if not self.steps:
            raise InvalidWorkflow(f"Workflow {self.name!r} has no steps: add one")
        return compile_graph(self.if_failed, self.groups, self.steps, self.callbacks)

    def set_stored(self, stored: StoredGraph) -> int:
        """Note the ids of what was stored, and return that of the workflow."""
        self.id = stored.group_ids[0]
        for node in [*self.steps, *self.callbacks]:
            if node.handle is not None:
                node.handle.job_id = stored.job_ids[node.place]
        return stored.group_ids[0]
