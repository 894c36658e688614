"""``procrastinate worker --reload``, for development: fresh workers when the code changes."""

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
"""Seconds between two looks at the files."""
_NOT_CODE = {"__pycache__", "node_modules", "site-packages", "dist-packages"}


class SourceFiles:
    """The Python files that a project consists of: those below the folders from which it imports.

    Parameters
    ----------
    folders:
        By default the working directory, and what is on ``sys.path`` and is not a part of the Python installation.
    """

    def __init__(self, folders: list[pathlib.Path] | None = None) -> None:
        self._folders = _folders_of_the_project() if folders is None else folders
        self._seen = self._times()

    async def changed(self) -> pathlib.Path:
        """Wait until a file is new, gone or written, compared with the last time, and return one of them."""
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
    """The files and when they were written. A file that goes away while they are looked for is left out."""
    for path, folders, files in os.walk(folder):
        # An environment is no code of the project, and has thousands of files.
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
    """Run workers, and fresh ones after each change of the code, until a signal comes.

    Running jobs end first, as whenever a worker stops. Workers that fail, or have ended, are started again at the next
    change.

    Parameters
    ----------
    make_supervisor:
        Makes what runs the workers.
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
            "%s has changed: starting fresh workers", path, extra={"action": "reload_workers", "path": str(path)}
        )


async def _run(supervisor: Supervisor) -> None:
    try:
        await supervisor.run()
    except exceptions.WorkerProcessFailed as error:
        if not supervisor.was_signalled:
            logger.error("%s. Waiting for a change of the code", error, extra={"action": "reload_waits"})
            return
        raise
    if not supervisor.was_signalled:
        logger.info("The workers have ended: the next change starts others", extra={"action": "reload_waits"})
