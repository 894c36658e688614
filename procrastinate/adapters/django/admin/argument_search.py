"""Read a search for an argument, such as ``order_id=42`` or ``user.name=ada``."""

from __future__ import annotations

import json
import re
from typing import Any

from django.db.models import Q

from procrastinate.adapters.django.dashboard.options import get_options
from procrastinate.adapters.django.project_app import app
from procrastinate.dashboard.redaction import is_hidden_key, list_tasks_without_arguments

_SEARCH = re.compile(r"\s*(?P<path>\w+(?:\.\w+){0,4})\s*=\s*(?P<value>.*\S)\s*")


def read_argument(term: str) -> Q | None:
    """Return the condition that the arguments contain this value. ``None`` if the term is no search for an argument.

    Hidden values cannot be searched, because the answer would tell them.

    A number or word may be stored as such or as text, so both are searched for.
    """
    match = _SEARCH.fullmatch(term)
    options = get_options()
    if match is None or not options.searches_arguments:
        return None
    if any(is_hidden_key(options.redact, "", name) for name in match["path"].split(".")):
        return None
    condition = Q()
    for value in _readings(match["value"]):
        condition |= Q(args__contains=_nested(match["path"].split("."), value))
    return condition & ~Q(task_name__in=list_tasks_without_arguments(app))


def _readings(text: str) -> list[Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return [text]
    is_finite = not isinstance(value, float) or abs(value) < float("inf")
    return [value, text] if isinstance(value, (int, float, bool, type(None))) and is_finite else [text]


def _nested(path: list[str], value: Any) -> Any:
    for name in reversed(path):
        value = {name: value}
    return value
