"""asgiref's ``Local`` variables (Django's language, time zone and caches) in a job that changes threads."""

from __future__ import annotations

import contextvars

# Private, but there is no public equivalent: ``sync_to_async`` does this around its calls. Later versions of
# asgiref hide a Local's values from every thread except the one that set or adopted them.
from asgiref.sync import _restore_context


def adopt_context(context: contextvars.Context) -> None:
    """Copy the context's variables into this thread, which also adopts the values of each ``Local``."""
    _restore_context(context)


def adopt_locals() -> None:
    """Make this thread adopt the ``Local`` values of the current context."""
    _restore_context(contextvars.copy_context())
