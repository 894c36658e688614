"""What asgiref's ``Local`` keeps (Django's language, time zone and caches), where a job goes from thread to thread."""

from __future__ import annotations

import contextvars

# Not public, and there is no public way to do the same: ``sync_to_async`` does it around its calls. Later versions of
# asgiref hide what a Local keeps from every thread but the one that it was set in, or was handed over to.
from asgiref.sync import _restore_context


def adopt_context(context: contextvars.Context) -> None:
    """Set here the context variables that are set there. What a ``Local`` keeps is handed over to this thread."""
    _restore_context(context)


def adopt_locals() -> None:
    """Hand over to this thread what each ``Local`` of the current context keeps."""
    _restore_context(contextvars.copy_context())
