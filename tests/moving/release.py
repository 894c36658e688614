"""Procrastinate 3.10.0 as it is on PyPI, in a virtual environment of its own that all runs on a machine share."""

from __future__ import annotations

import contextlib
import functools
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator

import fasteners

from tests.database import libpq_url
from tests.missing import missing

REQUIREMENTS = (
    "procrastinate[django,sqlalchemy]==3.10.0",
    "psycopg[binary]",
    "psycopg2-binary",
    "django~=5.2.0",
)
PROGRAMS = pathlib.Path(__file__).parent / "programs"


@functools.cache
def python_of_3x() -> pathlib.Path:
    """The interpreter of the environment, which is made unless it is there."""
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
    version = ".".join(map(str, sys.version_info[:2]))
    directory = cache / "procrastinate-tests" / f"procrastinate-3.10.0-python-{version}"
    directory.parent.mkdir(parents=True, exist_ok=True)
    python, marker = directory / "bin" / "python", directory / "installed"
    with fasteners.InterProcessLock(directory.with_suffix(".lock")):
        if not marker.exists() or marker.read_text() != "\n".join(REQUIREMENTS):
            _install(directory, python)
            marker.write_text("\n".join(REQUIREMENTS))
    return python


def _install(directory: pathlib.Path, python: pathlib.Path) -> None:
    for command in (
        [sys.executable, "-m", "venv", "--clear", str(directory)],
        [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *REQUIREMENTS],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            missing(f"Procrastinate 3.10.0 cannot be installed: {done.stderr.strip()}", "PROCRASTINATE_REQUIRE_3X")


def environment_of(url: str, **more: str) -> dict[str, str]:
    """What a program needs to find its database and its app."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PROCRASTINATE_", "COV_"))}
    return inherited | {"DSN": libpq_url(url), "PYTHONPATH": str(PROGRAMS), "PYTHONWARNINGS": "ignore"} | more


def run_3x(url: str, *arguments: str, **environment: str) -> str:
    """Run a program on 3.10 and return what it prints.

    Parameters
    ----------
    arguments:
        As for ``python``: ``("-m", "procrastinate", ...)``, or ``("-c", "...")``.
    """
    done = subprocess.run(
        [str(python_of_3x()), *arguments],
        env=environment_of(url, **environment),
        cwd=PROGRAMS,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def command_3x(url: str, *arguments: str) -> str:
    """Run the ``procrastinate`` command of 3.10 on the plain app."""
    return run_3x(url, "-m", "procrastinate", "--app=plain_app.app", *arguments)


@contextlib.contextmanager
def running_3x(url: str, *arguments: str, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """Let a program of 3.10 run in the background. It is killed at the end, unless it has ended.

    If the test fails, the end of what the program has written is added to the error. It goes to a file: a program
    whose pipe is full stands still.
    """
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            [str(python_of_3x()), *arguments],
            env=environment_of(url, **environment),
            cwd=PROGRAMS,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            yield process
        except BaseException as error:
            output.seek(0)
            written = output.read().decode(errors="replace")
            error.add_note(f"{' '.join(arguments)} (exit code {process.poll()}) has written: ...{written[-6000:]}")
            raise
        finally:
            process.kill()
            process.wait()
