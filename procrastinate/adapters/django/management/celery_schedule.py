"""``manage.py procrastinate celery-schedule``: the rows of django-celery-beat, and a schedule in the settings."""

from __future__ import annotations

import argparse
import datetime
import json
from typing import Any

from django.apps import apps
from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from django.utils import timezone

from procrastinate import cli
from procrastinate.from_celery.entries import Entry

_NO_ROWS = "The app django_celery_beat is not in INSTALLED_APPS: give the dotted path of the Celery app instead"


def celery_schedule(app: Any, arguments: argparse.Namespace) -> None:
    """Print the schedule at a path; that of the enabled rows of django-celery-beat if no path is given.

    Raises
    ------
    ImproperlyConfigured
        No path is given, and there are no such rows.
    """
    if arguments.path is not None:
        cli.schedule_command(app, arguments)
        return
    try:
        model = apps.get_model("django_celery_beat", "PeriodicTask")
    except LookupError:
        raise ImproperlyConfigured(_NO_ROWS) from None
    zone = arguments.timezone or getattr(django_settings, "CELERY_TIMEZONE", django_settings.TIME_ZONE)
    rows = model.objects.filter(enabled=True).order_by("pk")
    cli.print_declarations([_read(row) for row in rows], zone, cli.read_routes(_celery_app()))


def _celery_app() -> Any:
    """Return the Celery app of the project. If the project makes none any more, its settings make one with its routes.

    django-celery-beat needs Celery.
    """
    import celery  # type: ignore[import-untyped, unused-ignore]

    current = celery.current_app
    routes = getattr(django_settings, "CELERY_TASK_ROUTES", None)
    if current.conf.task_routes or not routes:
        return current
    made = celery.Celery(set_as_current=False)
    made.conf.task_routes = routes
    return made


def _read(row: Any) -> Entry:
    """Return a row as an entry. Any program may write rows, so one that cannot be read says why in its place."""
    try:
        return _entry(row)
    except Exception as error:  # for example, its arguments are no JSON, or it has no schedule
        return Entry(name=row.name, task=row.task, schedule=error)


def _entry(row: Any) -> Entry:
    headers = json.loads(row.headers or "{}")
    options = {
        "queue": row.queue,
        "priority": row.priority,
        "expires": row.expires or row.expire_seconds,
        "exchange": row.exchange,
        "routing_key": row.routing_key,
        "headers": headers,
        "start_time": _start_to_come(row),
    }
    return Entry(
        name=row.name,
        task=row.task,
        schedule=_schedule(row),
        args=json.loads(row.args or "[]"),
        kwargs=json.loads(row.kwargs or "{}"),
        options={name: value for name, value in options.items() if value is not None},
    )


def _start_to_come(row: Any) -> datetime.datetime | None:
    """Return the time before which the row has no ticks. Later it has no effect."""
    return row.start_time if row.start_time is not None and row.start_time > timezone.now() else None


def _schedule(row: Any) -> Any:
    """Return the row's schedule. One that runs once has no ticks."""
    return row if row.one_off else row.schedule
