"""Common cron expressions in plain words."""

from __future__ import annotations

import re

_DAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_SHORT = {"sun": 0, "mon": 1, "tue": 2, "wed": 3, "thu": 4, "fri": 5, "sat": 6}
_ALIASES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
_STEP = re.compile(r"\*/([1-9][0-9]?)")


def describe_cron(expression: str) -> str | None:
    """Return a schedule in words, such as ``every day at 04:00``, or ``None`` if it is not one of the common ones."""
    fields = _ALIASES.get(expression.lower(), expression).split()
    if len(fields) != 5:
        return None
    minute, hour, day, month, weekday = fields
    days = _days(day, month, weekday)
    if days is None:
        return None
    if minute.isdecimal() and hour.isdecimal():
        return f"{days} at {int(hour):02}:{int(minute):02}"
    often = _often(minute, hour)
    if often is None:
        return None
    return often if days == "every day" else f"{often}, {days}"


def _often(minute: str, hour: str) -> str | None:
    """Return how often a schedule fires in a day, if that is even: a step that divides the hour or the day."""
    step = _step(minute, 60) if hour == "*" else None
    if step is not None:
        return "every minute" if step == 1 else f"every {step} minutes"
    step = _step(hour, 24)
    if step is None or not minute.isdecimal():
        return None
    every = "every hour" if step == 1 else f"every {step} hours"
    return every if int(minute) == 0 else f"{every}, {int(minute)} min past"


def _step(field: str, whole: int) -> int | None:
    if field == "*":
        return 1
    match = _STEP.fullmatch(field)
    return int(match[1]) if match and whole % int(match[1]) == 0 else None


def _days(day: str, month: str, weekday: str) -> str | None:
    if (day, month, weekday) == ("*", "*", "*"):
        return "every day"
    if day == month == "*":
        return _weekdays(weekday)
    if weekday != "*" or not day.isdecimal():
        return None
    if month == "*":
        return f"on day {int(day)} of each month"
    return f"each year on {int(day)} {_MONTHS[int(month) - 1]}" if month.isdecimal() else None


def _weekdays(field: str) -> str | None:
    first, dash, last = field.lower().partition("-")
    names = [_DAYS[number] for number in map(_number, first.split(",")) if number is not None]
    if len(names) != len(first.split(",")):
        return None
    if dash:
        end = _number(last)
        return None if end is None or len(names) != 1 else f"{names[0]} to {_DAYS[end]}"
    return "every " + " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _number(text: str) -> int | None:
    if text in _SHORT:
        return _SHORT[text]
    return int(text) if text.isdecimal() and int(text) <= 7 else None
