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
_ARGUMENT = "args."
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
    criteria = _Criteria()
    if len(whole) > _LONGEST:
        criteria.problems.append(f"A search has at most {_LONGEST:,} characters.")
    for part in _split(text):
        criteria.read(part)
    return Question(
        text=text,
        search=JobSearch(state=chosen, **criteria.values()),
        argument_names=tuple(criteria.argument_names),
        problem=" ".join(criteria.all_problems()) or None,
    )


class _Criteria:
    """What the parts of the search box ask for, and which of them cannot be searched for.

    No part is dropped silently. Without it, more jobs would match, and an action may follow on all that match.
    """

    def __init__(self) -> None:
        self.argument_names: list[str] = []
        self.problems: list[str] = []
        self._found: dict[str, Any] = {}
        self._arguments: dict[str, Any] = {}
        self._further_words: list[str] = []

    def read(self, part: str) -> None:
        """Read a part."""
        key, colon, value = part.partition(":")
        is_argument = key.startswith(_ARGUMENT)
        if not part:
            self.problems.append("A word is empty.")
        elif not colon or not (is_argument or key in _KEYS or key == "worker"):
            self._read_word(part)
        elif not value:
            self.problems.append(f"Nothing stands after {part}")
        elif is_argument:
            self._read_argument(part, key.removeprefix(_ARGUMENT).split("."), value)
        elif key in _KEYS:
            self._read_criterion(part, _KEYS[key], value)
        elif re.fullmatch(r"-?\d{1,18}", value):
            self._read_criterion(part, "worker_id", int(value))
        else:
            self._read_word(part)

    def _read_word(self, part: str) -> None:
        if "word" in self._found:
            self._further_words.append(part)
        else:
            self._found["word"] = part

    def _read_criterion(self, part: str, name: str, value: object) -> None:
        if name in self._found:
            self._refuse_second(part)
        else:
            self._found[name] = value

    def _read_argument(self, part: str, path: list[str], value: str) -> None:
        if len(path) > _DEEPEST:
            self.problems.append(f"An argument can be searched {_DEEPEST} names deep. Left out: {part}")
        elif _put(self._arguments, path, _json_value(value)):
            self.argument_names += path
        else:
            self._refuse_second(part)

    def _refuse_second(self, part: str) -> None:
        self.problems.append(f"{part.partition(':')[0]} can have one value. Left out: {part}")

    def values(self) -> dict[str, Any]:
        """Return the criteria of a search."""
        return self._found | ({"args": json.dumps(self._arguments)} if self._arguments else {})

    def all_problems(self) -> list[str]:
        """Return what could not be searched for, as sentences."""
        if not self._further_words:
            return self.problems
        return [*self.problems, f"Only one word can be searched for. Left out: {' '.join(self._further_words)}"]


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
    """Return the text as a JSON value, or itself: ``42``, ``true``, ``ada``.

    Python also reads ``NaN``, ``1e400`` and half a character, which the database has in no arguments.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    is_plain = isinstance(value, (int, float, str, bool)) or value is None
    return value if is_plain and find_fault(value) is None else text


def _put(arguments: dict[str, Any], path: list[str], value: Any) -> bool:
    """Put a value into nested dicts. Return false if its place, or a part of the way, has a value already."""
    for name in path[:-1]:
        inner: Any = arguments.setdefault(name, {})
        if not isinstance(inner, dict):
            return False
        arguments = inner
    if path[-1] in arguments:
        return False
    arguments[path[-1]] = value
    return True


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
