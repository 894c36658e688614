"""Celery's periodic tasks as declarations of this queue, printed as Python code."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from procrastinate._durations import setting
from procrastinate._quoting import quoted
from procrastinate.cron import check_cron
from procrastinate.from_celery.entries import Entry, NotTranslated
from procrastinate.from_celery.options import WITHOUT_EFFECT
from procrastinate.from_celery.routes import Route
from procrastinate.from_celery.stored_call import encode

NOT_TRANSLATED = "# NOT TRANSLATED"
"""How the comment begins that is printed in place of a declaration."""
_DAY = 86_400
_NAME = re.compile("[A-Za-z]+")
"""A month or a day of the week. Celery reads its first three letters."""
_UNDERSTOOD = WITHOUT_EFFECT | {"queue", "priority", "expires"}


def as_code(entries: Iterable[Entry], timezone: str = "UTC", route: Route | None = None) -> Iterator[str]:
    """Write each entry as a declaration; as a comment if no declaration says the same.

    Parameters
    ----------
    timezone:
        By whose clocks schedules without a time zone of their own run.
    route:
        Adds the options that the Celery app adds to the calls.
    """
    for entry in entries:
        try:
            yield _declaration(entry if route is None else route(entry), timezone)
        except NotTranslated as error:
            yield _not_translated(entry, str(error))
        except Exception as error:  # the values of an entry may be of any kind
            yield _not_translated(entry, f"it cannot be read ({type(error).__name__}: {error})")


def _not_translated(entry: Entry, reason: str) -> str:
    return quoted(f"{NOT_TRANSLATED}: {entry.name}, task {entry.task}: {reason}")


def _declaration(entry: Entry, timezone: str) -> str:
    # A crontab of django-celery-beat has a zone of its own. The attribute of every other schedule is computed.
    zone = getattr(entry.schedule, "__dict__", {}).get("tz") or timezone
    task_kwargs = {"args": encode(list(entry.args)), "kwargs": encode(dict(entry.kwargs)), **_expiry(entry)}
    _require_json(task_kwargs)
    given = {
        "cron": _cron(entry.schedule),
        "periodic_id": entry.name,
        "timezone": str(zone),
        "queue": entry.options.get("queue"),
        "priority": entry.options.get("priority"),
        "task_kwargs": {name: value for name, value in task_kwargs.items() if value},
    }
    unknown = [name for name, value in entry.options.items() if value not in (None, {}) and name not in _UNDERSTOOD]
    if unknown:
        raise NotTranslated(f"its option {unknown[0]} has no counterpart")
    lines = "".join(f"    {name}={value!r},\n" for name, value in given.items() if value not in (None, {}))
    priority = entry.options.get("priority")
    remark = f"# With 0 as the highest priority, as over Redis: {-priority}.\n" if priority else ""
    return f"{remark}app.periodic(\n{lines})(app.tasks[{entry.task!r}])"


def _expiry(entry: Entry) -> dict[str, Any]:
    expires = entry.options.get("expires")
    if expires is None:
        return {}
    if isinstance(expires, datetime.datetime):
        raise NotTranslated("it ends at a fixed time")
    return {"expires_in": expires.total_seconds() if isinstance(expires, datetime.timedelta) else expires}


def _require_json(task_kwargs: Mapping[str, Any]) -> None:
    try:
        json.dumps(task_kwargs)
    except (TypeError, ValueError) as error:
        raise NotTranslated(f"its arguments are not JSON: {error}") from None


def _cron(schedule: Any) -> str:
    if isinstance(schedule, Exception):
        raise NotTranslated(f"it cannot be read ({type(schedule).__name__}: {schedule})")
    if hasattr(schedule, "_orig_minute"):
        return _cron_of_crontab(schedule)
    run_every = getattr(schedule, "run_every", schedule)
    if isinstance(run_every, int | float) and not isinstance(run_every, bool):
        run_every = datetime.timedelta(seconds=run_every)
    if isinstance(run_every, datetime.timedelta):
        return _cron_of_interval(run_every.total_seconds())
    raise NotTranslated(f"a schedule of the kind {type(schedule).__name__} has no cron expression")


def _cron_of_crontab(schedule: Any) -> str:
    fields = ("minute", "hour", "day_of_month", "month_of_year", "day_of_week")
    minute, hour, day, month, weekday = (_field(getattr(schedule, f"_orig_{name}")) for name in fields)
    if day != "*" and weekday != "*":
        raise NotTranslated("it names days of the month and of the week: Celery wants both to match, cron wants one")
    return _readable(f"{minute} {hour} {day} {month} {weekday}")


def _readable(expression: str) -> str:
    """Return the expression if ``@app.periodic`` takes it."""
    try:
        check_cron(expression)
    except ValueError as error:
        raise NotTranslated(str(error)) from None
    return expression


def _field(value: Any) -> str:
    """Return a field as text. Celery takes numbers and collections of them, too, and names of any length."""
    if isinstance(value, Iterable) and not isinstance(value, str):
        return ",".join(str(one) for one in sorted(value))
    return _NAME.sub(lambda name: name[0][:3].lower(), str(value).replace(" ", ""))


def _cron_of_interval(seconds: float) -> str:
    """Return ticks that are evenly apart, from midnight on."""
    for unit, expression, most in (
        (1, "* * * * * */{}", 60),
        (60, "*/{} * * * *", 60),
        (3600, "0 */{} * * *", 24),
        (_DAY, "0 0 * * *", 1),
    ):
        number, rest = divmod(seconds, unit)
        if not rest and 1 <= number < max(most, 2) and most % number == 0:
            return expression.format(int(number)).replace("*/1 ", "* ").removesuffix("/1")
    raise NotTranslated(
        f"cron has no ticks that are {setting(seconds)} apart: choose an interval that divides the next unit"
    )
