"""Commands that cannot be run as they stand, each with the reason and with what is done instead."""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import django

from tests.documentation.blocks import ROOT
from tests.missing import find_program

if TYPE_CHECKING:
    from tests.documentation.reader import Reader


IS_LONG = os.environ.get("PROCRASTINATE_TESTS_LONG") == "1"
INSTALLATION = 600.0
"""Seconds that pip may take."""


@dataclasses.dataclass(frozen=True)
class Instead:
    """Commands that begin so, why they are not run, and the check in their place."""

    pattern: str
    reason: str
    check: Callable[[Reader, str], None]

    def is_about(self, command: str) -> bool:
        """Whether that is such a command."""
        return re.match(self.pattern, command) is not None


def instead_of(command: str) -> Instead | None:
    """What is done instead of a command, unless it is run."""
    return next((instead for instead in INSTEAD if instead.is_about(command)), None)


# Packages


def use_environment_of_tests(reader: Reader, command: str) -> None:
    """The folder that would have been made leads to the environment of the tests. In long tests, it is made."""
    folder = reader.shell.directory / shlex.split(command)[-1]
    reader.has_environment = IS_LONG
    if IS_LONG:
        reader.shell.run(command)
    else:
        folder.symlink_to(sys.prefix)


def check_packages(reader: Reader, command: str) -> None:
    """What would be installed is there, and the extras of this project exist. In long tests, it is installed."""
    for requirement in shlex.split(command)[2:]:
        check_requirement(requirement)
    if reader.has_environment:
        installation = command.replace("path/to/checkout", str(ROOT))
        if django.VERSION < (6, 0):  # as the page on Django's own tasks says
            installation += " django-tasks"
        reader.shell.run(f"PYTHONWARNINGS= {installation}", timeout=INSTALLATION)  # they are pip's own


def check_requirement(requirement: str) -> None:
    """It is installed here; its extras exist."""
    found = re.fullmatch(r"(?P<name>[\w./-]+?)(?:\[(?P<extras>[\w,]+)\])?(?:>=.*)?", requirement)
    assert found, f"{requirement} is no requirement"
    name = "procrastinate" if found["name"] == "path/to/checkout" else found["name"]
    offered = importlib.metadata.metadata(name).get_all("Provides-Extra") or []
    missing = [extra for extra in (found["extras"] or "").split(",") if extra and extra not in offered]
    assert not missing, f"{name} has no extras {missing}"


def check_wheel(reader: Reader, command: str) -> None:
    """The project is one that pip can build."""
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]
    assert shlex.split(command)[-1] == "path/to/checkout"


# What belongs to a machine, a cluster, or a checkout


def check_target(reader: Reader, command: str) -> None:
    """The Makefile has such a target."""
    target = shlex.split(command)[1]
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def use_server_of_tests(reader: Reader, command: str) -> None:
    """The variables are set to where the server of the tests is."""
    names = [word.partition("=")[0] for word in shlex.split(command)[1:]]
    values = " ".join(f"{name}={shlex.quote(reader.environment[name])}" for name in names)
    reader.shell.run(f"export {values}")


def check_options(reader: Reader, command: str) -> None:
    """The program, where it is installed, knows the sub-commands and the options."""
    program, *words = [word for word in shlex.split(command) if word != "sudo"]
    is_there = find_program(program) and (words[0] != "compose" or "compose" in _help("docker"))  # it is a plugin
    if is_there:
        sub_commands = words[: next((n for n, word in enumerate(words) if word.startswith("-")), len(words))]
        described = "".join(_help(program, *sub_commands[:count]) for count in range(4))
        own = words[: words.index("postgres")] if program == "docker" and "postgres" in words else words
        unknown = [word for word in own if word.startswith("--") and word.partition("=")[0] not in described]
        assert not unknown, f"{program} does not know {unknown}"
        assert words[0].startswith("-") or words[0] in described, f"{program} has no {words[0]}"


def check_units(reader: Reader, command: str) -> None:
    """As :func:`check_options`, and the unit that is named is one of the page."""
    check_options(reader, command)
    units = [path.rpartition("/")[2] for path in reader.files if path.endswith(".service")]
    named = shlex.split(command)[-1]
    assert named == "daemon-reload" or f"{named}.service" in units


@functools.cache
def _help(*command: str) -> str:
    done = subprocess.run([*command, "--help"], capture_output=True, text=True, timeout=60, check=False)
    return done.stdout if done.returncode == 0 else ""


def _nothing(*_: Any) -> None:
    """There is nothing to check."""


INSTEAD = [
    Instead(
        r"python3 -m venv ", "the tests have an environment, and share it; long tests make it", use_environment_of_tests
    ),
    Instead(r"pip install ", "it would take minutes and a network; long tests do it", check_packages),
    Instead(r"pip wheel ", "it would take a network", check_wheel),
    Instead(r"make ", "of a checkout; what it starts has tests of its own, this one among them", check_target),
    Instead(r"export PGHOST=localhost ", "the server of the tests is elsewhere", use_server_of_tests),
    Instead(r"docker ", "the tests have no Docker daemon", check_options),
    Instead(r"kubectl ", "it needs a cluster", check_options),
    Instead(r"sudo systemctl ", "it needs a systemd that runs, and root", check_units),
    Instead(r"sudo apt install ", "it would change the machine", _nothing),
    Instead(r"sudo --user=postgres createuser ", "it needs a server of the machine", _nothing),
]
