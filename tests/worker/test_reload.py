"""``procrastinate worker --reload``: fresh workers when the code changes."""

from __future__ import annotations

import asyncio
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator

import pytest
import watchfiles

from procrastinate.cli.source_files import SourceFiles, WatchedFiles
from tests.worker.running import until

HIDDEN = (".git", "__pycache__", "env")
_APP = """
import asyncio, os, sys, procrastinate
app = procrastinate.App(connector=os.environ["RELOAD_DATABASE_URL"])

@app.task(name="stay")
async def stay():
    print("staying", flush=True)
    await asyncio.sleep(600)

@app.task(name="tell")
def tell():
    print("this is {version}", flush=True)
"""


class Reloading:
    """The command in a folder of its own, whose code the test writes."""

    def __init__(self, folder: pathlib.Path, url: str, *arguments: str) -> None:
        self.folder = folder
        self._file = folder / "reloaded.py"
        self.write("version 1")
        self.log = folder / "log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "procrastinate", "--app=reloaded.app", *arguments, "--no-uvloop"],
                cwd=folder,
                env=os.environ | {"RELOAD_DATABASE_URL": url},
                stdout=log,
                stderr=log,
            )

    def write(self, version: str) -> None:
        self._file.write_text(_APP.format(version=version))

    def break_code(self) -> None:
        self._file.write_text("this is no Python")

    async def says(self, text: str, times: int = 1) -> None:
        await until(lambda: self.log.read_text().count(text) >= times)


@pytest.fixture
def reloading(tmp_path: pathlib.Path, database_url: str) -> Iterator[Reloading]:
    reloading = Reloading(tmp_path, database_url, "worker", "--reload")
    yield reloading
    reloading.process.kill()
    reloading.process.wait()


@pytest.fixture
def developing(tmp_path: pathlib.Path, database_url: str) -> Iterator[Reloading]:
    developing = Reloading(tmp_path, database_url, "dev", "--port=0")
    yield developing
    developing.process.kill()
    developing.process.wait()


def defer(url: str, task: str = "tell") -> None:
    import procrastinate

    with procrastinate.App(connector=url).open() as app:
        app.configure_task(task).defer()


async def test_a_change_of_the_code_starts_fresh_workers_and_a_broken_one_waits_for_the_next(
    reloading: Reloading, database_url: str
) -> None:
    await reloading.says("Starting worker on")
    await asyncio.to_thread(defer, database_url)
    await reloading.says("this is version 1")
    reloading.break_code()
    await reloading.says("Waiting for a code change")
    reloading.write("version 2")
    await reloading.says("Starting worker on", times=2)
    await asyncio.to_thread(defer, database_url)
    await reloading.says("this is version 2")
    reloading.process.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(reloading.process.wait, 30) == 0


async def test_dev_runs_a_worker_that_follows_the_code_next_to_the_dashboard(
    developing: Reloading, database_url: str
) -> None:
    await developing.says("Dashboard: http://127.0.0.1:")
    (address,) = re.findall(r"Dashboard: (\S+)", developing.log.read_text())
    await developing.says("Starting worker on")
    with await asyncio.to_thread(urllib.request.urlopen, address) as page:
        assert "<title>Overview" in page.read().decode()
    developing.write("version 2")
    await developing.says("Starting worker on", times=2)
    await asyncio.to_thread(defer, database_url)
    await developing.says("this is version 2")
    developing.process.send_signal(signal.SIGINT)
    assert await asyncio.to_thread(developing.process.wait, 30) == 0


async def test_a_second_ctrl_c_ends_workers_that_follow_the_code_without_a_traceback(
    reloading: Reloading, database_url: str
) -> None:
    await reloading.says("Starting worker on")
    await asyncio.to_thread(defer, database_url, "stay")
    await reloading.says("staying")
    reloading.process.send_signal(signal.SIGINT)
    await reloading.says("Stopping 1 worker process gracefully")
    await asyncio.sleep(1)  # signals that come closer together count as one
    reloading.process.send_signal(signal.SIGINT)
    assert await asyncio.to_thread(reloading.process.wait, 30) == 130
    assert "Traceback" not in reloading.log.read_text()


async def test_a_worker_that_follows_the_code_says_which_folders_it_watches(reloading: Reloading) -> None:
    """A folder of the tests may come before that of the worker."""
    await reloading.says("a change restarts the workers")
    (line,) = (line for line in reloading.log.read_text().splitlines() if "Watching the Python files below" in line)
    assert str(reloading.folder) in line


async def test_dev_says_that_the_port_is_taken(tmp_path: pathlib.Path, database_url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        developing = Reloading(tmp_path, database_url, "dev", f"--port={port}")
        try:
            await developing.says(f"The dashboard gets another port: {port} cannot be had (Address already in use)")
            await developing.says("Dashboard: http://127.0.0.1:")
        finally:
            developing.process.kill()
            developing.process.wait()


def make_tree(folder: pathlib.Path) -> None:
    """Make a project with a cache, a repository and a virtual environment."""
    for name in ("kept.py", "notes.txt"):
        (folder / name).touch()
    for hidden in HIDDEN:
        (folder / hidden).mkdir()
    (folder / "env" / "pyvenv.cfg").touch()


def write_other_files(folder: pathlib.Path, text: str) -> None:
    for hidden in HIDDEN:
        (folder / hidden / "code.py").write_text(text)
    (folder / "notes.txt").write_text(text)


async def test_files_that_are_new_gone_or_written_are_changes(tmp_path: pathlib.Path) -> None:
    make_tree(tmp_path)
    files = SourceFiles([tmp_path])
    for change in (lambda path: path.touch(), lambda path: os.utime(path, (1, 1)), lambda path: path.unlink()):
        write_other_files(tmp_path, f"{change}")
        change(tmp_path / "new.py")
        assert await files.changed() == tmp_path / "new.py"


async def test_the_operating_system_reports_changes_of_code_alone(tmp_path: pathlib.Path) -> None:
    make_tree(tmp_path)
    changed = asyncio.create_task(WatchedFiles(watchfiles, [tmp_path]).changed())
    number = 0
    while not changed.done():  # the first ones may come before the watch begins
        number += 1
        write_other_files(tmp_path, f"{number}")
        (tmp_path / "new.py").write_text(f"number = {number}")
        await asyncio.wait({changed}, timeout=0.05)
    assert await changed == tmp_path / "new.py"


async def test_files_are_looked_at_if_the_operating_system_reports_nothing(tmp_path: pathlib.Path) -> None:
    files = WatchedFiles(watchfiles, [tmp_path / "gone"])
    changed = asyncio.create_task(files.changed())
    await until(lambda: files._instead is not None)
    (tmp_path / "gone").mkdir()
    (tmp_path / "gone" / "new.py").touch()
    assert await changed == tmp_path / "gone" / "new.py"
