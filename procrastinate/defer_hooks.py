"""Functions of a program that see each defer: they describe the new jobs, or do something around the defer.

A hook is called before the jobs are stored. It may set ``defer.meta``, which is stored with each of the jobs. It may
return a context manager, which is entered around the statement. A hook that raises an ``Exception`` is logged, and the
jobs are deferred all the same.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar

from procrastinate import exceptions
from procrastinate._checks.json_numbers import keep_floats
from procrastinate._text.json_values import json_value
from procrastinate._text.logs import get_logger
from procrastinate.core.rows import NewJob
from procrastinate.types import JSONDict

T = TypeVar("T")

__all__ = ["LARGEST_META", "Defer", "DeferHook", "Hooks", "Tick"]

logger = get_logger(__name__)

LARGEST_META = 4096
"""Maximum size of the metadata of a job, in bytes of JSON."""
_LARGEST_TRACE = 2048
_DEFERRED_AT = "procrastinate-deferred-at"
"""The header of a trace context with the time of the defer, in seconds since 1970."""
_LAST_TIME = 1e11
"""Any client can write the header. A later time than this one, in the year 5138, is not believed."""
_NUL = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tick:
    """The tick of a periodic task that a job is for.

    ``timestamp`` is in seconds since 1970. ``timezone`` is the name of the zone of ``cron``. It is ``None`` for a fixed
    offset, which has no name.
    """

    cron: str
    periodic_id: str
    timestamp: int
    timezone: str | None


@dataclasses.dataclass(kw_only=True)
class Defer:
    """A defer under way.

    Attributes
    ----------
    queue, task_name:
        Those of the jobs. ``None`` if the jobs have several.
    priority, lock:
        Those of the first job.
    count:
        The number of jobs. Those of a batch are described together.
    meta:
        A description of the jobs: a dict to fill. A value of ``configure(meta=...)`` takes precedence.
    trace_context:
        Headers that carry the context of a trace to the runs of the jobs: a dict of strings to fill.
    job_ids:
        The ids of the jobs, once they are stored.
    tick:
        The tick of a periodic task, if a worker defers its job.
    is_late:
        True if another worker deferred the tick first, which shows once the defer is over. No job is stored then.
    """

    queue: str | None
    task_name: str | None
    priority: int
    lock: str | None
    count: int
    meta: JSONDict = dataclasses.field(default_factory=dict)
    trace_context: dict[str, str] = dataclasses.field(default_factory=dict)
    job_ids: list[int] = dataclasses.field(default_factory=list)
    tick: Tick | None = None
    is_late: bool = False


class Origin(Protocol):
    """The place of a function in the code of a module, which may run again."""

    def is_another_run_of(self, earlier: Any) -> bool: ...


DeferHook = Callable[[Defer], AbstractContextManager[Any] | None]

EVERYWHERE: list[DeferHook] = []
"""Hooks of all apps of the process."""


class Hooks:
    """The hooks of an app.

    Attributes
    ----------
    own:
        Those of this app alone, in the order in which they were added. The others are in ``EVERYWHERE``.
    """

    def __init__(self) -> None:
        self.own: list[DeferHook] = []
        self._origins: list[Origin | None] = []

    def __bool__(self) -> bool:
        return bool(self.own or EVERYWHERE)

    def __contains__(self, hook: DeferHook) -> bool:
        return hook in self.own

    def add(self, hook: DeferHook, origin: Origin | None = None) -> None:
        """Call this function at each defer. A second time has no effect.

        Parameters
        ----------
        origin:
            Where the function is. It takes the place of a function from an earlier run of the same code.
        """
        if hook in self.own:
            return
        for place, earlier in enumerate(self._origins):
            if origin is not None and earlier is not None and origin.is_another_run_of(earlier):
                self.own[place], self._origins[place] = hook, origin
                return
        self.own.append(hook)
        self._origins.append(origin)

    @contextlib.contextmanager
    def around(
        self,
        jobs: Sequence[NewJob],
        count: int | None = None,
        errors: type[BaseException] = Exception,
        tick: Tick | None = None,
    ) -> Iterator[tuple[Defer, list[NewJob]]]:
        """Call the hooks around a defer.

        Parameters
        ----------
        count:
            The number of jobs, if ``jobs`` has only the first of jobs that are alike.
        errors:
            The errors of hooks that are logged. A worker that defers a tick logs exits as well.
        tick:
            The tick that the job is for.

        Yields
        ------
        The defer, for the ids, and the jobs to store.
        """
        count = len(jobs) if count is None else count
        hooks = (*self.own, *EVERYWHERE) if count else ()
        defer = _defer_of(jobs if hooks else (), count)
        defer.tick = tick
        with contextlib.ExitStack() as stack:
            for hook in hooks:
                enter_quietly(hook, defer, stack, errors)
            yield defer, _described(jobs, defer)


def _defer_of(jobs: Sequence[NewJob], count: int) -> Defer:
    if not jobs:  # there is no hook, or a workflow has no steps
        return Defer(queue=None, task_name=None, priority=0, lock=None, count=count)
    first = jobs[0]
    queues, tasks = {job.queue_name for job in jobs}, {job.task_name for job in jobs}
    return Defer(
        queue=first.queue_name if len(queues) == 1 else None,
        task_name=first.task_name if len(tasks) == 1 else None,
        priority=first.priority,
        lock=first.lock,
        count=count,
    )


def enter_quietly(
    hook: Callable[[T], Any],
    subject: T,
    stack: contextlib.ExitStack,
    errors: type[BaseException] = Exception,
) -> None:
    """Call a hook, and enter the block that it may return. Nothing that the hook does reaches the caller.

    Parameters
    ----------
    errors:
        The errors of the hook that are logged. An exit and a Ctrl-C belong to the program that defers.
    """
    try:
        around = hook(subject)
        if around is None:
            return
        leave = type(around).__exit__
        around.__enter__()
    except errors:
        log_failure(hook)
        return

    def leave_quietly(*error: Any) -> None:
        """Leave the block. It may neither fail nor swallow the error of the defer."""
        try:
            leave(around, *error)
        except errors as failure:
            if failure is not error[1]:
                log_failure(hook)

    stack.push(leave_quietly)


def log_failure(hook: Callable[..., Any]) -> None:
    """Log the current exception as that of a hook."""
    with contextlib.suppress(Exception):
        name = getattr(hook, "__qualname__", type(hook).__qualname__)
        message = "The hook %s failed, and jobs go on without it"
        logger.exception(message, name, extra={"action": "defer_hook_error"})


def _described(jobs: Sequence[NewJob], defer: Defer) -> list[NewJob]:
    if not defer.meta and not defer.trace_context:
        return list(jobs)
    trace = _dump_or_none("trace_context", defer.trace_context, _LARGEST_TRACE)
    alone = _dump_or_none("meta", defer.meta, LARGEST_META)
    described = []
    for job in jobs:
        meta = alone
        if job.meta is not None and alone is not None:
            merged = {**json.loads(alone), **json.loads(job.meta)}
            meta = _dump_or_none("meta", merged, LARGEST_META) or job.meta
        described.append(dataclasses.replace(job, meta=meta or job.meta, trace_context=trace or job.trace_context))
    return described


def _dump_or_none(name: str, values: Mapping[str, Any], largest: int) -> str | None:
    """Return the JSON text, or ``None`` if there is nothing to store or if it is too large, which is logged."""
    if not values:
        return None
    try:
        text = _dump(values)
        if len(text) <= largest:
            return text
    except Exception:
        text = ""
    extra = {"action": "defer_hook_error"}
    message = "The %s that hooks give to jobs cannot be stored, and is left out: it has %d bytes of JSON, or is no dict"
    logger.error(message, name, len(text), extra=extra)
    return None


def dump_meta(meta: Any) -> str | None:
    """Return the metadata of ``configure(meta=...)`` as JSON text. Empty metadata is ``None``.

    Raises
    ------
    InvalidJob
        It is too large.
    TypeError
        It is no dict.
    """
    if not isinstance(meta, Mapping):
        raise TypeError(f"meta must be a dict, not {meta!r}")
    text = _dump(meta)
    if len(text) > LARGEST_META:
        raise exceptions.InvalidJob(f"meta has {len(text)} bytes of JSON: at most {LARGEST_META} can be stored")
    return text if meta else None


def _dump(values: Mapping[str, Any]) -> str:
    """Return ASCII that PostgreSQL can store: without NUL and without half characters, passwords filtered."""
    text = _NUL.sub(r"\1\\ufffd", json.dumps(json_value(dict(values))))
    return keep_floats(text) if "e+" in text else text


def note_deferred_at(headers: dict[str, str]) -> None:
    """Put the time of the defer into the headers of a trace, unless another hook has done so."""
    headers.setdefault(_DEFERRED_AT, f"{time.time():.3f}")


def read_deferred_at(headers: Mapping[str, str] | None) -> float | None:
    """Return the time of the defer in seconds since 1970, or ``None`` if the headers do not tell a time."""
    try:
        at = float((headers or {})[_DEFERRED_AT])
    except (KeyError, ValueError):
        return None
    return at if 0 <= at <= _LAST_TIME else None
