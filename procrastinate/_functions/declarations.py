"""Two declarations of one name: of two tasks, which clash; or of one, whose module has run again."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from types import CodeType
from typing import Any

from procrastinate._functions.import_path import importable_name


@dataclasses.dataclass(frozen=True, eq=False)
class Declaration:
    """Where and when a function was declared as a task.

    Attributes
    ----------
    place:
        Its module, as others import it, and its qualified name.
    namespace, spec:
        The dict of the module and its ``__spec__``: a module that is imported again has another dict, a reloaded one
        another spec.
    code:
        ``None`` for what is no function.
    """

    place: tuple[str, str]
    namespace: dict[str, Any]
    spec: Any
    code: CodeType | None

    def is_another_run_of(self, earlier: Declaration) -> bool:
        """Whether this is the same declaration, and its code has run again since: a reload, an import after one that
        failed, a notebook's cell.
        """
        if self.place != earlier.place:
            return False
        if self.namespace is not earlier.namespace or self.spec is not earlier.spec:
            return True
        return self._is_interactive and not self._stands_apart_from(earlier)

    @property
    def _is_interactive(self) -> bool:
        """Whether it was typed, into a notebook or at a prompt: a program has a file."""
        return self.spec is None and "__file__" not in self.namespace and "<locals>" not in self.place[1]

    def _stands_apart_from(self, other: Declaration) -> bool:
        """Whether the two are on different lines of one cell."""
        if self.code is None or other.code is None:
            return True
        same_cell = self.code.co_filename == other.code.co_filename
        return same_cell and self.code.co_firstlineno != other.code.co_firstlineno


def read_declaration(function: Callable[..., Any]) -> Declaration | None:
    """Where a function is declared as a task, now; ``None`` for what has no place (a partial, say)."""
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
