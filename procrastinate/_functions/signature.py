"""The arguments that functions of the program take. ``defer`` refuses a job whose arguments its task does not take."""

from __future__ import annotations

import dataclasses
import inspect
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

from procrastinate._functions.kinds import is_async_callable

_BY_POSITION = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


@dataclasses.dataclass(frozen=True)
class CallArguments:
    """Allowed and required arguments of a task's jobs.

    Attributes
    ----------
    allowed:
        Names of the allowed arguments. ``None`` allows any, if the function takes ``**kwargs`` or has no readable
        signature.
    required:
        Names of the arguments without a default.
    checks_values:
        True if :meth:`check` looks at the values, and not only at the names.
    """

    allowed: frozenset[str] | None = None
    required: frozenset[str] = frozenset()
    checks_values: ClassVar[bool] = False

    def check(self, task_name: str, given: Mapping[str, Any]) -> None:
        """Check that the function can be called with the arguments of a job.

        Raises
        ------
        TypeError
            An argument is unknown or missing. The message names the task and the argument.
        """
        names = given.keys()
        if self.required <= names and (self.allowed is None or names <= self.allowed):
            return
        unknown = next((name for name in given if self.allowed is not None and name not in self.allowed), None)
        if unknown is not None:
            raise TypeError(f"Task {task_name} takes no argument {unknown!r}: it takes {_listed(self.allowed or ())}")
        raise TypeError(f"Task {task_name} needs the argument {_listed(self.required - names)}, which was not given")

    def allows(self, name: str) -> bool:
        """Return true if a job may have an argument with this name."""
        return self.allowed is None or name in self.allowed


ANY_ARGUMENTS = CallArguments()
"""The arguments of a task that only its name identifies."""


def read_call_arguments(function: Callable[..., Any], *, takes_context: bool) -> CallArguments:
    """Return the arguments with which jobs may call the function. Without a signature of its own it takes any.

    Parameters
    ----------
    takes_context:
        If true, the first positional argument is the context.

    Raises
    ------
    TypeError
        The function does not take the context, or requires a positional-only argument, which jobs cannot give.
    """
    signature = own_signature(function)
    if signature is None:
        return ANY_ARGUMENTS
    parameters = list(signature.parameters.values())
    if takes_context:
        parameters = _without_context(function, parameters)
    required = [one for one in parameters if one.default is one.empty and one.kind in (*_BY_POSITION, *_BY_NAME)]
    for one in required:
        if one.kind is one.POSITIONAL_ONLY:
            raise TypeError(
                f"{function!r} takes {one.name!r} by position only, and jobs give arguments by name: remove the '/'"
            )
    open_ended = any(one.kind is one.VAR_KEYWORD for one in parameters)
    return CallArguments(
        allowed=None if open_ended else frozenset(one.name for one in parameters if one.kind in _BY_NAME),
        required=frozenset(one.name for one in required),
    )


def check_takes(what: str, function: Callable[..., Any], *names: str, by_name: bool = False) -> None:
    """Refuse a function that cannot be called with these arguments.

    Parameters
    ----------
    what:
        What the function is for, at the beginning of the message.
    names:
        The names of the arguments.
    by_name:
        True if the arguments are given by their names, and not by position.

    Raises
    ------
    TypeError
        The function takes other arguments. One without a signature of its own is not refused.
    """
    signature = own_signature(function)
    if signature is None:
        return
    try:
        signature.bind(**dict.fromkeys(names)) if by_name else signature.bind(*names)
    except TypeError as error:
        called = f"{what} is called with ({', '.join(f'{name}=...' if by_name else name for name in names)})"
        raise TypeError(f"{called}, and {function!r} does not take that: {error}") from None


def check_hook(what: str, hook: Any, *names: str) -> None:
    """Refuse what cannot be called with these arguments in sync code.

    Raises
    ------
    TypeError
        It is no function, is async, or takes other arguments.
    """
    if not callable(hook) or is_async_callable(hook):
        raise TypeError(f"{what} takes a function that is not async, not {hook!r}")
    check_takes(what, hook, *names)


def check_maker(what: str, made: Any) -> None:
    """Refuse a function that cannot make a lock or a key. Other values are not looked at.

    Raises
    ------
    TypeError
        The function is async, or does not take the arguments of a job as one dict.
    """
    if not callable(made):
        return
    if is_async_callable(made):
        raise TypeError(f"{what} must not be async, because jobs are also deferred in sync code: {made!r}")
    check_takes(what, made, "arguments")


def own_signature(function: Callable[..., Any]) -> inspect.Signature | None:
    """Return the signature of a function, or ``None`` if it shows none of its own, as a function in C.

    For a decorated function the signature of the wrapper counts, because a wrapper can add or remove arguments. A
    wrapper that copies the signature of the wrapped function, as in ``wrapt`` and ``decorator``, shows none of its own.
    """
    if _shows_a_signature_of_another(function):
        return None
    try:
        return inspect.signature(function, follow_wrapped=False)
    except (TypeError, ValueError):
        return None


def _shows_a_signature_of_another(function: Callable[..., Any]) -> bool:
    is_proxy = hasattr(function, "__wrapped__") and type(function) is not types.FunctionType
    return is_proxy or getattr(function, "__signature__", None) is not None


def _without_context(function: Callable[..., Any], parameters: list[inspect.Parameter]) -> list[inspect.Parameter]:
    first = parameters[0] if parameters else None
    if first is not None and first.kind in _BY_POSITION:
        return parameters[1:]
    if first is not None and first.kind is first.VAR_POSITIONAL:
        return parameters
    raise TypeError(f"{function!r} has pass_context=True: it must take the context as its first argument, by position")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in sorted(names)) or "none"
