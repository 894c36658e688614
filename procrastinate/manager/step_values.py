"""Put the results of other steps into the arguments of a step."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from procrastinate import core
from procrastinate.exceptions import InvalidJob
from procrastinate.results import read_result


def may_take_values(arguments: Any) -> bool:
    """Return True if some argument is ``None``, as the place of a result is until the result is known."""
    if isinstance(arguments, Mapping):
        return any(may_take_values(value) for value in arguments.values())
    if isinstance(arguments, list):
        return any(may_take_values(value) for value in arguments)
    return arguments is None


def with_values(
    arguments: Mapping[str, Any], values: Iterable[core.StepValue], json_loads: Callable[[str], Any]
) -> dict[str, Any]:
    """Return a copy of the arguments with each result in its place.

    Raises
    ------
    InvalidJob
        A result is missing, and the step needs the success of the step that it comes from. Or a result cannot be read,
        or the arguments have no place for it, because other programs have changed the rows.
    """
    filled = copy.deepcopy(dict(arguments))
    for value in values:
        loaded = _loaded(value, json_loads)
        try:
            *way, last = json.loads(value.path)
            place: Any = filled
            for part in way:
                place = place[part]
            place[last] = loaded
        except (LookupError, TypeError, ValueError) as error:
            raise InvalidJob(f"The arguments have no place {value.path} for a result: {error!r}") from error
    return filled


def load_result(text: str, json_loads: Callable[[str], Any], *, step: str | None) -> Any:
    """Return the stored result of a step.

    Raises
    ------
    InvalidJob
        It cannot be read. The message names the step.
    """
    value, fault = read_result(text, json_loads)
    if fault is not None:
        raise InvalidJob(f"The result of step {step or ''} cannot be read: {fault}")
    return value


def _loaded(value: core.StepValue, json_loads: Callable[[str], Any]) -> Any:
    if value.is_needed and (None in value.values or not (value.values or value.is_list)):
        missing = [name or "" for name, text in zip(value.names, value.values, strict=True) if text is None]
        raise InvalidJob(
            f"The result of step {', '.join(missing[:3]) or 'that is gone'} is missing: declare its task with "
            "store_result=True, and keep its job until the workflow has ended"
        )
    named = zip(value.names, value.values, strict=True)
    loaded = [None if text is None else load_result(text, json_loads, step=name) for name, text in named]
    if value.is_list:
        return loaded
    return loaded[0] if loaded else None
