"""Distinguishes a repeated declaration, whose module ran again, from two declarations with the same name.

A declaration is known by the code that makes it and not only by the function: that may be a partial, an object or a
function of another module, which does not run again.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

from procrastinate._functions.import_path import importable_name

_PACKAGE = "procrastinate"


@dataclasses.dataclass(frozen=True, eq=False)
class Origin:
    """A place in the code, and the run of the module that contains it.

    Attributes
    ----------
    module, name:
        The importable name of the module, and the qualified name of the function. ``None`` for the code of the module
        itself.
    namespace, spec:
        The dict of the module, and its ``__spec__``. A new import gives a new dict, and a reload gives a new spec.
    file, line:
        Those of the code.
    is_inner:
        True for the code of a function, which may run several times while its module runs once.
    """

    module: str
    name: str | None
    namespace: dict[str, Any]
    spec: Any
    file: str | None
    line: int | None
    is_inner: bool

    def is_in_another_run_than(self, earlier: Origin) -> bool:
        """Return true if the module of both places has run again since, by an import or a reload."""
        is_another_run = self.namespace is not earlier.namespace or self.spec is not earlier.spec
        return self.module == earlier.module and self.file == earlier.file and is_another_run

    def is_same_place_as(self, other: Origin) -> bool:
        """Return true if both are one place in one run of a module."""
        mine, others = ((one.module, one.name, one.file, one.line) for one in (self, other))
        return mine == others and self.namespace is other.namespace and self.spec is other.spec

    def is_another_run_of(self, earlier: Origin) -> bool:
        """Return true if both are one place in the code of a module or of a notebook's cell that ran twice."""
        if (self.module, self.name) != (earlier.module, earlier.name):
            return False
        return self.is_in_another_run_than(earlier) or (self._is_interactive and not self._stands_apart_from(earlier))

    @property
    def _is_interactive(self) -> bool:
        """True for code in a notebook or at a prompt: it has no file, or another one than the program around it."""
        if self.spec is not None or self.is_inner:
            return False
        program = self.namespace.get("__file__")  # some notebooks set it to their own file
        return program is None or os.path.basename(str(self.file)) != os.path.basename(str(program))

    def _stands_apart_from(self, other: Origin) -> bool:
        """Return true if the two are on different lines of one cell, or cannot be compared."""
        if self.file is None or other.file is None:
            return True
        return self.file == other.file and self.line != other.line

    def __str__(self) -> str:
        return f"{self.module} ({self.file}, line {self.line})"


@dataclasses.dataclass(frozen=True, eq=False)
class Declaration:
    """Where something was declared: by which code, and with which function.

    ``function`` is ``None`` for an object without a place, such as a partial, and for what has no function.
    """

    caller: Origin
    function: Origin | None = None

    def is_another_run_of(self, earlier: Declaration) -> bool:
        """Return true if this is the same declaration after its code ran again.

        The reason can be a reload, an import after a failed one, or a notebook cell.
        """
        if self.caller.is_in_another_run_than(earlier.caller):
            return True
        if self.function is None or earlier.function is None:
            return self.function is earlier.function and self.caller.is_another_run_of(earlier.caller)
        if self.function.is_same_place_as(earlier.function):  # an imported function, which did not run again
            return self.caller.is_another_run_of(earlier.caller)
        return self.function.is_another_run_of(earlier.function)

    def describe_clash(self, earlier: Declaration) -> str:
        """Return where the earlier declaration is, and whether both come from one file with two names."""
        where = f"in {earlier.caller}"
        if self.caller.file == earlier.caller.file and self.caller.module != earlier.caller.module:
            return f"{where}. That file is imported as {self.caller.module}, too: import it under one name"
        return where


def read_declaration(function: Callable[..., Any] | None = None) -> Declaration:
    """Return the declaration that the calling code outside this package makes, with this function."""
    return Declaration(caller=_origin_of_caller(), function=None if function is None else _origin_of(function))


def _origin_of_caller() -> Origin:
    frame = sys._getframe(1)
    while frame.f_back is not None and _is_inside(frame):
        frame = frame.f_back
    return Origin(
        module=importable_name(str(frame.f_globals.get("__name__"))),
        name=None,
        namespace=frame.f_globals,
        spec=frame.f_globals.get("__spec__"),
        file=frame.f_code.co_filename,
        line=frame.f_lineno,
        is_inner=frame.f_code.co_name != "<module>",
    )


def _is_inside(frame: FrameType) -> bool:
    """Return true for a function of this package. Its modules may declare tasks, as any module."""
    package = str(frame.f_globals.get("__name__")).partition(".")[0]
    return package == _PACKAGE and frame.f_code.co_name != "<module>"


def _origin_of(function: Callable[..., Any]) -> Origin | None:
    """Return the place of a function, or ``None`` for an object without one, such as a partial."""
    while hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    namespace = getattr(function, "__globals__", None)
    if not module or not name or namespace is None:
        return None
    code = getattr(function, "__code__", None)
    return Origin(
        module=importable_name(module),
        name=name,
        namespace=namespace,
        spec=namespace.get("__spec__"),
        file=None if code is None else code.co_filename,
        line=None if code is None else code.co_firstlineno,
        is_inner="<locals>" in name,
    )
