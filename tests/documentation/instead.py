"""Commands that the tests cannot run unchanged, each with the reason and a check that replaces it."""

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
"""The limit for pip, in seconds."""


@dataclasses.dataclass(frozen=True)
class Instead:
    """The start of a command that is not run, the reason, and the check that replaces it."""

    pattern: str
    reason: str
    check: Callable[[Reader, str], None]

    def is_about(self, command: str) -> bool:
        """Return whether this entry covers the command."""
        return re.match(self.pattern, command) is not None


def instead_of(command: str) -> Instead | None:
    """Return the entry that replaces a command, or ``None`` if the command is run."""
    return next((instead for instead in INSTEAD if instead.is_about(command)), None)


# Packages


def use_environment_of_tests(reader: Reader, command: str) -> None:
    """Link the folder of the environment to that of the tests. In long tests, create the environment."""
    folder = reader.shell.directory / shlex.split(command)[-1]
    reader.has_environment = IS_LONG
    if IS_LONG:
        reader.shell.run(command)
    else:
        folder.symlink_to(sys.prefix)


def check_packages(reader: Reader, command: str) -> None:
    """Check that the packages are installed and that the project's extras exist. In long tests, install them."""
    for requirement in shlex.split(command)[2:]:
        check_requirement(requirement)
    if reader.has_environment:
        installation = command.replace("path/to/checkout", str(ROOT))
        if django.VERSION < (6, 0):  # the page on Django's own tasks says so
            installation += " django-tasks"
        reader.shell.run(f"PYTHONWARNINGS= {installation}", timeout=INSTALLATION)  # pip itself causes these warnings


def check_requirement(requirement: str) -> None:
    """Check that the package is installed, and that its extras exist."""
    found = re.fullmatch(r"(?P<name>[\w./-]+?)(?:\[(?P<extras>[\w,]+)\])?(?:>=.*)?", requirement)
    assert found, f"{requirement} is no requirement"
    name = "procrastinate" if found["name"] == "path/to/checkout" else found["name"]
    offered = importlib.metadata.metadata(name).get_all("Provides-Extra") or []
    missing = [extra for extra in (found["extras"] or "").split(",") if extra and extra not in offered]
    assert not missing, f"{name} has no extras {missing}"


def check_wheel(reader: Reader, command: str) -> None:
    """Check that pip can build the project."""
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]
    assert shlex.split(command)[-1] == "path/to/checkout"


# Commands for a machine, a cluster or a checkout


def check_target(reader: Reader, command: str) -> None:
    """Check that the Makefile has the target."""
    target = shlex.split(command)[1]
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def use_server_of_tests(reader: Reader, command: str) -> None:
    """Set the variables to the address of the tests' server."""
    names = [word.partition("=")[0] for word in shlex.split(command)[1:]]
    values = " ".join(f"{name}={shlex.quote(reader.environment[name])}" for name in names)
    reader.shell.run(f"export {values}")


def check_options(reader: Reader, command: str) -> None:
    """Check the sub-commands and options against the program's help, if it is installed."""
    program, *words = [word for word in shlex.split(command) if word != "sudo"]
    # Docker may be installed without its plugin compose.
    is_there = find_program(program) and (words[0] != "compose" or "compose" in _help("docker"))
    if is_there:
        sub_commands = words[: next((n for n, word in enumerate(words) if word.startswith("-")), len(words))]
        described = "".join(_help(program, *sub_commands[:count]) for count in range(4))
        own = words[: words.index("postgres")] if program == "docker" and "postgres" in words else words
        unknown = [word for word in own if word.startswith("--") and word.partition("=")[0] not in described]
        assert not unknown, f"{program} does not know {unknown}"
        assert words[0].startswith("-") or words[0] in described, f"{program} has no {words[0]}"


def check_container(reader: Reader, command: str) -> None:
    """Check the options of ``docker compose run``, and run here what it runs in the container of a service."""
    words = shlex.split(command)
    service = words.index("web")
    check_options(reader, shlex.join(words[:service]))
    reader.shell.run(shlex.join(words[service + 1 :]))


def check_units(reader: Reader, command: str) -> None:
    """Like :func:`check_options`. Also check that the page contains the named unit."""
    check_options(reader, command)
    units = [path.rpartition("/")[2] for path in reader.files if path.endswith(".service")]
    named = shlex.split(command)[-1]
    assert named == "daemon-reload" or f"{named}.service" in units


def run_as_unit(reader: Reader, command: str) -> None:
    """Check the options of ``systemd-run``, and run here what it runs in the folder of the project."""
    words = shlex.split(command)
    program = next(number for number, word in enumerate(words) if word.startswith("/srv/bookshop/"))
    check_options(reader, shlex.join(words[:program]))
    reader.shell.run(shlex.join(words[program:]).replace("/srv/bookshop", str(reader.shell.directory)))


@functools.cache
def _help(*command: str) -> str:
    done = subprocess.run([*command, "--help"], capture_output=True, text=True, timeout=60, check=False)
    return done.stdout if done.returncode == 0 else ""


def _nothing(*_: Any) -> None:
    """Check nothing."""


INSTEAD = [
    Instead(
        r"python3 -m venv ", "the tests have an environment, and share it; long tests make it", use_environment_of_tests
    ),
    Instead(r"pip install ", "it would take minutes and a network; long tests do it", check_packages),
    Instead(r"pip wheel ", "it would take a network", check_wheel),
    Instead(r"make ", "of a checkout; what it starts has tests of its own, this one among them", check_target),
    Instead(r"export PGHOST=localhost ", "the server of the tests is elsewhere", use_server_of_tests),
    Instead(r"docker compose run ", "the tests have no Docker daemon", check_container),
    Instead(r"docker ", "the tests have no Docker daemon", check_options),
    Instead(r"kubectl ", "it needs a cluster", check_options),
    Instead(r"sudo systemd-run ", "it needs a systemd that runs, and root", run_as_unit),
    Instead(r"sudo systemctl ", "it needs a systemd that runs, and root", check_units),
    Instead(r"sudo apt install ", "it would change the machine", _nothing),
    Instead(r"sudo --user=postgres createuser ", "it needs a server of the machine", _nothing),
]
