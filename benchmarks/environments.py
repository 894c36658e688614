"""Virtual environments, one for each system, which are reused."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import shutil
import subprocess
import sys
import sysconfig

ROOT = pathlib.Path(__file__).resolve().parent.parent
WORKPLACE = ROOT / ".bench"
"""Directory of environments and servers. Git ignores it."""


class CannotInstall(Exception):
    """A system cannot be installed on this machine. It is reported and left out."""


@dataclasses.dataclass(frozen=True)
class Environment:
    """The requirements of a system.

    Parameters
    ----------
    requirements:
        Requirements for pip. Without any, the environment is the one that runs the suite.
    python:
        The oldest usable version of Python.
    """

    name: str
    requirements: tuple[str, ...] = ()
    python: tuple[int, int] = (3, 11)

    def make(self) -> pathlib.Path:
        """Make the environment if it does not exist, and return its interpreter.

        Raises
        ------
        CannotInstall
            The installation failed. The message gives the reason.
        """
        if not self.requirements:
            return pathlib.Path(sys.executable)
        directory = WORKPLACE / "environments" / self.name
        python = directory / "bin" / "python"
        marker = directory / "installed"
        wanted = "\n".join((str(ROOT), *self.requirements))
        if not marker.exists() or marker.read_text() != wanted:
            shutil.rmtree(directory, ignore_errors=True)
            _run([str(find_python(self.python)), "-m", "venv", str(directory)])
            pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            _run([*pip, *self.requirements])
            _add_suite(python)
            marker.write_text(wanted)
        return python


def find_python(at_least: tuple[int, int]) -> pathlib.Path:
    """Return an interpreter with at least this version: the current one, or else the first one found.

    Raises
    ------
    CannotInstall
        No such interpreter exists.
    """
    if sys.version_info[:2] >= at_least:
        return pathlib.Path(sys.executable)
    for minor in range(at_least[1], at_least[1] + 4):
        name = f"python{at_least[0]}.{minor}"
        found = shutil.which(name)
        if found is not None and _works(found):
            return pathlib.Path(found)
        for pyenv in sorted(_pyenv_versions().glob(f"{at_least[0]}.{minor}.*/bin/python")):
            return pyenv
    raise CannotInstall(f"it needs Python {at_least[0]}.{at_least[1]}, and none was found")


def _pyenv_versions() -> pathlib.Path:
    root = os.environ.get("PYENV_ROOT")
    return (pathlib.Path(root) if root else pathlib.Path.home() / ".pyenv") / "versions"


def _works(python: str) -> bool:
    """Return true if the command runs. pyenv puts inactive commands on the path, which only print an error."""
    return subprocess.run([python, "--version"], capture_output=True).returncode == 0


def _add_suite(python: pathlib.Path) -> None:
    """Append this suite to the import path of the environment, after its own procrastinate."""
    script = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = subprocess.run([str(python), "-c", script], check=True, capture_output=True, text=True).stdout.strip()
    assert pathlib.Path(packages) != pathlib.Path(sysconfig.get_path("purelib"))
    pathlib.Path(packages, "benchmarks.pth").write_text(f"{ROOT}\n")


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise CannotInstall(lines[-1] if lines else f"{command[0]} failed")
