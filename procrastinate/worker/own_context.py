"""The context variables with which each job of a worker starts."""

from __future__ import annotations

import contextvars


class OwnContext:
    """The context variables that the program had set when it started the worker.

    Attributes
    ----------
    has_decimal:
        Whether the program had used the decimal module, whose object in a context is not copied with it.
    """

    def __init__(self, variables: contextvars.Context) -> None:
        self._variables = variables
        self.has_decimal = any(variable.name == "decimal_context" for variable in variables)

    def copy(self) -> contextvars.Context:
        """Return a copy, for one job or one callback."""
        return self._variables.copy()
