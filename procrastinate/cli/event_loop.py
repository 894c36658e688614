"""The event loop of the worker command: uvloop if it is installed, otherwise asyncio's own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from procrastinate import exceptions
from procrastinate._extras import how_to_install
from procrastinate._text.logs import get_logger

logger = get_logger(__name__)

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def loop_factory(uvloop: bool | None) -> LoopFactory | None:
    """Return a factory of event loops, or ``None`` for asyncio's own.

    Parameters
    ----------
    uvloop:
        True requires uvloop, and false rules it out. ``None`` uses it if it is installed.

    Raises
    ------
    MissingExtra
        uvloop is required and not installed.
    """
    factory = None if uvloop is False else _uvloop_factory()
    if uvloop and factory is None:
        raise exceptions.MissingExtra(
            f"--uvloop needs uvloop, which is not installed: {how_to_install('uvloop')}, or leave the option out",
            name="uvloop",
        )
    logger.debug(
        "The event loop is %s", "uvloop's" if factory else "asyncio's own", extra={"action": "choose_event_loop"}
    )
    return factory


def _uvloop_factory() -> LoopFactory | None:
    try:
        import uvloop
    except ImportError:
        return None
    factory: LoopFactory = uvloop.new_event_loop
    return factory
