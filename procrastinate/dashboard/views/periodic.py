"""The page of periodic tasks, and a job of one of them outside of its schedule."""

from __future__ import annotations

import dataclasses
import datetime
import urllib.parse
from typing import Any

from procrastinate import core, exceptions
from procrastinate._job_checks import to_new_job
from procrastinate.core import inspection
from procrastinate.core.inspection import Schedule
from procrastinate.core.lock_timeouts import briefly
from procrastinate.core.tries import Tries
from procrastinate.dashboard.access import Permission
from procrastinate.dashboard.actions import record
from procrastinate.dashboard.calls import Call, Calls, Loaded, call, logger
from procrastinate.dashboard.cron_words import describe_cron
from procrastinate.dashboard.messages import Response
from procrastinate.dashboard.visit import Visit
from procrastinate.periodic import PeriodicTask
from procrastinate.unique_deferrer import UniqueDeferrer


@dataclasses.dataclass(frozen=True, kw_only=True)
class Planned:
    """A periodic task: its stored ticks, and its schedule if this program declares it."""

    stored: Schedule
    cron: str | None
    words: str | None
    zone: str
    next_ticks: tuple[datetime.datetime, ...]


_NEXT_TICKS = 3


def periodic(visit: Visit) -> Calls[Response]:
    """Show the periodic tasks with their last and next ticks."""
    declared = dict(visit.app.periodic_registry.periodic_tasks)
    loaded = yield from call(inspection.load_periodic, sorted(declared))
    planned = []
    if loaded.value is not None:
        for stored in loaded.value.schedules:
            task = declared.get((stored.task_name, stored.periodic_id))
            planned.append(_planned(stored, task, loaded.value.now))
    return visit.page("periodic.html", "Periodic tasks", loaded=loaded, planned=planned)


def _planned(stored: Schedule, task: PeriodicTask[..., object, ...] | None, now: datetime.datetime) -> Planned:
    if task is None:
        return Planned(stored=stored, cron=None, words=None, zone="", next_ticks=())
    ticks: list[float] = []
    for _ in range(_NEXT_TICKS):
        ticks.append(task.next_tick(ticks[-1] if ticks else now.timestamp()))
    times = tuple(datetime.datetime.fromtimestamp(tick, tz=datetime.UTC) for tick in ticks)
    words = describe_cron(task.cron)
    return Planned(stored=stored, cron=task.cron, words=words, zone=str(task.timezone), next_ticks=times)


def run_now(visit: Visit) -> Calls[Response]:
    """Defer a job of a periodic task, with the options of its schedule and the time of now."""
    if not visit.may(Permission.RERUN):
        return visit.refuse(403, "Not allowed", "You may not defer jobs.")
    name, periodic_id = (urllib.parse.unquote(visit.request.form.get(one, "")) for one in ("task", "periodic_id"))
    task = visit.app.periodic_registry.periodic_tasks.get((name, periodic_id))
    if task is None:
        return visit.refuse(404, "No such schedule", "This program does not declare the schedule.")
    outcome, jobs = "failed", []
    failed: Loaded[Any] = Loaded()
    clock = yield from call(core.read_clock)
    if clock.value is None:
        failed = clock
    else:
        try:
            jobs = yield from _defer(visit, task, int(clock.value))
            outcome = "run_periodic" if jobs else "failed"
        except exceptions.AlreadyEnqueued:
            outcome = "periodic_waits"
        except exceptions.ConnectorException as error:  # it is logged
            failed = error.__cause__.answer if isinstance(error.__cause__, _Refusal) else Loaded()
        except Exception:  # functions of the program make locks and keys
            logger.exception("A job of the periodic task %s cannot be deferred", name, extra={"action": "run_periodic"})
            outcome = "periodic_failed"
    record(visit, "run_periodic", jobs=jobs, task=name, periodic_id=periodic_id, outcome=outcome)
    return visit.go_to("periodic", done=failed.failure if failed.problem else outcome)


class _Refusal(Exception):
    """The cause of the exception that hooks see if the database has not stored the job."""

    def __init__(self, answer: Loaded[Any]) -> None:
        super().__init__(answer.problem)
        self.answer = answer


def _defer(visit: Visit, task: PeriodicTask[Any, Any, Any], timestamp: int) -> Calls[list[int]]:
    """Defer a job, and return its id in a list.

    Raises
    ------
    ConnectorException
        The database refuses the job. The hooks around the defer see the exception.
    """
    deferrer, manager = task.make_deferrer(), visit.app.job_manager
    job = deferrer.make_new_job(timestamp=timestamp)
    unique_key = deferrer.make_unique_key(job) if isinstance(deferrer, UniqueDeferrer) else None
    with manager.hooks.around([to_new_job(job, manager.connector.json_dumps)]) as (defer, described):
        if isinstance(deferrer, UniqueDeferrer):
            new_jobs = [core.UniqueJob(job=one, unique=unique_key) for one in described]
            tries = core.tries_to_defer_unique(new_jobs, deferrer.unique.on_conflict)
        else:
            tries = core.tries_to_defer(described, deferrer.on_conflict)
        defer.job_ids = yield from _follow(tries)
    return defer.job_ids


def _follow(tries: Tries[list[int]]) -> Calls[list[int]]:
    answer = None
    while True:
        try:
            asked = tries.send(answer)
        except StopIteration as end:
            ids: list[int] = end.value
            return ids
        loaded = yield Call(briefly, (asked.operation, *asked.arguments), dict(asked.options))
        if loaded.problem is not None:
            tries.close()
            raise exceptions.ConnectorException(loaded.problem) from _Refusal(loaded)
        answer = loaded.value
