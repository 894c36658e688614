"""The pages of queues, tasks, failures, locks, periodic tasks, workers and the database."""

from __future__ import annotations

import dataclasses
import datetime

from procrastinate.alembic.revisions import known_revisions
from procrastinate.core import inspection
from procrastinate.core.doctor import diagnose
from procrastinate.core.inspection import Schedule
from procrastinate.dashboard.calls import Calls, call
from procrastinate.dashboard.messages import Response
from procrastinate.dashboard.views.pauses import LASTS
from procrastinate.dashboard.visit import Visit
from procrastinate.periodic import PeriodicTask


def queues(visit: Visit) -> Calls[Response]:
    """Show the queues."""
    loaded = yield from call(inspection.load_queues, sorted(visit.app.queues_of_tasks() or ()))
    return visit.page("queues.html", "Queues", queues=loaded, lasts=LASTS)


def tasks(visit: Visit) -> Calls[Response]:
    """Show the tasks."""
    loaded = yield from call(inspection.load_tasks)
    return visit.page("tasks.html", "Tasks", tasks=loaded, is_known=lambda name: visit.app.find_task(name) is not None)


def failures(visit: Visit) -> Calls[Response]:
    """Show the newest errors in groups."""
    loaded = yield from call(inspection.load_failures)
    return visit.page("failures.html", "Failures", failures=loaded)


def locks(visit: Visit) -> Calls[Response]:
    """Show the locks that jobs wait for."""
    loaded = yield from call(inspection.load_locks)
    return visit.page("locks.html", "Locks", locks=loaded)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Planned:
    """A periodic task: its stored ticks, and its schedule if this program declares it."""

    stored: Schedule
    cron: str | None
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
        return Planned(stored=stored, cron=None, zone="", next_ticks=())
    ticks: list[float] = []
    for _ in range(_NEXT_TICKS):
        ticks.append(task.next_tick(ticks[-1] if ticks else now.timestamp()))
    times = tuple(datetime.datetime.fromtimestamp(tick, tz=datetime.UTC) for tick in ticks)
    return Planned(stored=stored, cron=task.cron, zone=str(task.timezone), next_ticks=times)


def workers(visit: Visit) -> Calls[Response]:
    """Show the workers."""
    loaded = yield from call(inspection.load_workers)
    return visit.page("workers.html", "Workers", workers=loaded)


def system(visit: Visit) -> Calls[Response]:
    """Show the database of the queue."""
    loaded = yield from call(inspection.load_system)
    return visit.page("system.html", "System", system=loaded)


def doctor(visit: Visit) -> Calls[Response]:
    """Show what is wrong with the installation."""
    queues = sorted(visit.app.queues_of_tasks() or ())
    loaded = yield from call(diagnose, revisions=known_revisions(), queues=queues)
    return visit.page("doctor.html", "Doctor", doctor=loaded)
