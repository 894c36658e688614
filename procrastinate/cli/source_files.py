"""Waits for a change of the Python files of a project: with watchfiles if it is installed, otherwise by looking."""

from __future__ import annotations

import asyncio
import os
import pathlib
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any, Protocol

from procrastinate._text.logs import get_logger

logger = get_logger(__name__)

_PAUSE = 0.5
"""Polling interval for the files, in seconds."""
_DEBOUNCE = 100
"""Milliseconds for which watchfiles collects changes, so that an editor that writes several files causes one."""
_NOT_CODE = {"__pycache__", "node_modules", "site-packages", "dist-packages"}


class Changes(Protocol):
    """The changes of some files."""

    async def changed(self) -> pathlib.Path:
        """Wait until a file is created, deleted or written since the last call, and return one such file."""
        ...


def changes_of_code() -> Changes:
    """Return the changes of the files below the working directory and ``sys.path``, without Python's installation."""
    folders = folders_of_the_project()
    message = "Watching the Python files below %s: a change restarts the workers"
    logger.info(message, ", ".join(map(str, folders)), extra={"action": "reload_watches"})
    try:
        import watchfiles
    except ImportError:
        return SourceFiles(folders)
    return WatchedFiles(watchfiles, folders)


class WatchedFiles:
    """The changes of Python files that the operating system reports. They are seen at once and cost nothing.

    Parameters
    ----------
    watchfiles:
        The module.
    folders:
        The folders to watch. The default is that of :func:`changes_of_code`.
    """

    def __init__(self, watchfiles: Any, folders: list[pathlib.Path] | None = None) -> None:
        self._watchfiles = watchfiles
        self._folders = folders_of_the_project() if folders is None else folders
        self._changes: AsyncIterator[set[tuple[Any, str]]] | None = None
        self._instead: SourceFiles | None = None

    async def changed(self) -> pathlib.Path:
        """Wait until a file is created, deleted or written since the last call, and return one such file."""
        if self._instead is None:
            try:
                return await self._reported()
            except OSError as error:  # for example, the limit of watched folders is reached
                logger.warning(
                    "The operating system does not report changes (%s): looking at the files instead",
                    error,
                    extra={"action": "reload_polls"},
                )
                self._instead = SourceFiles(self._folders)
        return await self._instead.changed()

    async def _reported(self) -> pathlib.Path:
        if self._changes is None:
            self._changes = self._watchfiles.awatch(*self._folders, watch_filter=self._is_code, debounce=_DEBOUNCE)
        return pathlib.Path(min(path for _, path in await anext(self._changes)))

    def _is_code(self, change: Any, path: str) -> bool:
        if not path.endswith(".py"):
            return False
        found = pathlib.Path(path)
        root = next((folder for folder in self._folders if folder in found.parents), found.parent)
        between = found.relative_to(root).parents
        return not any(is_left_out(root / folder) for folder in between if folder.name)


class SourceFiles:
    """The Python files of a project, at whose times this looks twice a second.

    Parameters
    ----------
    folders:
        The folders to watch. The default is that of :func:`changes_of_code`.
    """

    def __init__(self, folders: list[pathlib.Path] | None = None) -> None:
        self._folders = folders_of_the_project() if folders is None else folders
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


def folders_of_the_project() -> list[pathlib.Path]:
    """Return the folders from which a project imports its own code, none of them below another."""
    installed = tuple({sys.prefix, sys.base_prefix, sys.exec_prefix})
    given = [path for path in sys.path if path and not path.startswith(installed)]
    found = {pathlib.Path(path).resolve() for path in (os.getcwd(), *given)}
    folders = {path for path in found if path.is_dir() and not _NOT_CODE & set(path.parts)}
    return sorted(path for path in folders if not folders & set(path.parents))


def _python_files(folder: pathlib.Path) -> Iterator[tuple[str, int]]:
    """Yield each file with its modification time in nanoseconds. Skip files that vanish during the search."""
    for path, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not is_left_out(pathlib.Path(path, name))]
        for name in files:
            if name.endswith(".py"):
                try:
                    yield f"{path}/{name}", os.stat(f"{path}/{name}").st_mtime_ns
                except OSError:
                    continue


def is_left_out(folder: pathlib.Path) -> bool:
    """Return true for a folder without code of the project: a hidden one, a cache, or a virtual environment."""
    return folder.name in _NOT_CODE or folder.name.startswith(".") or (folder / "pyvenv.cfg").exists()
