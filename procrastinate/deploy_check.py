"""Check before a deployment whether the jobs that wait fit the code that will run them."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from procrastinate.core.inspection import Queues, WaitingCall, WaitingCalls, load_queues, load_waiting_calls

if TYPE_CHECKING:
    from procrastinate.app import App

__all__ = ["DeployCheck", "Problem", "check_waiting_jobs", "check_waiting_jobs_async"]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """Waiting jobs that will not run, or will fail.

    ``code`` is ``task-unknown``, ``argument-missing``, ``argument-unknown``, ``arguments-unreadable`` or
    ``queue-unserved``. ``subject`` is the task or the queue. ``jobs`` is the number of such jobs, and ``job_id`` the
    oldest of them. Both are ``None`` for a queue.
    """

    code: str
    subject: str
    text: str
    advice: str
    jobs: int | None = None
    job_id: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class DeployCheck:
    """The problems of the waiting jobs. ``is_complete`` is false if other jobs wait that were not looked at."""

    problems: tuple[Problem, ...]
    looked_at: int
    is_complete: bool


def check_waiting_jobs(app: App, *, queues: Collection[str] = ()) -> DeployCheck:
    """Compare the waiting jobs with the tasks of this program. Nothing is changed.

    The check looks at up to 50,000 ready jobs, as many scheduled jobs, and as many that wait for a lock. Values of
    arguments are not compared, only their names.

    Parameters
    ----------
    app:
        The app with the new code. All modules with tasks are imported.
    queues:
        Look at these queues only, those of the workers of this program. Empty means all.

    Raises
    ------
    ConnectorException
        The database cannot be reached, refuses the query, or takes longer than ten seconds for a statement.
    """
    run = app.inspect.on_primary.run
    return _judge(app, run(load_waiting_calls, queues), run(load_queues, queues), queues)


async def check_waiting_jobs_async(app: App, *, queues: Collection[str] = ()) -> DeployCheck:
    """Asynchronous version of :func:`check_waiting_jobs`."""
    run = app.inspect.on_primary.run_async
    return _judge(app, await run(load_waiting_calls, queues), await run(load_queues, queues), queues)


def _judge(app: App, waiting: WaitingCalls, found: Queues, queues: Collection[str]) -> DeployCheck:
    problems = [problem for call in waiting.calls for problem in _problems(app, call)]
    # Without a worker, no queue is served: this is so before each start.
    problems += _unserved(found, queues) if waiting.workers_alive and not found.silent_on_queues else ()
    return DeployCheck(problems=tuple(problems), looked_at=waiting.looked_at, is_complete=not waiting.is_more)


def _problems(app: App, call: WaitingCall) -> Iterator[Problem]:
    task = app.find_task(call.task_name)
    if task is None:
        text, advice = "the task is not registered here", "Import its module, or give the name to a task as alias"
        if not app.knows_task(call.task_name):
            yield _problem("task-unknown", call, text, advice)
        return
    if call.is_object is False:
        text, advice = "the arguments are no JSON object", "Cancel them, or correct the column args"
        yield _problem("arguments-unreadable", call, text, advice)
    if call.names is None:
        return
    arguments = task.arguments
    missing = sorted(arguments.required - set(call.names))
    unknown = [name for name in call.names if not arguments.allows(name)]
    if missing:
        text = f"the call lacks {_listed(missing)}, which the task needs"
        yield _problem("argument-missing", call, text, "Give a default until these jobs have run")
    if unknown:
        text = f"the call has {_listed(unknown)}, which the task does not take"
        yield _problem("argument-unknown", call, text, "Keep the argument, with a default, until these jobs have run")


_SHOWN = 10


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(map(repr, names[:_SHOWN])) + more


def _problem(code: str, call: WaitingCall, what: str, advice: str) -> Problem:
    jobs = "1 job" if call.count == 1 else f"{call.count:,} jobs"
    return Problem(
        code=code,
        subject=call.task_name,
        text=f"{jobs} (first {call.first_job_id}): {what}",
        advice=advice,
        jobs=call.count,
        job_id=call.first_job_id,
    )


def _unserved(found: Queues, queues: Collection[str]) -> Iterator[Problem]:
    """Yield the queues with waiting jobs that no worker serves."""
    for queue in found.queues:
        if queue.has_waiting and not queue.served_by and (not queues or queue.name in queues):
            yield Problem(
                code="queue-unserved",
                subject=queue.name,
                text="Jobs wait in this queue, and no worker takes them",
                advice="Start a worker for this queue, or correct its name",
            )
