"""Errors of a parser that suggest the word that was probably meant."""

from __future__ import annotations

import argparse
import difflib
import re
import sys
from collections.abc import Iterable
from typing import NoReturn

from procrastinate._text.terminal import say

_INVALID_COMMAND = re.compile(r"argument command: invalid choice: '(?P<word>[^']+)'")
_UNKNOWN_OPTION = re.compile(r"unrecognized arguments: (?:.*? )?(?P<word>--[^ =]+)")


class SuggestingParser(argparse.ArgumentParser):
    """Parses arguments. For an unknown sub-command or option it names the closest one that exists."""

    def error(self, message: str) -> NoReturn:
        """End the program with this message and a suggestion."""
        self.print_usage(sys.stderr)
        say(f"{self.prog}: error: {with_suggestion(self, message)}", sys.stderr)
        self.exit(2)


def with_suggestion(parser: argparse.ArgumentParser, message: str) -> str:
    """Return the message of an error of this parser, and the sub-command or option that was probably meant."""
    commands = _commands(parser)
    if found := _INVALID_COMMAND.search(message):
        return f"there is no command {found['word']!r}{meant(found['word'], commands) or '.'} --help lists all commands"
    if found := _UNKNOWN_OPTION.search(message):
        options = {flag for one in (parser, *commands.values()) for flag in one._option_string_actions}
        return message + meant(found["word"], sorted(options))
    return message


def _commands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    found = [action.choices for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return dict(found[0]) if found else {}


def meant(word: str, known: Iterable[str]) -> str:
    """Return a sentence that suggests the known word that is closest, or nothing."""
    closest = difflib.get_close_matches(word, list(known), n=1)
    return f". Did you mean {closest[0]}?" if closest else ""
