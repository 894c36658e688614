"""``app.workflows``: look at workflows that are stored, wait for them, cancel and retry them, send them signals."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

from procrastinate import core
from procrastinate._checks.amounts import read_count, read_seconds
from procrastinate._checks.ids import asked_place
from procrastinate._durations import setting
from procrastinate._job_checks import dump_result
from procrastinate.core import WorkflowState
from procrastinate.core.defaults import CANCEL_SEEN_WITHIN, LARGEST_COUNT
from procrastinate.exceptions import WaitTimeout, WorkflowEnded, WorkflowNotFound
from procrastinate.workflows.states import Graph, WorkflowInfo, to_graph, to_info

if TYPE_CHECKING:
    from procrastinate.manager import JobManager

Infos: TypeAlias = list[WorkflowInfo]

_FIRST_PAUSE = 0.02
_LONGEST_PAUSE = 1.0
_LARGEST_PAYLOAD = 1_048_576


class Workflows:
    """The workflows of an app's queue, available as ``app.workflows``."""

    def __init__(self, job_manager: JobManager) -> None:
        self._manager = job_manager

    def get(self, workflow_id: int, *, connection: Any | None = None) -> WorkflowInfo:
        """Return the state and the counts of a workflow.

        Raises
        ------
        WorkflowNotFound
            There is no such workflow.
        """
        return _found(workflow_id, self._manager.get_workflow(workflow_id, connection))

    async def get_async(self, workflow_id: int, *, connection: Any | None = None) -> WorkflowInfo:
        """Asynchronous version of :meth:`get`."""
        return _found(workflow_id, await self._manager.get_workflow_async(workflow_id, connection))

    def list(
        self,
        name: str | None = None,
        state: WorkflowState | str | None = None,
        *,
        limit: int = 100,
        before: int | None = None,
    ) -> Infos:
        """Return workflows, the newest first.

        Parameters
        ----------
        name:
            Only workflows of this name.
        state:
            Only workflows in this state.
        limit:
            The largest number of workflows.
        before:
            Only workflows with a lower id than this one, for the next page.

        Raises
        ------
        ValueError
            There is no such state.
        """
        pages = _Pages(_list_options(name, state, limit, before))
        while pages.has_next:
            pages.add(self._manager.list_workflows(**pages.options))
        return pages.found

    async def list_async(
        self,
        name: str | None = None,
        state: WorkflowState | str | None = None,
        *,
        limit: int = 100,
        before: int | None = None,
    ) -> Infos:
        """Asynchronous version of :meth:`list`."""
        pages = _Pages(_list_options(name, state, limit, before))
        while pages.has_next:
            pages.add(await self._manager.list_workflows_async(**pages.options))
        return pages.found

    def wait(self, workflow_id: int, *, timeout: float) -> WorkflowInfo:
        """Wait until all steps of a workflow have ended, and return its state, whatever came of them.

        A workflow that failed raises nothing: read ``info.state``. Callbacks may still run. A workflow that is held
        has not ended.

        Parameters
        ----------
        timeout:
            Maximum wait in seconds.

        Raises
        ------
        WaitTimeout
            The workflow has not ended in time. It is a ``TimeoutError``.
        WorkflowNotFound
            There is no such workflow.
        TypeError, ValueError
            ``timeout`` is no number of seconds.
        """
        for pause in _pauses(timeout):
            info = self.get(workflow_id)
            if info.has_ended:
                return info
            time.sleep(pause)
        raise _not_ended(info, timeout)

    async def wait_async(self, workflow_id: int, *, timeout: float) -> WorkflowInfo:  # noqa: ASYNC109
        """Asynchronous version of :meth:`wait`."""
        for pause in _pauses(timeout):
            info = await self.get_async(workflow_id)
            if info.has_ended:
                return info
            await asyncio.sleep(pause)
        raise _not_ended(info, timeout)

    def cancel(self, workflow_id: int, *, abort: bool = False, connection: Any | None = None) -> int:
        """Cancel the steps that wait. The callbacks of ``on_end`` still run.

        No step starts once this has returned, and a step that runs is not retried. With ``connection``, or in a
        transaction of Django's, steps may start until 50 ms after the commit.

        Parameters
        ----------
        abort:
            Also ask the steps that run to stop.
        connection:
            An open connection of yours. Without it, a large workflow is cancelled in several transactions.

        Returns
        -------
        The number of steps that were cancelled or asked to stop.

        Raises
        ------
        WorkflowEnded
            The workflow has ended already.
        WorkflowNotFound
            There is no such workflow.
        """
        if not self._manager.begin_cancel(workflow_id, connection):
            raise _ended(self.get(workflow_id, connection=connection))
        count = 0
        while number := self._manager.cancel_steps(workflow_id, connection):
            count += number
        while abort and (number := self._manager.abort_steps(workflow_id, connection)):
            count += number
        if connection is None:
            time.sleep(CANCEL_SEEN_WITHIN)
        return count

    async def cancel_async(self, workflow_id: int, *, abort: bool = False, connection: Any | None = None) -> int:
        """Asynchronous version of :meth:`cancel`."""
        if not await self._manager.begin_cancel_async(workflow_id, connection):
            raise _ended(await self.get_async(workflow_id, connection=connection))
        count = 0
        while number := await self._manager.cancel_steps_async(workflow_id, connection):
            count += number
        while abort and (number := await self._manager.abort_steps_async(workflow_id, connection)):
            count += number
        if connection is None:
            await asyncio.sleep(CANCEL_SEEN_WITHIN)
        return count

    def retry(self, workflow_id: int, *, connection: Any | None = None) -> int:
        """Run again the steps that did not succeed, and those that waited for them, in an open or ended workflow.

        A callback that ran before runs again only if it is one of ``on_end``.

        Returns
        -------
        The number of jobs that were sent back. It is 0 if all steps that have ended have succeeded.

        Raises
        ------
        WorkflowNotFound
            There is no such workflow.
        """
        return _sent_back(workflow_id, self._manager.retry_workflow(workflow_id, connection))

    async def retry_async(self, workflow_id: int, *, connection: Any | None = None) -> int:
        """Asynchronous version of :meth:`retry`."""
        return _sent_back(workflow_id, await self._manager.retry_workflow_async(workflow_id, connection))

    def signal(self, workflow_id: int, name: str, payload: Any = None, *, connection: Any | None = None) -> None:
        """End a signal of a workflow, so that the steps after it may run. The first call wins.

        Parameters
        ----------
        name:
            The name that ``add_signal`` gave it.
        payload:
            A JSON value, which becomes the value of the signal.
        connection:
            An open connection of yours. The signal is sent when its transaction is committed.

        Raises
        ------
        WorkflowEnded
            The signal came before, or its time is over.
        WorkflowNotFound
            The workflow has no signal of this name.
        InvalidResult
            The payload cannot be stored as JSON.
        """
        text = self._payload(name, payload)
        if not self._manager.send_signal(workflow_id, name, text, connection):
            raise _refused(workflow_id, name, self._manager.has_signal(workflow_id, name, connection))

    async def signal_async(
        self, workflow_id: int, name: str, payload: Any = None, *, connection: Any | None = None
    ) -> None:
        """Asynchronous version of :meth:`signal`."""
        text = self._payload(name, payload)
        if not await self._manager.send_signal_async(workflow_id, name, text, connection):
            raise _refused(workflow_id, name, await self._manager.has_signal_async(workflow_id, name, connection))

    def graph(self, workflow_id: int, *, connection: Any | None = None) -> Graph:
        """Return the steps of a workflow and what waits for what, each named group as one node.

        Raises
        ------
        WorkflowNotFound
            There is no such workflow.
        """
        return _drawn(workflow_id, self._manager.read_graph(workflow_id, connection))

    async def graph_async(self, workflow_id: int, *, connection: Any | None = None) -> Graph:
        """Asynchronous version of :meth:`graph`."""
        return _drawn(workflow_id, await self._manager.read_graph_async(workflow_id, connection))

    def _payload(self, name: str, payload: Any) -> str:
        dumps = self._manager.connector.json_dumps
        return dump_result(payload, dumps, task_name=f"signal {name}", max_size=_LARGEST_PAYLOAD)


