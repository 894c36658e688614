"""The pages of limits: all of them, the keys of one, and the jobs of a key. Two actions change its numbers."""

from __future__ import annotations

import urllib.parse
from typing import Any

from procrastinate import core
from procrastinate.core import inspection
from procrastinate.core.defaults import LARGEST_COUNT
from procrastinate.core.limits import LimitDefinition
from procrastinate.core.rates import RateTerms
from procrastinate.dashboard.access import Permission
from procrastinate.dashboard.actions import record
from procrastinate.dashboard.calls import Calls, Loaded, call, change
from procrastinate.dashboard.formatting import duration
from procrastinate.dashboard.messages import Response
from procrastinate.dashboard.visit import Visit

_NUMBERS = ("concurrency", "total")


def limits(visit: Visit) -> Calls[Response]:
    """Show the limits, or the one that the address names, or a key of it."""
    parameters = visit.request.parameters
    # A form of a page gives the name encoded, because a page holds no control characters.
    encoded = parameters.get("of")
    name = _text(parameters.get("name") if encoded is None else urllib.parse.unquote(encoded))
    key = _text(parameters.get("key"))
    if name is None:
        loaded = yield from call(inspection.load_limits)
        return visit.page("limits.html", "Limits", limits=loaded, rates_of=describe_rates)
    if key is not None:
        details = yield from call(inspection.load_limit_key, name, key)
        return visit.page("limit_key.html", "Limit", details=details, name=name, key=key)
    after = _text(parameters.get("after"))
    found = yield from call(inspection.load_limit, name, after=after)
    if found.value is None and found.problem is None:
        return visit.refuse(404, "Limit", "There is no such limit: no worker has defined it, and no job names it.")
    return visit.page(
        "limit.html",
        "Limit",
        found=found,
        name=name,
        is_first=after is None,
        rates_of=describe_rates,
        most=LARGEST_COUNT,
    )


def describe_rates(rates: tuple[RateTerms, ...]) -> str:
    """Return rates in words, such as ``10 per 1 s, 1,000 per 1 h``."""
    return ", ".join(f"{rate.count:,} per {duration(rate.seconds)}" for rate in rates)


def _text(text: str | None) -> str | None:
    """Return text of an address as the database takes it."""
    return None if text is None else text.replace("\0", "")


def set_numbers(visit: Visit) -> Calls[Response]:
    """Let other numbers hold than those of the code."""
    name = _name(visit)
    if not visit.may(Permission.LIMIT):
        return _not_allowed(visit)
    given = {one: visit.request.form.get(one, "").strip() for one in _NUMBERS}
    numbers = {one: number for one, text in given.items() if (number := _number(text)) is not None}
    if not numbers or len(numbers) < sum(map(bool, given.values())):
        return visit.refuse(400, "Not set", f"Give a whole number from 1 to {LARGEST_COUNT:,} for each number to set.")
    known = yield from call(inspection.load_limit, name)
    if known.value is None and known.problem is None:
        return visit.refuse(404, "Limit", "There is no such limit.")
    answer: Loaded[Any] = known
    if known.value is not None:
        definition = LimitDefinition(name=name, concurrency=numbers.get("concurrency"), total=numbers.get("total"))
        answer = yield from change(core.set_limit, definition)
    outcome = "failed" if answer.problem else "set_limit"
    record(visit, "set_limit", limit=name, **numbers, outcome=outcome)
    return visit.go_to("limits", name=name, done=answer.failure if answer.problem else outcome)


def reset_numbers(visit: Visit) -> Calls[Response]:
    """Let the numbers of the code hold again."""
    name = _name(visit)
    if not visit.may(Permission.LIMIT):
        return _not_allowed(visit)
    answer = yield from change(core.reset_limit, name)
    outcome = "failed" if answer.problem else "reset_limit" if answer.value else "limit_unchanged"
    record(visit, "reset_limit", limit=name, outcome=outcome)
    return visit.go_to("limits", name=name, done=answer.failure if answer.problem else outcome)


def _name(visit: Visit) -> str:
    """Return the name in the form, which is encoded."""
    return urllib.parse.unquote(visit.request.form.get("limit", "")).replace("\0", "")


def _not_allowed(visit: Visit) -> Response:
    return visit.refuse(403, "Not allowed", "You may not set and reset limits.")


def _number(text: str) -> int | None:
    """Return the number that a visitor has typed, or ``None`` if a limit cannot have it."""
    if not text.isascii() or not text.isdigit() or len(text) > len(str(LARGEST_COUNT)):
        return None
    return int(text) if 1 <= int(text) <= LARGEST_COUNT else None
