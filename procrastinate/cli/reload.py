"""``procrastinate worker --reload``, for development: restart the workers when the code changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from procrastinate import exceptions
from procrastinate._text.logs import get_logger
from procrastinate.cli.source_files import Changes
from procrastinate.worker import Supervisor

logger = get_logger(__name__)


async def run_with_reload(make_supervisor: Callable[[], Supervisor], files: Changes) -> None:
    """Run workers until a signal arrives, and restart them after each change of the code.

    A restart waits for running jobs, like any stop of a worker. If the workers fail or end by themselves, they start
    again at the next change.

    Parameters
    ----------
    make_supervisor:
        Returns a new supervisor for each start.
    """
    while True:
        supervisor = make_supervisor()
        running = asyncio.create_task(_run(supervisor))
        changed = asyncio.create_task(files.changed())
        await asyncio.wait((running, changed), return_when=asyncio.FIRST_COMPLETED)
        if changed.done():
            supervisor.stop()
        has_failed = await running
        if supervisor.was_signalled:
            changed.cancel()
            return
        if not has_failed and not changed.done():
            logger.info("The workers have ended: the next code change restarts them", extra={"action": "reload_waits"})
        path = await changed
        logger.info(
            "%s has changed: restarting the workers", path, extra={"action": "reload_workers", "path": str(path)}
        )


async def _run(supervisor: Supervisor) -> bool:
    """Run the workers, and return true if they failed. An error after a signal is raised."""
    try:
        await supervisor.run()
    except exceptions.WorkerProcessFailed as error:
        if supervisor.was_signalled:
            raise
        logger.error("%s. Waiting for a code change", error, extra={"action": "reload_waits"})
        return True
    return False
