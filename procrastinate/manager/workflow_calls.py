"""Workflow part of the job manager: store, look at, cancel and retry workflows."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any, TypeAlias

from procrastinate import core
from procrastinate._checks.ids import asked_id
from procrastinate.defer_hooks import Defer
from procrastinate.manager.operation_calls import OperationCalls

_Graph: TypeAlias = tuple[list[core.StoredGroup], list[core.StoredStep], list[core.StoredDependency]]


class WorkflowOperations(OperationCalls):
    """The operations on workflows."""

    @contextlib.contextmanager
    def _around(self, graph: core.NewGraph) -> Iterator[tuple[Defer, core.NewGraph]]:
        """Call the hooks of the app around a defer of steps. All steps are described alike."""
        with self.hooks.around([step.job for step in graph.steps]) as (defer, jobs):
            steps = (dataclasses.replace(step, job=job) for step, job in zip(graph.steps, jobs, strict=True))
            yield defer, dataclasses.replace(graph, steps=tuple(steps)) if self.hooks else graph

    def create_workflow(self, graph: core.NewGraph, connection: Any | None = None) -> core.StoredGraph:
        """Store a workflow, all or nothing, and return the ids of its groups and jobs."""
        with self._around(graph) as (defer, described):
            stored = self._run(connection, core.create_workflow, described)
            defer.job_ids = list(stored.job_ids)
        self._tell_hook(connection)
        return stored

    async def create_workflow_async(self, graph: core.NewGraph, connection: Any | None = None) -> core.StoredGraph:
        """Asynchronous version of :meth:`create_workflow`."""
        with self._around(graph) as (defer, described):
            stored = await self._run_async(connection, core.create_workflow, described)
            defer.job_ids = list(stored.job_ids)
        await self._tell_hook_async(connection)
        return stored

    def get_workflow(self, workflow_id: int, connection: Any | None = None) -> core.StoredWorkflow | None:
        """Return a workflow, or ``None``."""
        return self._run(connection, core.get_workflow, asked_id(workflow_id))

    async def get_workflow_async(self, workflow_id: int, connection: Any | None = None) -> core.StoredWorkflow | None:
        """Asynchronous version of :meth:`get_workflow`."""
        return await self._run_async(connection, core.get_workflow, asked_id(workflow_id))

    def begin_cancel(self, workflow_id: int, connection: Any | None = None) -> bool:
        """Mark a workflow as cancelled. Return false if it has ended or does not exist."""
        return self._run(connection, core.begin_cancel, asked_id(workflow_id))

    async def begin_cancel_async(self, workflow_id: int, connection: Any | None = None) -> bool:
        """Asynchronous version of :meth:`begin_cancel`."""
        return await self._run_async(connection, core.begin_cancel, asked_id(workflow_id))

    def cancel_steps(self, workflow_id: int, connection: Any | None = None) -> int:
        """Cancel a bounded number of waiting steps, and return their number. After 0, callbacks may run."""
        number = len(self._change_some(connection, core.cancel_steps, workflow_id=asked_id(workflow_id)))
        if number == 0:
            self._tell_hook(connection)
        return number

    async def cancel_steps_async(self, workflow_id: int, connection: Any | None = None) -> int:
        """Asynchronous version of :meth:`cancel_steps`."""
        number = len(await self._change_some_async(connection, core.cancel_steps, workflow_id=asked_id(workflow_id)))
        if number == 0:
            await self._tell_hook_async(connection)
        return number

    def abort_steps(self, workflow_id: int, connection: Any | None = None) -> int:
        """Ask a bounded number of running steps to stop, and return their number."""
        return len(self._change_some(connection, core.abort_steps, workflow_id=asked_id(workflow_id)))

    async def abort_steps_async(self, workflow_id: int, connection: Any | None = None) -> int:
        """Asynchronous version of :meth:`abort_steps`."""
        return len(await self._change_some_async(connection, core.abort_steps, workflow_id=asked_id(workflow_id)))

    def retry_workflow(self, workflow_id: int, connection: Any | None = None) -> list[int] | None:
        """Send back the steps that did not succeed, and return their ids."""
        sent_back = self._run(connection, core.retry_workflow, asked_id(workflow_id))
        self._tell_hook(connection)
        return sent_back

    async def retry_workflow_async(self, workflow_id: int, connection: Any | None = None) -> list[int] | None:
        """Asynchronous version of :meth:`retry_workflow`."""
        sent_back = await self._run_async(connection, core.retry_workflow, asked_id(workflow_id))
        await self._tell_hook_async(connection)
        return sent_back

    def send_signal(self, workflow_id: int, name: str, payload: str, connection: Any | None = None) -> bool:
        """End a signal with a JSON text. Return false if it cannot be ended."""
        has_ended = self._run(connection, core.send_signal, asked_id(workflow_id), name, payload=payload)
        if has_ended:
            self._tell_hook(connection)
        return has_ended

    async def send_signal_async(self, workflow_id: int, name: str, payload: str, connection: Any | None = None) -> bool:
        """Asynchronous version of :meth:`send_signal`."""
        has_ended = await self._run_async(connection, core.send_signal, asked_id(workflow_id), name, payload=payload)
        if has_ended:
            await self._tell_hook_async(connection)
        return has_ended

    def has_signal(self, workflow_id: int, name: str, connection: Any | None = None) -> bool:
        """Return true if the workflow has a signal of this name."""
        return self._run(connection, core.has_signal, asked_id(workflow_id), name)

    async def has_signal_async(self, workflow_id: int, name: str, connection: Any | None = None) -> bool:
        """Asynchronous version of :meth:`has_signal`."""
        return await self._run_async(connection, core.has_signal, asked_id(workflow_id), name)

    def read_graph(self, workflow_id: int, connection: Any | None = None) -> _Graph:
        """Return the groups, steps and dependencies of a workflow."""
        return self._run(connection, core.read_graph, asked_id(workflow_id))

    async def read_graph_async(self, workflow_id: int, connection: Any | None = None) -> _Graph:
        """Asynchronous version of :meth:`read_graph`."""
        return await self._run_async(connection, core.read_graph, asked_id(workflow_id))

    def add_to_workflow(self, group_id: int, graph: core.NewGraph, connection: Any | None = None) -> core.StoredGraph:
        """Add steps to a group that has not ended, and return the ids."""
        with self._around(graph) as (defer, described):
            stored = self._run(connection, core.add_to_workflow, group_id, described)
            defer.job_ids = list(stored.job_ids)
        self._tell_hook(connection)
        return stored

    async def add_to_workflow_async(
        self, group_id: int, graph: core.NewGraph, connection: Any | None = None
    ) -> core.StoredGraph:
        """Asynchronous version of :meth:`add_to_workflow`."""
        with self._around(graph) as (defer, described):
            stored = await self._run_async(connection, core.add_to_workflow, group_id, described)
            defer.job_ids = list(stored.job_ids)
        await self._tell_hook_async(connection)
        return stored

    def read_step_value(self, group_id: int, step: str, connection: Any | None = None) -> str | None:
        """Return the result of a step in the workflow of a group, as JSON text, or ``None``."""
        return self._run(connection, core.read_step_value, group_id, step)

    async def read_step_value_async(self, group_id: int, step: str, connection: Any | None = None) -> str | None:
        """Asynchronous version of :meth:`read_step_value`."""
        return await self._run_async(connection, core.read_step_value, group_id, step)

    def read_failed_steps(self, group_id: int, limit: int) -> list[core.FailedStep]:
        """Return the steps without success in the workflow of a group."""
        return self._run(None, core.read_failed_steps, group_id, limit=limit)

    async def read_failed_steps_async(self, group_id: int, limit: int) -> list[core.FailedStep]:
        """Asynchronous version of :meth:`read_failed_steps`."""
        return await self._run_async(None, core.read_failed_steps, group_id, limit=limit)

    def list_workflows(self, connection: Any | None = None, **options: Any) -> list[core.StoredWorkflow]:
        """Return workflows, the newest first. The options are those of :func:`procrastinate.core.list_workflows`."""
        return self._run(connection, core.list_workflows, **options)

    async def list_workflows_async(self, connection: Any | None = None, **options: Any) -> list[core.StoredWorkflow]:
        """Asynchronous version of :meth:`list_workflows`."""
        return await self._run_async(connection, core.list_workflows, **options)
