"""The pages of queues, tasks, failures, locks, workers and the database."""

from __future__ import annotations

from procrastinate.alembic.revisions import known_revisions
from procrastinate.core import inspection
from procrastinate.core.defaults import without_builtin
from procrastinate.core.doctor import diagnose
from procrastinate.core.inspection import Failure
from procrastinate.dashboard.calls import Calls, call
from procrastinate.dashboard.messages import Response
from procrastinate.dashboard.search import write_term
from procrastinate.dashboard.views.pauses import LASTS
from procrastinate.dashboard.visit import Visit


def queues(visit: Visit) -> Calls[Response]:
    """Show the queues."""
    loaded = yield from call(inspection.load_queues, without_builtin(visit.app.queues_of_tasks()))
    return visit.page("queues.html", "Queues", queues=loaded, lasts=LASTS)


def tasks(visit: Visit) -> Calls[Response]:
    """Show the tasks."""
    loaded = yield from call(inspection.load_tasks)
    return visit.page("tasks.html", "Tasks", tasks=loaded, is_known=visit.app.knows_task)


def failures(visit: Visit) -> Calls[Response]:
    """Show the newest errors in groups."""
    loaded = yield from call(inspection.load_failures)
    return visit.page("failures.html", "Failures", failures=loaded, search_of=_search_of)


def _search_of(group: Failure) -> str:
    """Return the search box that finds the jobs of a group: those with its class, and with its task if it has one."""
    error = write_term("error", group.exception_class)
    return error if len(group.tasks) != 1 else f"{error} {write_term('task', group.tasks[0])}"


def locks(visit: Visit) -> Calls[Response]:
    """Show the locks that jobs wait for."""
    loaded = yield from call(inspection.load_locks)
    return visit.page("locks.html", "Locks", locks=loaded)


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
    queues = without_builtin(visit.app.queues_of_tasks())
    loaded = yield from call(diagnose, revisions=known_revisions(), queues=queues)
    return visit.page("doctor.html", "Doctor", doctor=loaded)