def _not_found(workflow_id: int) -> WorkflowNotFound:
    return WorkflowNotFound(f"There is no workflow {workflow_id}: it was deleted, or its transaction is not committed")


def _found(workflow_id: int, stored: core.StoredWorkflow | None) -> WorkflowInfo:
    if stored is None:
        raise _not_found(workflow_id)
    return to_info(stored)


def _ended(info: WorkflowInfo) -> WorkflowEnded:
    return WorkflowEnded(f"Workflow {info.id} has ended already: it is {info.state.value}")


def _sent_back(workflow_id: int, sent_back: list[int] | None) -> int:
    if sent_back is None:
        raise _not_found(workflow_id)
    return len(sent_back)


def _refused(workflow_id: int, name: str, exists: bool) -> Exception:
    if exists:
        return WorkflowEnded(f"Signal {name!r} of workflow {workflow_id} came before, or its time is over")
    return WorkflowNotFound(f"Workflow {workflow_id} has no signal {name!r}, or there is no such workflow")


def _drawn(
    workflow_id: int, read: tuple[list[core.StoredGroup], list[core.StoredStep], list[core.StoredDependency]]
) -> Graph:
    groups, steps, dependencies = read
    if not any(group.id == workflow_id for group in groups):
        raise _not_found(workflow_id)
    return to_graph(workflow_id, groups, steps, dependencies)


def _list_options(
    name: str | None, state: WorkflowState | str | None, limit: int, before: int | None
) -> dict[str, Any]:
    return {
        "name": name,
        "state": None if state is None else WorkflowState(state),
        "limit": min(read_count("limit", limit, at_least=1), LARGEST_COUNT),
        "before": None if before is None else asked_place(before),
    }


class _Pages:
    """The pages of a list of workflows, until it is long enough.

    The statement does not tell held workflows from running ones. Their counts do, so a page may have too few.
    """

    def __init__(self, options: dict[str, Any]) -> None:
        self.options = options
        self.has_next = True
        self.found: Infos = []
        self._limit: int = options["limit"]

    def add(self, page: list[core.StoredWorkflow]) -> None:
        state = self.options["state"]
        infos = [to_info(one) for one in page]
        self.found += [info for info in infos if state is None or info.state == state]
        self.has_next = len(page) == self._limit and len(self.found) < self._limit
        del self.found[self._limit :]
        if page:
            self.options = self.options | {"before": page[-1].id}


def _pauses(patience: float) -> Iterator[float]:
    """Yield pauses that grow, until the time is over."""
    end, pause = time.monotonic() + read_seconds("timeout", patience, may_be_zero=True), _FIRST_PAUSE
    while True:
        rest = end - time.monotonic()
        yield max(min(pause, rest), 0.0)
        if rest <= 0:
            return
        pause = min(pause * 1.5, _LONGEST_PAUSE)


def _not_ended(info: WorkflowInfo, patience: float) -> WaitTimeout:
    way_out = ": retry its failed steps, or cancel it" if info.state is WorkflowState.HELD else ""
    return WaitTimeout(f"Workflow {info.id} has not ended within {setting(patience)}. It is {info.state}{way_out}")
