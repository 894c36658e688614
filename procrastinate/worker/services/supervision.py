"""Run a service, and start it again whenever it fails."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

from procrastinate.worker.backoff import Backoff
from procrastinate.worker.processes.exits import ends_task

Service = Callable[[], Awaitable[None]]


async def supervise(name: str, service: Service, logger: logging.Logger, backoff: Backoff) -> None:
    """Run a service until it is done, starting it again, with growing pauses, whenever it fails.

    Parameters
    ----------
    backoff:
        Gives the pauses. The service may reset it where it knows that it has worked.
    """
    loop = asyncio.get_running_loop()
    while True:
        started = loop.time()
        try:
            await service()
        except BaseException as error:
            if ends_task(error) or isinstance(error, GeneratorExit):
                raise
            if loop.time() - started > 60:
                backoff.reset()
            wait = backoff.next_wait()
            with contextlib.suppress(BaseException):  # a log handler that raises must not end a service
                logger.warning(
                    "The %s failed, and starts again in %.1f s: %s",
                    name,
                    wait,
                    error,
                    extra={"action": "side_task_failed", "side_task": name},
                    exc_info=logger.isEnabledFor(logging.DEBUG),
                )
            await asyncio.sleep(wait)
        else:
            return
