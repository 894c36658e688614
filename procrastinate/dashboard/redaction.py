"""Hide secrets in arguments and results before they leave the process."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeAlias

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
    return bool(redact(task_name, probe) != probe)


def redacted_text(redact: Redact, task_name: str, text: str) -> str:
    """Return JSON text without secrets, indented. Text that Python cannot read is not shown."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return HIDDEN
    return json.dumps(redact(task_name, value), ensure_ascii=False, indent=2)


def redacted_beginning(redact: Redact, task_name: str, text: str) -> str:
    """Return JSON text in one line without secrets. Text that was cut ends before the first hidden value.

    A function that is not one of :func:`hide_keys` needs the whole value, so nothing is shown of text that was cut.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return _before_the_first_secret(redact, task_name, text) if hides_keys_only(redact) else HIDDEN
    return json.dumps(redact(task_name, value), ensure_ascii=False)


def _before_the_first_secret(redact: Redact, task_name: str, text: str) -> str:
    for string in _STRING.finditer(text):
        if string["colon"] and is_hidden_key(redact, task_name, json.loads(string["string"], strict=False)):
            return f"{text[: string.end()]} {HIDDEN} …"
    return text


def redacted_line(redact: Redact, task_name: str, text: str) -> str:
    """Return the arguments in one line, as in a call: ``order=42, to=["x"]``."""
    try:
        value = redact(task_name, json.loads(text))
    except (ValueError, RecursionError):
        return HIDDEN
    if not isinstance(value, dict):
        return f"no object: {json.dumps(value, ensure_ascii=False)}"
    return ", ".join(f"{key}={json.dumps(one, ensure_ascii=False)}" for key, one in value.items())


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
