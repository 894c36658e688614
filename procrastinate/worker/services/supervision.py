"""Run a service and restart it after failures."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping

from procrastinate import exceptions
from procrastinate.worker.backoff import Backoff, Repeats
from procrastinate.worker.processes.exits import ends_task

Service = Callable[[], Awaitable[None]]

_PROMPT = {"deferrer", "listener"}
"""Services whose pauses stay short in an outage, because jobs would start late after it."""


async def supervise(name: str, service: Service, logger: logging.Logger, backoff: Backoff) -> None:
    """Run a service until it returns, and restart it after each failure, with growing pauses.

    Parameters
    ----------
    backoff:
        Gives the pauses. The service may reset it after a success.
    """
    loop = asyncio.get_running_loop()
    repeats = Repeats()
    while True:
        started = loop.time()
        try:
            await service()
        except BaseException as error:
            if ends_task(error) or isinstance(error, GeneratorExit):
                raise
            if loop.time() - started > 60:
                backoff.reset()
            is_outage = isinstance(error, exceptions.DatabaseUnavailable)
            wait = backoff.next_wait(is_outage=is_outage and name in _PROMPT)
            with contextlib.suppress(BaseException):  # a failing log handler must not end a service
                logger.log(
                    repeats.level(error, loop.time()) if is_outage else logging.WARNING,
                    "The %s failed and restarts in %.1f s: %s",
                    name,
                    wait,
                    error,
                    extra={"action": "side_task_failed", "side_task": name},
                    exc_info=logger.isEnabledFor(logging.DEBUG),
                )
            await asyncio.sleep(wait)
        else:
            return


async def do_each(*parts: Service) -> None:
    """Do each part of a service. One that fails keeps none of the others from its work.

    Raises
    ------
    DatabaseUnavailable
        A part could not reach the database. The parts after it are left out.
    Exception
        The error of the part that has failed, or a ``RuntimeError`` with those of several parts.
    """
    failures: list[Exception] = []
    for part in parts:
        try:
            await part()
        except exceptions.DatabaseUnavailable:
            raise
        except Exception as error:
            failures.append(error)
    if len(failures) > 1:
        raise RuntimeError("; ".join(map(str, failures))) from failures[0]
    if failures:
        raise failures[0]


class Services:
    """The services of one run of a worker, each in an asyncio task."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self.backoffs: defaultdict[str, Backoff] = defaultdict(Backoff)
        """The pauses after failures, by the name of the service."""

    def start(self, services: Mapping[str, Service]) -> None:
        """Start these services."""
        for name, service in services.items():
            supervised = supervise(name, service, self._logger, self.backoffs[name])
            self._tasks[name] = asyncio.create_task(supervised, name=name)

    def cancel(self, name: str) -> None:
        """Cancel one service."""
        self._tasks[name].cancel()

    async def end(self, patience: float) -> None:
        """Cancel all services, and wait at most ``patience`` seconds for their end."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.wait(self._tasks.values(), timeout=patience)
