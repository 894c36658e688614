"""The setting ``task_routes`` of a Celery app: the queue and the priority that it gives to a call of beat."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from procrastinate.from_celery.entries import Entry, NotTranslated

_CARRIED = ("queue", "priority")

Route = Callable[[Entry], Entry]
"""Adds the route of an entry to its options."""


def routes_of(app: Any) -> Route | None:
    """Return the function that adds the route of a Celery app to an entry, or ``None`` for an app without routes.

    Options of the entry come before the declaration of its task, and this comes before the route, as in Celery. The
    declaration stays, so its options are not added. To read it, this imports the tasks of the app.
    """
    if not getattr(getattr(app, "conf", None), "task_routes", None):
        return None
    app.loader.import_default_modules()

    def route(entry: Entry) -> Entry:
        task = app.tasks.get(entry.task)
        declared = {name: getattr(task, name, None) for name in _CARRIED}
        options = {name: value for name, value in {**declared, **entry.options}.items() if value is not None}
        try:
            found = app.amqp.router.lookup_route(entry.task, list(entry.args), dict(entry.kwargs), options, task)
        except Exception as error:  # a route may be any function of the project
            raise NotTranslated(f"task_routes raises {type(error).__name__}: {error}") from error
        return dataclasses.replace(entry, options={**_read(found, options), **entry.options})

    return route


def _read(found: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a route adds to the options. Without a queue, it sends the call to an exchange."""
    if found is None:
        return {}
    route = {"queue": found} if isinstance(found, str) else dict(found)
    if "queue" not in {**route, **options} and route.keys() & {"exchange", "routing_key"}:
        raise NotTranslated("task_routes sends it to an exchange: name a queue")
    route["queue"] = getattr(route.get("queue"), "name", route.get("queue"))
    return {name: route[name] for name in _CARRIED if route.get(name) is not None and name not in options}
