"""``procrastinate worker --reload``: fresh workers when the code changes."""

from __future__ import annotations

import asyncio
import os
import pathlib
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from procrastinate.cli.reload import SourceFiles
from tests.worker.running import until

_APP = """
import os, sys, procrastinate
app = procrastinate.App(connector=os.environ["RELOAD_DATABASE_URL"])

@app.task(name="tell")
def tell():
    print("this is {version}", flush=True)
"""


class Reloading:
    """The command in a folder of its own, whose code the test writes."""

    def __init__(self, folder: pathlib.Path, url: str) -> None:
        self._file = folder / "reloaded.py"
        self.write("version 1")
        self.log = folder / "log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "procrastinate", "--app=reloaded.app", "worker", "--reload", "--no-uvloop"],
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
    reloading = Reloading(tmp_path, database_url)
    yield reloading
    reloading.process.kill()
    reloading.process.wait()


def defer(url: str) -> None:
    import procrastinate

    with procrastinate.App(connector=url).open() as app:
        app.configure_task("tell").defer()


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


async def test_files_that_are_new_gone_or_written_are_changes(tmp_path: pathlib.Path) -> None:
    for name in ("kept.py", "notes.txt"):
        (tmp_path / name).touch()
    for hidden in (".git", "__pycache__", "env"):
        (tmp_path / hidden).mkdir()
    (tmp_path / "env" / "pyvenv.cfg").touch()
    files = SourceFiles([tmp_path])
    for change in (lambda path: path.touch(), lambda path: os.utime(path, (1, 1)), lambda path: path.unlink()):
        for hidden in (".git", "__pycache__", "env"):
            (tmp_path / hidden / "code.py").write_text(f"{change}")
        (tmp_path / "notes.txt").write_text(f"{change}")
        change(tmp_path / "new.py")
        assert await files.changed() == tmp_path / "new.py"
