"""Command-line arguments with environment variables. The command line takes precedence."""

from __future__ import annotations

import argparse
import copy
import datetime
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

ENV_PREFIX = "PROCRASTINATE_"

_TRUE = {"1", "y", "yes", "t", "true", "on"}
_LAST_PORT = 65_535
_MOMENT = "2030-01-01T12:00:00+00:00"
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}
_FALSE = {"0", "n", "no", "f", "false", "off"}


class WrongValue(argparse.ArgumentTypeError, ValueError):
    """A value of the wrong form. argparse shows the text of this error, and for a plain ``ValueError`` its own."""


class _FromEnvironment(str):
    """A value with the name of its environment variable, for error messages."""

    variable: str
    may_be_quoted: bool
    is_secret: bool


def add_argument(
    parser: argparse._ActionsContainer,
    *flags: str,
    env: str,
    help: str,
    type: Callable[[str], Any] = str,
    otherwise: str | None = None,
    empty_is_unset: bool = True,
    may_be_quoted: bool = False,
    is_secret: bool = False,
    **options: Any,
) -> None:
    """Add an argument with an environment variable. If neither sets it, the result has no such attribute.

    Parameters
    ----------
    env:
        The variable, without ``PROCRASTINATE_``. Its value counts like one on the command line, including ``0``.
    type:
        Function that converts a value. It raises ``ValueError`` with a message about the expected form.
    otherwise:
        The default, for the help text.
    empty_is_unset:
        If true, a variable that is empty or only white space counts as unset.
        White space around a value is dropped, because a secret or a file with Windows line ends adds a newline.
    may_be_quoted:
        If true, a variable may begin and end with quotes, which are a part of the value.
    is_secret:
        If true, no error message shows the value of the variable.
    """
    variable = ENV_PREFIX + env
    _variables[variable] = variable
    for off in options.get("off", ()):
        _variables[variable_of(off, env.partition("_")[0])] = f"{variable}=false"
    options.setdefault("default", argparse.SUPPRESS)
    value = os.environ.get(variable)
    if value is not None and (value.strip() or not empty_is_unset):
        options["default"] = _FromEnvironment(value.strip() if empty_is_unset else value)
        options["default"].variable = variable
        options["default"].may_be_quoted = may_be_quoted
        options["default"].is_secret = is_secret
    default = "" if otherwise is None else f" (default: {otherwise})"
    parser.add_argument(*flags, help=f"{help}{default} (env: {variable})", type=_reporting(type), **options)


_variables: dict[str, str] = {}
"""What to write for each variable of an argument, and for what looks like the variable of its other flag."""


def variable_of(flag: str, command: str) -> str:
    """Return the environment variable that the name of a flag suggests."""
    return f"{ENV_PREFIX}{command}_{flag.removeprefix('--').replace('-', '_').upper()}"


def misspelt_variables(command: str) -> dict[str, str]:
    """Return the variables of the environment that look like one of a command but are none, and what to write.

    Other variables may have the prefix, too. Kubernetes sets some for each service.
    """
    import difflib  # only a worker looks

    prefix = f"{ENV_PREFIX}{command}_"
    known = {one.removeprefix(prefix): text for one, text in _variables.items() if one.startswith(prefix)}
    found = {}
    for variable in sorted(os.environ):
        if variable.startswith(prefix) and _variables.get(variable) != variable:
            for similar in difflib.get_close_matches(variable.removeprefix(prefix), known, n=1, cutoff=0.8):
                found[variable] = known[similar]
    return found


def repeat_options(parser: argparse.ArgumentParser, commands: Iterable[argparse.ArgumentParser]) -> None:
    """Let the options of a parser also stand after its sub-commands, by their long names.

    A short name may mean something else there. The environment is read once, by the parser itself.
    """
    for command in commands:
        group = command.add_argument_group("Options of all commands")
        for action in parser._actions:
            flags = [flag for flag in action.option_strings if flag.startswith("--")]
            if flags and action.dest not in ("help", "version"):
                repeated = copy.copy(action)
                repeated.option_strings, repeated.default = flags, argparse.SUPPRESS
                group._add_action(repeated)


def _reporting(convert: Callable[[str], Any]) -> Callable[[str], Any]:
    def converted(value: str) -> Any:
        is_secret = isinstance(value, _FromEnvironment) and value.is_secret
        try:
            if isinstance(value, _FromEnvironment) and not value.may_be_quoted:
                check_unquoted(value, "the value" if is_secret else repr(value))
            return convert(value)
        except ValueError as error:
            shown = "" if is_secret else f"={str(value)!r}"
            where = f"{value.variable}{shown}: " if isinstance(value, _FromEnvironment) else ""
            raise argparse.ArgumentTypeError(f"{where}{error}") from error

    return converted


def check_unquoted(value: str, shown: str | None = None) -> None:
    """Refuse a value in quotes. They are a common mistake where no shell removes them (``docker --env-file``).

    Parameters
    ----------
    shown:
        What the error message says for the value. The default is the value.

    Raises
    ------
    WrongValue
        The value begins and ends with the same quote.
    """
    text = value.strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'`":
        what = repr(value) if shown is None else shown
        raise WrongValue(f"{what} begins and ends with quotes, which are a part of the value: remove them")


