"""``context.workflow``: what a step sees of its workflow, and the steps that it adds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Never

from procrastinate import core
from procrastinate.exceptions import InvalidWorkflow
from procrastinate.jobs import Job
from procrastinate.manager.step_values import load_result
from procrastinate.workflows.checks import refuse_positional
from procrastinate.workflows.compile import compile_graph
from procrastinate.workflows.graph import Delay, Needs, Own, Parent, Step, TaskLike, Workflow

if TYPE_CHECKING:
    from procrastinate.manager import JobManager


class RunningStep:
    """The workflow of a running job, available as ``context.workflow``.

    Steps that it adds become members of the group of the job. If the job was added with ``expands=True``, the steps
    that wait for it also wait for them. With ``connection=``, steps are stored with the transaction of that connection,
    for example that of ``context.transaction()``.
    """

    def __init__(self, job_manager: JobManager, job: Job, own: Own | None = None) -> None:
        if job.workflow_id is None:
            raise InvalidWorkflow(f"Job {job.call_string} is no step of a workflow")
        self._manager = job_manager
        self._group_id = job.workflow_id
        self._job = job
        self._own = own

    def add(
        self,
        task: TaskLike,
        /,
        *positional: Never,
        after: Iterable[Parent] = (),
        needs: Needs = "success",
        delay: Delay | None = None,
        step: str | None = None,
        expands: bool = False,
        connection: Any | None = None,
        **arguments: Any,
    ) -> Step[Any]:
        """Add a step, and return it.

        Parameters
        ----------
        after:
            Steps that this job has added before.
        connection:
            An open connection of yours.
        task, needs, delay, step, expands, arguments:
            As for :meth:`Workflow.add <procrastinate.workflows.graph.Workflow.add>`.

        Raises
        ------
        WorkflowEnded
            The group has ended, because another worker has taken over the job, or the workflow was cancelled.
        InvalidWorkflow
            The step cannot work. The message names it.
        """
        refuse_positional(task, positional)
        options = {"after": after, "needs": needs, "delay": delay, "step": step, "expands": expands}
        addition, (added,) = self._added(task, options, [arguments])
        self._store(addition, connection)
        return added

    async def add_async(
        self,
        task: TaskLike,
        /,
        *positional: Never,
        after: Iterable[Parent] = (),
        needs: Needs = "success",
        delay: Delay | None = None,
        step: str | None = None,
        expands: bool = False,
        connection: Any | None = None,
        **arguments: Any,
    ) -> Step[Any]:
        """Asynchronous version of :meth:`add`."""
        refuse_positional(task, positional)
        options = {"after": after, "needs": needs, "delay": delay, "step": step, "expands": expands}
        addition, (added,) = self._added(task, options, [arguments])
        await self._store_async(addition, connection)
        return added

    def add_many(
        self,
        task: TaskLike,
        arguments: Iterable[Mapping[str, Any]],
        *,
        after: Iterable[Parent] = (),
        needs: Needs = "success",
        connection: Any | None = None,
    ) -> list[Step[Any]]:
        """Add a step for each dict of arguments, all or none, and return them."""
        addition, added = self._added(task, {"after": tuple(after), "needs": needs}, arguments)
        if added:
            self._store(addition, connection)
        return added

    async def add_many_async(
        self,
        task: TaskLike,
        arguments: Iterable[Mapping[str, Any]],
        *,
        after: Iterable[Parent] = (),
        needs: Needs = "success",
        connection: Any | None = None,
    ) -> list[Step[Any]]:
        """Asynchronous version of :meth:`add_many`."""
        addition, added = self._added(task, {"after": tuple(after), "needs": needs}, arguments)
        if added:
            await self._store_async(addition, connection)
        return added

    def value(self, step: str) -> Any:
        """Return the result of the step with this name in the same workflow.

        Raises
        ------
        InvalidWorkflow
            No step of this name has stored a result.
        InvalidJob
            The result cannot be read.
        """
        return self._loaded(step, self._manager.read_step_value(self._group_id, step))

    async def value_async(self, step: str) -> Any:
        """Asynchronous version of :meth:`value`."""
        return self._loaded(step, await self._manager.read_step_value_async(self._group_id, step))

    def failed(self, *, limit: int = 100) -> list[core.FailedStep]:
        """Return the steps of the workflow that did not succeed, for a callback that tells of them.

        Callbacks are left out, and so are steps that were cancelled only because they need a failed one. Each has its
        ``step``, ``job_id``, ``task_name`` and ``status``, with the ``exception_class`` and ``message`` of its last
        error.

        Parameters
        ----------
        limit:
            The largest number of steps.
        """
        return self._manager.read_failed_steps(self._group_id, limit)

    async def failed_async(self, *, limit: int = 100) -> list[core.FailedStep]:
        """Asynchronous version of :meth:`failed`."""
        return await self._manager.read_failed_steps_async(self._group_id, limit)

    def _loaded(self, step: str, text: str | None) -> Any:
        if text is None:
            raise InvalidWorkflow(f"No step {step!r} in the workflow of job {self._job.id} has stored a result")
        return load_result(text, self._manager.connector.json_loads, step=step)

    def _added(
        self, task: TaskLike, options: Mapping[str, Any], arguments: Iterable[Mapping[str, Any]]
    ) -> tuple[Workflow, list[Step[Any]]]:
        """Return the steps to store, one for each dict of arguments."""
        addition = Workflow(self._manager, self._job.step or "step", accepts_stored=True, own=self._own)
        return addition, [addition.add_step(task, options, addition.root, given=one) for one in arguments]

    def _store(self, addition: Workflow, connection: Any | None) -> None:
        graph = _compiled(addition)
        addition.set_stored(self._manager.add_to_workflow(self._group_id, graph, connection))

    async def _store_async(self, addition: Workflow, connection: Any | None) -> None:
        graph = _compiled(addition)
        addition.set_stored(await self._manager.add_to_workflow_async(self._group_id, graph, connection))


def _compiled(addition: Workflow) -> core.NewGraph:
    return compile_graph(addition.if_failed, addition.groups, addition.steps)
