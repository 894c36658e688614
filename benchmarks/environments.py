"""A virtual environment for each system, made once."""

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
"""Where environments and servers are; git ignores it."""


class CannotInstall(Exception):
    """A system cannot be installed here. It is reported, and left out."""


@dataclasses.dataclass(frozen=True)
class Environment:
    """What a system needs to be installed.

    Parameters
    ----------
    requirements:
        As pip takes them. None: this project, as it runs the suite.
    python:
        The oldest version of Python that will do.
    """

    name: str
    requirements: tuple[str, ...] = ()
    python: tuple[int, int] = (3, 11)

    def make(self) -> pathlib.Path:
        """The interpreter of the environment, which is made unless it is there.

        Raises
        ------
        CannotInstall
            With the reason.
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
    """An interpreter of this version or a newer one: this one, or the first that is found.

    Raises
    ------
    CannotInstall
        There is none.
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
    """pyenv puts commands on the path that only say that they are not active."""
    return subprocess.run([python, "--version"], capture_output=True).returncode == 0


def _add_suite(python: pathlib.Path) -> None:
    """Let the environment import this suite, after all that is installed in it: its own procrastinate comes first."""
    script = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = subprocess.run([str(python), "-c", script], check=True, capture_output=True, text=True).stdout.strip()
    assert pathlib.Path(packages) != pathlib.Path(sysconfig.get_path("purelib"))
    pathlib.Path(packages, "benchmarks.pth").write_text(f"{ROOT}\n")


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise CannotInstall(lines[-1] if lines else f"{command[0]} failed")
