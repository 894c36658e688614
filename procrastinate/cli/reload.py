"""``procrastinate worker --reload``, for development: restart the workers when the code changes."""

from __future__ import annotations

import asyncio
import dataclasses
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

    Raises
    ------
    SystemExit
        After a second signal, with the exit status that a shell uses for it.
    """
    while True:
        supervisor = make_supervisor()
        running = asyncio.create_task(_run(supervisor))
        changed = asyncio.create_task(files.changed())
        await asyncio.wait((running, changed), return_when=asyncio.FIRST_COMPLETED)
        if changed.done():
            supervisor.stop()
        ended = await running
        if supervisor.was_signalled:
            changed.cancel()
            if ended.exit_status is not None:
                raise SystemExit(ended.exit_status)
            return
        if not ended.has_failed and not changed.done():
            logger.info("The workers have ended: the next code change restarts them", extra={"action": "reload_waits"})
        path = await changed
        logger.info(
            "%s has changed: restarting the workers", path, extra={"action": "reload_workers", "path": str(path)}
        )


@dataclasses.dataclass(frozen=True)
class _Ended:
    """How a supervisor ended."""

    has_failed: bool = False
    exit_status: int | None = None


async def _run(supervisor: Supervisor) -> _Ended:
    """Run the workers, and return how they ended. A failure after a signal is raised.

    A ``SystemExit`` is returned as its status, because asyncio lets one that a task raises through the event loop.
    """
    try:
        await supervisor.run()
    except SystemExit as end:
        return _Ended(exit_status=int(end.code or 0))
    except exceptions.WorkerProcessFailed as error:
        if supervisor.was_signalled:
            raise
        logger.error("%s. Waiting for a code change", error, extra={"action": "reload_waits"})
        return _Ended(has_failed=True)
    return _Ended()
