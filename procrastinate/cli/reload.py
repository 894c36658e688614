"""``procrastinate worker --reload``, for development: restart the workers when the code changes."""

from __future__ import annotations

import asyncio
import os
import pathlib
import sys
from collections.abc import Callable, Iterator

from procrastinate import exceptions
from procrastinate._text.logs import get_logger
from procrastinate.worker import Supervisor

logger = get_logger(__name__)

_PAUSE = 0.5
"""Polling interval for the files, in seconds."""
_NOT_CODE = {"__pycache__", "node_modules", "site-packages", "dist-packages"}


class SourceFiles:
    """The Python files of a project, below the folders from which it imports.

    Parameters
    ----------
    folders:
        The folders to watch. The default is the working directory and ``sys.path`` without the Python installation.
    """

    def __init__(self, folders: list[pathlib.Path] | None = None) -> None:
        self._folders = _folders_of_the_project() if folders is None else folders
        self._seen = self._times()

    async def changed(self) -> pathlib.Path:
        """Wait until a file is created, deleted or written since the last call, and return one such file."""
        while True:
            now = await asyncio.to_thread(self._times)
            before, self._seen = self._seen, now
            if now != before:
                return pathlib.Path(min(path for path, _ in now.items() ^ before.items()))
            await asyncio.sleep(_PAUSE)

    def _times(self) -> dict[str, int]:
        return {path: time for folder in self._folders for path, time in _python_files(folder)}


def _folders_of_the_project() -> list[pathlib.Path]:
    installed = tuple({sys.prefix, sys.base_prefix, sys.exec_prefix})
    given = [path for path in sys.path if path and not path.startswith(installed)]
    found = {pathlib.Path(path).resolve() for path in (os.getcwd(), *given)}
    folders = {path for path in found if path.is_dir() and not _NOT_CODE & set(path.parts)}
    return sorted(path for path in folders if not folders & set(path.parents))


def _python_files(folder: pathlib.Path) -> Iterator[tuple[str, int]]:
    """Yield each file with its modification time in nanoseconds. Skip files that vanish during the search."""
    for path, folders, files in os.walk(folder):
        # A virtual environment is not project code, and has thousands of files.
        folders[:] = [
            name
            for name in folders
            if name not in _NOT_CODE and not name.startswith(".") and not _is_environment(f"{path}/{name}")
        ]
        for name in files:
            if name.endswith(".py"):
                try:
                    yield f"{path}/{name}", os.stat(f"{path}/{name}").st_mtime_ns
                except OSError:
                    continue


def _is_environment(folder: str) -> bool:
    return os.path.exists(f"{folder}/pyvenv.cfg")


async def run_with_reload(make_supervisor: Callable[[], Supervisor], files: SourceFiles) -> None:
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
        await running
        if supervisor.was_signalled:
            changed.cancel()
            return
        path = await changed
        logger.info(
            "%s has changed: restarting the workers", path, extra={"action": "reload_workers", "path": str(path)}
        )


async def _run(supervisor: Supervisor) -> None:
    try:
        await supervisor.run()
    except exceptions.WorkerProcessFailed as error:
        if not supervisor.was_signalled:
            logger.error("%s. Waiting for a code change", error, extra={"action": "reload_waits"})
            return
        raise
    if not supervisor.was_signalled:
        logger.info("The workers have ended: the next code change restarts them", extra={"action": "reload_waits"})
