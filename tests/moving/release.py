"""Procrastinate 3.10.0 as it is on PyPI, in a virtual environment of its own that all runs on a machine share.

The environment is kept in the user's cache (``XDG_CACHE_HOME``), also for other versions of Python. Its name tells its
requirements, so that two checkouts with different ones do not replace each other's. Programs of 3.10 run in processes
of their own.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator

import fasteners

from tests.database import libpq_url
from tests.missing import is_bare, missing

REQUIREMENTS = (
    "procrastinate[aiopg,django,sqlalchemy]==3.10.0",
    "psycopg[binary]",
    "psycopg2-binary",
    "django~=5.2.0",
)
PROGRAMS = pathlib.Path(__file__).parent / "programs"


_REQUIRED = "PROCRASTINATE_REQUIRE_3X"


def python_of_3x() -> pathlib.Path:
    """The interpreter of the environment, which is made unless it is there."""
    found = _find_or_install()
    if isinstance(found, str):
        missing(found, _REQUIRED)
    return found


@functools.cache
def _find_or_install() -> pathlib.Path | str:
    """The interpreter, or why there is none."""
    if is_bare():
        return "Procrastinate 3.10.0 comes from an index of packages"
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
    requirements = hashlib.sha256("\n".join(REQUIREMENTS).encode()).hexdigest()[:8]
    directory = cache / "procrastinate-tests" / f"procrastinate-3.10.0-{requirements}"
    directory.parent.mkdir(parents=True, exist_ok=True)
    python, marker = directory / "bin" / "python", directory / "installed"
    with fasteners.InterProcessLock(f"{directory}.lock"):
        if not marker.exists() or not _starts(python):
            if error := _install(directory, python):
                return f"Procrastinate 3.10.0 cannot be installed: {error}"
            marker.touch()
    return python


def _starts(python: pathlib.Path) -> bool:
    """Whether the interpreter works. The one that it was made from may be gone."""
    try:
        return subprocess.run([python, "-c", ""], check=False).returncode == 0
    except OSError:
        return False


def _install(directory: pathlib.Path, python: pathlib.Path) -> str | None:
    """Make the environment, and return what went wrong."""
    for command in (
        [sys.executable, "-m", "venv", "--clear", str(directory)],
        [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *REQUIREMENTS],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            return done.stderr.strip()
    return None


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
