"""Distinguishes a repeated declaration of one task, whose module ran again, from two tasks with the same name."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from types import CodeType
from typing import Any

from procrastinate._functions.import_path import importable_name


@dataclasses.dataclass(frozen=True, eq=False)
class Declaration:
    """The place and time at which a function was declared as a task.

    Attributes
    ----------
    place:
        The importable name of its module, and its qualified name.
    namespace, spec:
        The dict of the module, and its ``__spec__``. A new import gives a new dict, and a reload gives a new spec.
    code:
        The code of the function, or ``None`` for another callable.
    """

    place: tuple[str, str]
    namespace: dict[str, Any]
    spec: Any
    code: CodeType | None

    def is_another_run_of(self, earlier: Declaration) -> bool:
        """Return true if this is the same declaration after its code ran again.

        The reason can be a reload, an import after a failed one, or a notebook cell.
        """
        if self.place != earlier.place:
            return False
        if self.namespace is not earlier.namespace or self.spec is not earlier.spec:
            return True
        return self._is_interactive and not self._stands_apart_from(earlier)

    @property
    def _is_interactive(self) -> bool:
        """True for code in a notebook or at a prompt, which has no file."""
        return self.spec is None and "__file__" not in self.namespace and "<locals>" not in self.place[1]

    def _stands_apart_from(self, other: Declaration) -> bool:
        """Return true if the two are on different lines of one cell, or cannot be compared."""
        if self.code is None or other.code is None:
            return True
        same_cell = self.code.co_filename == other.code.co_filename
        return same_cell and self.code.co_firstlineno != other.code.co_firstlineno


def read_declaration(function: Callable[..., Any]) -> Declaration | None:
    """Return the declaration of a function, or ``None`` for an object without a place, such as a partial."""
    while hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    namespace = getattr(function, "__globals__", None)
    if not module or not name or namespace is None:
        return None
    return Declaration(
        place=(importable_name(module), name),
        namespace=namespace,
        spec=namespace.get("__spec__"),
        code=getattr(function, "__code__", None),
    )