class Switch(argparse.Action):
    """A pair of flags: one turns an option on, and ``off`` turns it off."""

    def __init__(self, option_strings: Sequence[str], dest: str, off: Sequence[str], **options: Any) -> None:
        super().__init__([*option_strings, *off], dest, nargs=0, **options)
        self._off = off

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        setattr(namespace, self.dest, option_string not in self._off)


class Counter(argparse.Action):
    """A flag that counts its occurrences. The count replaces the value from the environment."""

    def __init__(self, option_strings: Sequence[str], dest: str, **options: Any) -> None:
        super().__init__(option_strings, dest, nargs=0, **options)

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        before = getattr(namespace, self.dest, 0)
        setattr(namespace, self.dest, before + 1 if isinstance(before, int) else 1)


class Names(argparse.Action):
    """An option with names that may be given several times. The names replace those from the environment.

    No names (``None``) mean all, which cannot be given together with names.
    """

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        before = getattr(namespace, self.dest, self.default)
        if before is self.default:  # given for the first time
            setattr(namespace, self.dest, values)
        elif (before is None) is not (values is None):
            raise argparse.ArgumentError(self, "it is given several times, once without a name, which means all")
        elif values is not None:
            setattr(namespace, self.dest, list(dict.fromkeys([*before, *values])))


class Once(argparse.Action):
    """An option that chooses jobs by one value. argparse takes the last of several, and others would be changed."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        if getattr(namespace, self.dest, None) is not None:
            raise argparse.ArgumentError(self, "it is given several times: run the command once for each value")
        setattr(namespace, self.dest, values)


def given_name(value: str) -> str:
    """Return text that is not empty. An unset variable of a shell must not choose other rows than the name does."""
    if not value.strip():
        raise WrongValue("it is empty: give a name, or leave the option out")
    return str(value)


def boolean(value: str) -> bool:
    """Convert the text of a switch to a bool."""
    lowered = value.strip().lower()
    if lowered not in _TRUE | _FALSE:
        raise WrongValue(f"{value!r} is neither 1/y/t nor 0/n/f")
    return lowered in _TRUE


def seconds(value: str) -> float:
    """Convert text to a finite number of seconds, at least 0."""
    try:
        number = float(value)
    except ValueError:
        number = -1
    if not 0 <= number < float("inf"):
        raise WrongValue(f"{value!r} is not a number of seconds")
    return number


def integer(value: str) -> int:
    """Convert text to an int."""
    try:
        return int(value)
    except ValueError:
        raise WrongValue(f"{value!r} is not a whole number") from None


def port(value: str) -> int:
    """Convert text to the number of a port, 0 for any free one."""
    number = integer(value)
    if not 0 <= number <= _LAST_PORT:
        raise WrongValue(f"{value!r} is not a port: give a number from 0 to {_LAST_PORT}")
    return number


def moment(value: str, or_else: str = "") -> datetime.datetime:
    """Convert text in ISO 8601, with a time zone, to a moment.

    Parameters
    ----------
    or_else:
        Other forms that the caller takes, for the error message.
    """
    forms = f"{_MOMENT} {or_else}".rstrip()
    try:
        found = datetime.datetime.fromisoformat(value)
    except ValueError:
        raise WrongValue(f"{value!r} is not a date and time like {forms}") from None
    if found.tzinfo is None:
        raise WrongValue(f"{value!r} has no time zone: write it like {forms}")
    return found


def since(value: str) -> datetime.datetime:
    """Convert ``30m``, ``2h`` or ``1d`` to the moment that long ago, and ISO 8601 as :func:`moment` does."""
    return _shifted(value, -1, "or a time that has passed, such as 30m, 2h or 1d")


def until(value: str) -> datetime.datetime:
    """Convert ``30m``, ``2h`` or ``1d`` to the moment after that time, and ISO 8601 as :func:`moment` does."""
    return _shifted(value, 1, "or a time from now, such as 30m, 2h or 1d")


def _shifted(value: str, direction: int, forms: str) -> datetime.datetime:
    number, unit = value[:-1], value[-1:]
    if not (number.isdecimal() and value.isascii() and unit in _UNITS):
        return moment(value, forms)
    try:
        span = datetime.timedelta(**{_UNITS[unit]: int(number)})
        return datetime.datetime.now(datetime.UTC) + direction * span
    except (OverflowError, ValueError):
        raise WrongValue(f"{value!r} is too long a time") from None


def one_of(values: Iterable[str]) -> Callable[[str], str]:
    """Return a converter that accepts only these values."""
    allowed = list(values)

    def check(value: str) -> str:
        if value not in allowed:
            raise WrongValue(f"{value!r} is not one of {', '.join(allowed)}")
        return value

    return check


def given(arguments: argparse.Namespace, names: Iterable[str]) -> dict[str, Any]:
    """Return the arguments with these names that the command line or the environment sets."""
    return {name: getattr(arguments, name) for name in names if hasattr(arguments, name)}
