"""The garbage collector while the command starts."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def collector_paused(*, until_the_exit: bool) -> Iterator[None]:
    """Pause the garbage collector while the block loads modules, which stay. Its runs are a third of a health check.

    Parameters
    ----------
    until_the_exit:
        Whether the collector passes by what is loaded until the process ends, when it would look at all of it.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if until_the_exit:
            gc.freeze()
        if enabled:
            gc.enable()
