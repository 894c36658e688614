"""A parser whose errors suggest the word that was probably meant."""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

_INVALID_CHOICE = re.compile(r"invalid choice: '(?P<word>[^']+)'")


class SuggestingParser(argparse.ArgumentParser):
    """Parses arguments. For an unknown sub-command or option it names the closest one that exists."""

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """Parse the arguments. End the program with status 2 if one is unknown."""
        parsed, unknown = self.parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}{self._meant_options(unknown)}")
        return parsed

    def error(self, message: str) -> NoReturn:
        """End the program with this message, and a suggestion for an unknown sub-command."""
        found = _INVALID_CHOICE.search(message)
        hint = _meant(found["word"], self._commands()) if found else ""
        super().error(f"{message}{hint}")

    def _meant_options(self, unknown: Iterable[str]) -> str:
        first = next((word.partition("=")[0] for word in unknown if word.startswith("--")), "")
        parsers = [self, *self._commands().values()]
        return _meant(first, sorted({flag for parser in parsers for flag in parser._option_string_actions}))

    def _commands(self) -> dict[str, argparse.ArgumentParser]:
        found = [action.choices for action in self._actions if isinstance(action, argparse._SubParsersAction)]
        return dict(found[0]) if found else {}


def _meant(word: str, known: Iterable[str]) -> str:
    closest = difflib.get_close_matches(word, list(known), n=1)
    return f". Did you mean {closest[0]}?" if closest else ""
