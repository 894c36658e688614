"""The search box: ``task:shop.send queue:mail args.order:42 error:Timeout word``."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
from typing import Any

from procrastinate._checks.names import find_fault
from procrastinate.core.defaults import LARGEST_ID
from procrastinate.core.inspection import JobSearch, JobState
from procrastinate.core.inspection.states import WALKS

_KEYS = {"task": "task", "queue": "queue", "lock": "lock", "queueing_lock": "queueing_lock", "error": "error"}
_DEEPEST = 5
_LONGEST = 1_000
_LONGEST_PLACE = max(len(walk.keys) for walk in WALKS.values())


@dataclasses.dataclass(frozen=True, kw_only=True)
class Question:
    """What a visitor searches for.

    ``job_id`` is set if the text is the id of a job. ``problem`` tells which part of the text was not understood.
    ``argument_names`` are the names on the way to the searched argument.
    """

    text: str
    search: JobSearch
    job_id: int | None = None
    argument_names: tuple[str, ...] = ()
    problem: str | None = None


def read_question(text: str, state: str | None) -> Question:
    """Read the text of the search box and the chosen state."""
    whole = text.replace("\0", "").strip()
    text = whole[:_LONGEST].strip()
    chosen = JobState(state) if state in set(JobState) else None
    job_id = read_job_id(text)
    if job_id is not None:
        return Question(text=text, search=JobSearch(state=chosen), job_id=job_id)
    found: dict[str, Any] = {}
    left_out: list[str] = []
    problems = [f"A search has at most {_LONGEST:,} characters."] if len(whole) > _LONGEST else []
    arguments: dict[str, Any] = {}
    names: list[str] = []
    for part in _split(text):
        key, colon, value = part.partition(":")
        if colon and key in _KEYS and value:
            found[_KEYS[key]] = value
        elif colon and key == "worker" and re.fullmatch(r"-?\d{1,18}", value):
            found["worker_id"] = int(value)
        elif colon and key.startswith("args.") and value:
            path = key.removeprefix("args.").split(".")[:_DEEPEST]
            names += path
            _merge(arguments, path, _json_value(value))
        elif not part or (colon and not value and (key in _KEYS or key == "worker" or key.startswith("args."))):
            problems.append(f"Nothing stands after {part}" if part else "A word is empty.")
        elif "word" in found:
            left_out.append(part)
        else:
            found["word"] = part
    if arguments:
        found["args"] = json.dumps(arguments)
    if left_out:
        problems.append(f"Only one word can be searched for. Left out: {' '.join(left_out)}")
    search = JobSearch(state=chosen, **found)
    return Question(text=text, search=search, argument_names=tuple(names), problem=" ".join(problems) or None)


def write_term(key: str, value: object) -> str:
    """Return a part of the search box that :func:`read_question` reads again, whatever the value contains."""
    return f"{key}:{shlex.quote(str(value))}"


def read_job_id(text: str) -> int | None:
    """Return the text as the id of a job, or ``None`` if it is none."""
    text = text.removeprefix("#")
    if not re.fullmatch(r"[0-9]{1,19}", text):
        return None
    number = int(text)
    return number if number <= LARGEST_ID else None


def _split(text: str) -> list[str]:
    """Split at spaces outside quotation marks."""
    try:
        return shlex.split(text)
    except ValueError:  # an open quotation mark
        return text.split()


def _json_value(text: str) -> Any:
    """Return the text as a JSON value, or itself: ``42``, ``true``, ``ada``. No argument is ``NaN`` or ``1e999``."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    is_plain = isinstance(value, (int, float, str, bool)) or value is None
    return value if is_plain and find_fault(value) is None else text


def _merge(arguments: dict[str, Any], path: list[str], value: Any) -> None:
    for name in path[:-1]:
        inner = arguments.setdefault(name, {})
        arguments = inner if isinstance(inner, dict) else {}
    arguments[path[-1]] = value


def read_place(text: str | None) -> tuple[str, ...] | None:
    """Return the place where a list continues, from an address. ``None`` for none, or for one that was changed."""
    if not text or len(text) > _LONGEST:
        return None
    try:
        place = json.loads(text)
    except (ValueError, RecursionError):
        return None
    is_short = isinstance(place, list) and 0 < len(place) <= _LONGEST_PLACE
    is_valid = is_short and all(isinstance(one, str) for one in place)
    return tuple(place) if is_valid else None


def write_place(place: tuple[str, ...] | None) -> str | None:
    """Return a place as text for an address."""
    return None if place is None else json.dumps(place)
