"""Hide secrets in arguments and results before they leave the process."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeAlias

from procrastinate._text.logs import Seldom, get_logger

if TYPE_CHECKING:
    from procrastinate.app import App

Redact: TypeAlias = "Callable[[str, Any], Any]"
"""A function from the name of a task and a decoded JSON value to the value that pages show."""

SECRETS = (
    "password", "passwd", "passphrase", "secret", "token", "apikey", "authorization", "cookie", "credential",
    "privatekey", "signature",
)  # fmt: skip
"""Words in the names of keys whose values are hidden by default."""
HIDDEN = "••••••"
_failing = Seldom(
    get_logger("procrastinate.dashboard"),
    "redact failed for %s value(s), which pages do not show. The last error was a %s",
    "redact_failed",
)
_STRING = re.compile(r'(?P<string>"(?:[^"\\]|\\.)*")(?P<colon>\s*:)?')
"""A string of JSON. A colon follows the name of a key."""


def hide_keys(*words: str) -> Redact:
    """Return a function that hides the values of keys whose name contains one of the words.

    Case, hyphens and underscores do not matter. Without words, the usual names of secrets are meant.
    """
    return _KeysHidden(tuple(_plain(word) for word in words or SECRETS))


@dataclasses.dataclass(frozen=True)
class _KeysHidden:
    """Hides the values of keys by their names alone, so a search by other keys tells nothing that pages hide."""

    parts: tuple[str, ...]

    def __call__(self, task_name: str, value: Any) -> Any:
        return _hide(value, self.parts)


def hides_keys_only(redact: Redact) -> bool:
    """Return true for a function of :func:`hide_keys`. Another one may look at the task and at values, too."""
    return isinstance(redact, _KeysHidden)


def hides_arguments(app: App, task_name: str) -> bool:
    """Return true for a task with ``log_arguments=False``."""
    task = app.find_task(task_name)
    return task is not None and not task.log_arguments


def list_tasks_without_arguments(app: App) -> list[str]:
    """Return the names, aliases included, of tasks with ``log_arguments=False``."""
    return sorted(name for name, task in app.tasks.items() if not task.log_arguments)


def is_hidden_key(redact: Redact, task_name: str, key: str) -> bool:
    """Return whether a search for values of this key would tell what pages hide."""
    probe = {key: "a value"}
    try:
        return bool(redact(task_name, probe) != probe)
    except Exception as error:
        _note_failure(error)
        return True


def redacted_text(redact: Redact, task_name: str, text: str) -> str:
    """Return JSON text without secrets, indented. Text that Python cannot read is not shown."""
    return _redacted(redact, task_name, text, _indented)


def redacted_whole(redact: Redact, task_name: str, text: str) -> str:
    """Return JSON text without secrets, indented. Text that Python cannot read ends before the first hidden value.

    A function that is not one of :func:`hide_keys` needs the value, so nothing is shown of text that cannot be read.
    """
    return _redacted(redact, task_name, text, _indented, is_cut=True)


def redacted_beginning(redact: Redact, task_name: str, text: str) -> str:
    """Return JSON text in one line without secrets. Text that was cut ends before the first hidden value.

    A function that is not one of :func:`hide_keys` needs the whole value, so nothing is shown of text that was cut.
    """
    return _redacted(redact, task_name, text, _in_one_line, is_cut=True)


def redacted_line(redact: Redact, task_name: str, text: str) -> str:
    """Return the arguments in one line, as in a call: ``order=42, to=["x"]``."""
    return _redacted(redact, task_name, text, _as_call)


def _redacted(redact: Redact, task_name: str, text: str, write: Callable[[Any], str], *, is_cut: bool = False) -> str:
    """Return a value without secrets. Nothing is shown of one that the project's function fails for.

    Such a function may expect arguments, and it also gets results and metadata. Without this, one job would be an error
    of the whole page.
    """
    hides_keys = hides_keys_only(redact)
    try:  # numbers of more than 4,300 digits, thousands of levels
        value = json.loads(text)
        if hides_keys:
            return write(redact(task_name, value))
    except (ValueError, RecursionError):
        return _before_the_first_secret(redact, task_name, text) if is_cut and hides_keys else HIDDEN
    try:
        return write(redact(task_name, value))
    except Exception as error:
        _note_failure(error)
        return HIDDEN


def _before_the_first_secret(redact: Redact, task_name: str, text: str) -> str:
    for string in _STRING.finditer(text):
        if string["colon"] and is_hidden_key(redact, task_name, json.loads(string["string"], strict=False)):
            return f"{text[: string.end()]} {HIDDEN} …"
    return text


def _note_failure(error: Exception) -> None:
    """Log that the project's function fails, without the value, which the text of the error may repeat."""
    _failing.note(type(error).__name__)


def _indented(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2)


def _in_one_line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _as_call(value: Any) -> str:
    if not isinstance(value, dict):
        return f"no object: {_in_one_line(value)}"
    return ", ".join(f"{key}={_in_one_line(one)}" for key, one in value.items())


def _plain(word: str) -> str:
    return word.lower().replace("_", "").replace("-", "")


def _hide(value: Any, parts: Iterable[str]) -> Any:
    if isinstance(value, dict):
        return {
            key: HIDDEN if any(part in _plain(key) for part in parts) else _hide(one, parts)
            for key, one in value.items()
        }
    if isinstance(value, list):
        return [_hide(one, parts) for one in value]
    return value
