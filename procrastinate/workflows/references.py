"""References to the results of other steps, in the arguments of a step."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from procrastinate.exceptions import InvalidWorkflow

if TYPE_CHECKING:
    from procrastinate.workflows.graph import Group, Step


@dataclasses.dataclass(frozen=True, eq=False)
class Reference:
    """Stands for the result of a step, or for the results of a group. The worker puts the value in its place."""

    source: Step[Any] | Group[Any]

    def __repr__(self) -> str:
        return f"<value of {self.source.name}>"

    def __bool__(self) -> bool:
        raise TypeError(f"{self!r} is not known yet: a step can take it as an argument, and nothing else")


@dataclasses.dataclass(frozen=True)
class Place:
    """A reference, and its place in the arguments as the text of a JSON array."""

    source: Step[Any] | Group[Any]
    path: str


def without_references(arguments: Mapping[str, Any]) -> tuple[dict[str, Any], list[Place]]:
    """Return the arguments with ``None`` for each reference, and the references with their places.

    References may stand in lists, tuples and dicts.
    """
    places = [Place(source, json.dumps(path)) for path, source in _find(arguments)]
    return (_cleared(arguments) if places else dict(arguments)), places


def _find(value: Any) -> Iterator[tuple[list[str | int], Step[Any] | Group[Any]]]:
    """Yield the way to each reference, and what it stands for."""
    if isinstance(value, Reference):
        yield [], value.source
    elif isinstance(value, Mapping):
        for name, part in value.items():
            for way, source in _find(part):
                yield [_as_key(name), *way], source
    elif isinstance(value, list | tuple):
        for place, part in enumerate(value):
            for way, source in _find(part):
                yield [place, *way], source


def _as_key(name: Any) -> str:
    """Return the key of a dict as the stored arguments have it: JSON makes text of a number."""
    if isinstance(name, str):
        return name
    try:
        (key,) = json.loads(json.dumps({name: None}))
    except TypeError:
        raise InvalidWorkflow(f"A result stands under the key {name!r}, which is none in JSON: write a text") from None
    return str(key)


def _cleared(value: Any) -> Any:
    if isinstance(value, Reference):
        return None
    if isinstance(value, Mapping):
        return {name: _cleared(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_cleared(part) for part in value]
    return value
