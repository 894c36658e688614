"""Base of the job manager: runs operations on the app's connector or on a connection of the user."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from procrastinate import core, exceptions
from procrastinate import json as typed_json
from procrastinate._follow import follow, follow_async
from procrastinate._job import Job, UnreadableArguments, stored_job_of
from procrastinate.connector import BaseConnector
from procrastinate.core.errors import is_row_refused
from procrastinate.core.stored_json import load_headers, load_object
from procrastinate.core.tries import Tries
from procrastinate.defer_hooks import Hooks
from procrastinate.manager.refused_rows import RefusedRows

R = TypeVar("R")

CHANGED_AT_ONCE = 1000
"""Rows that one statement changes at most."""
_PLAIN_DECODERS = (json.loads, typed_json.loads)
"""Decoders that several texts can be given to at once, as one list."""


class DeferHook(Protocol):
    """Callback after each defer, for tests that run deferred jobs at once."""

    def deferred(self, connection: Any | None) -> None:
        """Take note of a defer on this connection of the user. ``None`` means the app's own connection."""
        ...

    async def deferred_async(self, connection: Any | None) -> None:
        """Asynchronous version of :meth:`deferred`."""
        ...


class OperationCalls:
    """Runs operations on a connector, and converts stored jobs to :class:`~procrastinate.jobs.Job` objects."""

    connector: BaseConnector
    refused_rows: RefusedRows
    defer_hook: DeferHook | None = None
    hooks: Hooks

    def _run(self, connection: Any | None, operation: Callable[..., R], *args: Any, **kwargs: Any) -> R:
        if connection is None:
            return self.connector.run(operation, *args, **kwargs)
        return self.connector.run_on(connection, operation, *args, **kwargs)

    async def _run_async(self, connection: Any | None, operation: Callable[..., R], *args: Any, **kwargs: Any) -> R:
        if connection is None:
            return await self.connector.run_async(operation, *args, **kwargs)
        return await self.connector.run_on_async(connection, operation, *args, **kwargs)

    async def _has_tick(self, job: Job, periodic_id: str, defer_timestamp: int) -> bool:
        """Return true if hooks need not be called, because another worker has deferred the tick already."""
        if not self.hooks:
            return False
        return await self.connector.run_async(
            core.has_tick, task_name=job.task_name, periodic_id=periodic_id, defer_timestamp=defer_timestamp
        )

    def _follow(self, tries: Tries[R], connection: Any | None = None) -> R:
        """Run the operations of a decision."""
        return follow(functools.partial(self._run, connection), tries)

    async def _follow_async(self, tries: Tries[R], connection: Any | None = None) -> R:
        """Asynchronous version of :meth:`_follow`."""
        return await follow_async(functools.partial(self._run_async, connection), tries)

    def _change_some(self, connection: Any | None, operation: Callable[..., list[int]], **arguments: Any) -> list[int]:
        """Run an operation that changes rows of its own choice, and return their ids.

        A statement that fails ends the transaction of the user, so on the user's connection nothing is tried again.
        """
        if connection is not None:
            return self._run(connection, operation, limit=CHANGED_AT_ONCE, **arguments)
        return self._follow(self.refused_rows.collect(operation, limit=CHANGED_AT_ONCE, **arguments))

    async def _change_some_async(
        self, connection: Any | None, operation: Callable[..., list[int]], **arguments: Any
    ) -> list[int]:
        """Asynchronous version of :meth:`_change_some`."""
        if connection is not None:
            return await self._run_async(connection, operation, limit=CHANGED_AT_ONCE, **arguments)
        return await self._follow_async(self.refused_rows.collect(operation, limit=CHANGED_AT_ONCE, **arguments))

    def _change_one(self, connection: Any | None, operation: Callable[..., R], *args: Any, **kwargs: Any) -> R:
        """Run an operation on one job, which may free its lock.

        If the database refuses to change the job that waits for the lock, the lock is freed and not handed over.
        """
        try:
            return self._run(connection, operation, *args, **kwargs)
        except exceptions.ConnectorException as error:
            if connection is not None or not is_row_refused(error):
                raise
        changed: R = self._run(None, core.without_hand_over, operation, *args, **kwargs)
        return changed

    async def _change_one_async(
        self, connection: Any | None, operation: Callable[..., R], *args: Any, **kwargs: Any
    ) -> R:
        """Asynchronous version of :meth:`_change_one`."""
        try:
            return await self._run_async(connection, operation, *args, **kwargs)
        except exceptions.ConnectorException as error:
            if connection is not None or not is_row_refused(error):
                raise
        changed: R = await self._run_async(None, core.without_hand_over, operation, *args, **kwargs)
        return changed

    def _tell_hook(self, connection: Any | None) -> None:
        if self.defer_hook is not None:
            self.defer_hook.deferred(connection)

    async def _tell_hook_async(self, connection: Any | None) -> None:
        if self.defer_hook is not None:
            await self.defer_hook.deferred_async(connection)

    def _jobs(self, stored: Sequence[core.StoredJob], *, log_arguments: bool = True) -> list[Job]:
        """Convert stored jobs. Decoding all arguments in one call takes a third of the time of separate calls."""
        if self.connector.json_loads not in _PLAIN_DECODERS:
            return [self._job(one, log_arguments=log_arguments) for one in stored]
        try:
            arguments = json.loads(f"[{','.join([one.args for one in stored])}]")  # type: ignore[misc]
        except BaseException:  # one text is invalid: decode each on its own
            return [self._job(one, log_arguments=log_arguments) for one in stored]
        decoded = zip(stored, arguments, strict=True)
        return [_to_job(one, _require_object(args), log_arguments) for one, args in decoded]

    def _job(self, stored: core.StoredJob, *, log_arguments: bool = True) -> Job:
        return _to_job(stored, self._arguments(stored.args), log_arguments)

    def _arguments(self, text: str | None) -> dict[str, Any]:
        """Decode arguments. A row with invalid ones, for example written by plain SQL, must not hide other rows."""
        if text is None:
            return UnreadableArguments("a number in them has hundreds of digits, and is too long to be written out")
        try:
            arguments = self.connector.json_loads(text)
        except BaseException as error:
            return UnreadableArguments(f"{type(error).__name__}: {error}")
        return _require_object(arguments)


def _require_object(arguments: Any) -> dict[str, Any]:
    return arguments if isinstance(arguments, dict) else UnreadableArguments("they are not a JSON object")


def _to_job(stored: core.StoredJob, arguments: dict[str, Any], log_arguments: bool) -> Job:
    return stored_job_of(
        {
            "id": stored.id,
            "status": stored.status.value,
            "queue": stored.queue_name,
            "priority": stored.priority,
            "lock": stored.lock,
            "queueing_lock": stored.queueing_lock,
            "task_name": stored.task_name,
            "task_kwargs": arguments,
            "scheduled_at": stored.scheduled_at,
            "attempts": stored.attempts,
            "abort_requested": stored.abort_requested,
            "worker_id": stored.worker_id,
            "workflow_id": stored.workflow_id,
            "step": stored.step,
            "meta": {} if stored.meta is None else load_object(stored.meta),
            "trace_context": load_headers(stored.trace_context),
            "limit_name": stored.limit_name,
            "claimed_at": stored.claimed_at,
            "log_arguments": log_arguments,
        }
    )


def require_found(job_id: int, found: R | None) -> R:
    """Return what was found, or raise ``NoResult`` for ``None``."""
    if found is None:
        raise exceptions.NoResult(f"There is no job {job_id}: it was deleted, or it is not committed yet")
    return found
