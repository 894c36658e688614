"""Conversion of jobs to rows. Values that the database would refuse raise here, with the name of the argument."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from typing import Any

from procrastinate import exceptions
from procrastinate import json as typed_json
from procrastinate._checks.json_numbers import keep_floats
from procrastinate._checks.names import (
    NAME_LENGTH,
    check_lock,
    check_name,
    check_priority,
    find_fault,
    is_encodable,
    lock_text,
)
from procrastinate._job import Job, UnreadableArguments
from procrastinate.core.rows import NewJob
from procrastinate.defer_hooks import dump_meta
from procrastinate.types import JSONDict

__all__ = [
    "NAME_LENGTH",
    "check_job",
    "check_lock",
    "check_name",
    "check_priority",
    "dump_args",
    "dump_result",
    "to_new_job",
    "to_new_jobs_alike",
    "to_pattern",
    "to_row_of_call",
]

_SUSPICIOUS = re.compile(r"\x00|\\u0000|\\u[dD][89a-fA-F]|NaN|Infinity|\d[eE]\+?\d")
"""Quick test for JSON text that needs a closer look: NUL, surrogates, NaN, infinity, or a float with an exponent.

It has false positives. An emoji, for example, is escaped as two surrogates.
"""


def to_new_jobs_alike(
    pattern: Job, calls: Iterable[JSONDict], json_dumps: Callable[[Any], str | bytes]
) -> tuple[NewJob, list[str]]:
    """Return one row as a template, and the arguments of each job as JSON text.

    Parameters
    ----------
    calls:
        The complete arguments of each job.

    Raises
    ------
    InvalidJob
        A value cannot be stored. The message names it.
    """
    return to_new_job(pattern, json_dumps), [dump_args(pattern.task_name, call, json_dumps) for call in calls]


def to_new_job(job: Job, json_dumps: Callable[[Any], str | bytes]) -> NewJob:
    """Return the row for a job.

    Raises
    ------
    InvalidJob
        A value cannot be stored. The message names it and suggests a fix.
    """
    if isinstance(job.task_kwargs, UnreadableArguments):
        raise exceptions.InvalidJob(
            f"The arguments of job {job.id} cannot be read: {job.task_kwargs.reason}. A copy of the job would have "
            "none. Retry the stored job instead"
        )
    return to_row_of_call(to_pattern(job), job.task_kwargs, json_dumps)


def to_row_of_call(pattern: NewJob, task_kwargs: JSONDict, json_dumps: Callable[[Any], str | bytes]) -> NewJob:
    """Return the row for a job that differs from a checked row in its arguments alone.

    Raises
    ------
    InvalidJob
        An argument cannot be stored as JSON. The message names it.
    """
    return NewJob(  # dataclasses.replace() takes three times as long
        queue_name=pattern.queue_name,
        task_name=pattern.task_name,
        args=dump_args(pattern.task_name, task_kwargs, json_dumps),
        priority=pattern.priority,
        lock=pattern.lock,
        queueing_lock=pattern.queueing_lock,
        scheduled_at=pattern.scheduled_at,
        meta=pattern.meta,
        trace_context=pattern.trace_context,
        limit_name=pattern.limit_name,
        limit_key=pattern.limit_key,
        limit_weight=pattern.limit_weight,
    )


def to_pattern(job: Job) -> NewJob:
    """Return the row for jobs that differ in their arguments alone, without these. Raise as :func:`to_new_job`."""
    check_job(job)
    return NewJob(
        queue_name=job.queue,
        task_name=job.task_name,
        args="{}",
        priority=job.priority,
        lock=lock_text(job.lock),
        queueing_lock=lock_text(job.queueing_lock),
        scheduled_at=job.scheduled_at,
        meta=dump_meta(job.meta) if job.meta else None,
        trace_context=json.dumps(job.trace_context) if job.trace_context else None,
        # A job whose limit makes no key of its arguments has no limit.
        limit_name=None if job.limit_key is None else job.limit_name,
        limit_key=None if job.limit_name is None else lock_text(job.limit_key),
        limit_weight=None if job.limit_name is None or job.limit_key is None else job.limit_weight,
    )


def check_job(job: Job) -> None:
    """Refuse a job or a template that cannot be stored. The arguments are not checked.

    Raises
    ------
    InvalidJob
        A value cannot be stored. The message names it.
    """
    check_name("queue", job.queue)
    check_name("task name", job.task_name)
    check_lock("lock", job.lock)
    check_lock("queueing_lock", job.queueing_lock)
    check_priority(job.priority)
    if job.limit_name is not None:
        check_name("name of the limit", job.limit_name)
        check_lock("limit_key", job.limit_key)


def dump_args(task_name: str, task_kwargs: JSONDict, json_dumps: Callable[[Any], str | bytes]) -> str:
    """Return a job's arguments as JSON text.

    Raises
    ------
    InvalidJob
        An argument cannot be stored as JSON. The message names it.
    """
    try:
        dumped = json_dumps(task_kwargs)
        text = dumped.decode() if isinstance(dumped, bytes) else dumped  # orjson returns bytes
    except (TypeError, ValueError, RecursionError) as error:
        raise exceptions.InvalidJob(_not_json_message(task_name, task_kwargs, json_dumps, error)) from error
    if _SUSPICIOUS.search(text) or not (text.isascii() or is_encodable(text)):
        _check_arguments(task_name, text)
        text = keep_floats(text)
    return text


def _not_json_message(
    task_name: str, task_kwargs: JSONDict, json_dumps: Callable[[Any], str | bytes], error: Exception
) -> str:
    for name, value in task_kwargs.items():
        try:
            json_dumps(value)
        except (TypeError, ValueError, RecursionError):
            return (
                f"Argument {name!r} of task {task_name} cannot be stored as JSON: {error}. "
                f"Pass plain data (say, an id instead of an object), or {_way_out(value)}"
            )
    return f"The arguments of task {task_name} cannot be stored as JSON: {error}"


def _way_out(value: Any) -> str:
    if typed_json.is_encodable(value):
        return (
            "give the connector the encoder that knows it: "
            "json_dumps=procrastinate.json.dumps, json_loads=procrastinate.json.loads"
        )
    return "give the connector a json_dumps that knows it"


def _check_arguments(task_name: str, text: str) -> None:
    """Check the JSON text and not the original values, because a custom ``json_dumps`` can change values."""
    for name, value in json.loads(text).items():
        fault = find_fault(name) or find_fault(value)
        if fault is not None:
            raise exceptions.InvalidJob(f"Argument {name!r} of task {task_name} contains {fault}")


def dump_result(value: Any, json_dumps: Callable[[Any], str | bytes], *, task_name: str, max_size: int) -> str:
    """Return a task's return value as JSON text.

    Raises
    ------
    InvalidResult
        The value cannot be stored. The message gives the reason and suggests a fix.
    """
    what = f"What task {task_name} returned"
    try:
        dumped = json_dumps(value)
        text = dumped.decode() if isinstance(dumped, bytes) else dumped
        size = len(text.encode(errors="surrogatepass"))
    except BaseException as error:
        raise exceptions.InvalidResult(
            f"{what} cannot be stored as JSON: {error}. Return plain data, or {_way_out(value)}"
        ) from error
    if size > max_size:
        raise exceptions.InvalidResult(
            f"{what} has {size} bytes as JSON, {max_size} are allowed (max_result_size of the task): "
            "keep it elsewhere, and return where"
        )
    if _SUSPICIOUS.search(text) or not is_encodable(text):
        fault = find_fault(json.loads(text))
        if fault is not None:
            raise exceptions.InvalidResult(f"{what} contains {fault}")
        text = keep_floats(text)
    return text
