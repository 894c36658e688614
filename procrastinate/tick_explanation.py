"""Why does a periodic task not run? The last tick of its schedule, and what became of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from procrastinate.core.health import read_clock
from procrastinate.core.inspection import TickExplanation, TickQuestion, explain_tick
from procrastinate.periodic import PeriodicTask, read_max_delay

if TYPE_CHECKING:
    from procrastinate.app import App

__all__ = ["TickExplanation", "explain_last_tick", "explain_last_tick_async"]


def explain_last_tick(app: App, task_name: str, *, periodic_id: str | None = None) -> TickExplanation:
    """Return what became of the last tick of a periodic task, with stable codes, and what was excluded.

    Parameters
    ----------
    task_name:
        The name of the task.
    periodic_id:
        The id of the schedule. It may be left out if the task has one schedule.

    Raises
    ------
    ValueError
        The task has several schedules, and ``periodic_id`` is missing. The message names them.
    ConnectorException
        The database cannot be reached, refuses the query, or takes longer than two seconds for a statement.
    """
    declared = _declared(app, task_name, periodic_id)
    now = app.inspect.run(read_clock)
    return app.inspect.run(explain_tick, _question(app, task_name, periodic_id, declared, now))


async def explain_last_tick_async(app: App, task_name: str, *, periodic_id: str | None = None) -> TickExplanation:
    """Asynchronous version of :func:`explain_last_tick`."""
    declared = _declared(app, task_name, periodic_id)
    now = await app.inspect.run_async(read_clock)
    return await app.inspect.run_async(explain_tick, _question(app, task_name, periodic_id, declared, now))


_Declared = PeriodicTask[Any, Any, Any]


def _declared(app: App, task_name: str, periodic_id: str | None) -> _Declared | None:
    task = app.find_task(task_name)
    name = task_name if task is None else task.name
    ids = [one_id for one, one_id in app.periodic_registry.periodic_tasks if one == name]
    if periodic_id is None and len(ids) > 1:
        raise ValueError(f"The task {name!r} has several schedules. Name one of these ids: {', '.join(map(repr, ids))}")
    chosen = periodic_id if periodic_id is not None else next(iter(ids), "")
    return app.periodic_registry.periodic_tasks.get((name, chosen))


def _question(
    app: App, task_name: str, periodic_id: str | None, declared: _Declared | None, now: float
) -> TickQuestion:
    lock = None if declared is None else declared.configure_kwargs.get("queueing_lock", declared.task.queueing_lock)
    return TickQuestion(
        task_name=task_name if declared is None else declared.task.name,
        periodic_id=(periodic_id or "") if declared is None else declared.periodic_id,
        tick=None if declared is None else int(declared.previous_tick(now)),
        next_tick=None if declared is None else int(declared.next_tick(now)),
        queue=None if declared is None else declared.configure_kwargs.get("queue") or declared.task.queue,
        queueing_lock=lock if isinstance(lock, str) else None,
        max_delay=read_max_delay(**(app.periodic_defaults or {})),
    )
