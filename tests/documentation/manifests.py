"""Files for machines that the tests do not have: what they start is started here, and what they name is there."""

from __future__ import annotations

import configparser
import dataclasses
import json
import pathlib
import re
import shlex
import signal
import subprocess
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import yaml

from procrastinate import __version__
from tests.documentation.blocks import Block
from tests.documentation.instead import check_requirement
from tests.documentation.shell import free_port
from tests.missing import find_program

if TYPE_CHECKING:
    from tests.documentation.reader import Reader


def check_manifests(reader: Reader) -> None:
    """Check every such file of the reader's."""
    checks = Checks(reader)
    for path, place in reader.files.items():
        for ending, check in CHECKS.items():
            if path.endswith(ending):
                check(checks, place)
                reader.checked.add(place)


def try_excerpt(reader: Reader, block: Block) -> None:
    """The worker of a part of such a file knows its options: it runs what is due, and ends well."""
    if found := re.search(r"^CMD (?P<command>\[.*\])$", block.text, re.MULTILINE):
        words = json.loads(found["command"])
    else:
        (line,) = re.findall(r"^ExecStart=(.*)$", block.text, re.MULTILINE)
        words = shlex.split(line)
    options = words[words.index("worker") + 1 :]
    fewer = ["--processes=2" if option.startswith("--processes=") else option for option in options]
    reader.shell.run(shlex.join(["procrastinate", "--app=myapp.app", "worker", *fewer, "--one-shot"]))


def try_commands(reader: Reader, block: Block) -> None:
    """Run each command of a part of a file for containers."""
    commands = list(_commands_in(yaml.safe_load(block.text)))
    assert commands, f"{block} starts nothing"
    for command in commands:
        reader.shell.run(shlex.join(command))


def _commands_in(part: Any) -> Iterator[list[str]]:
    if isinstance(part, dict):
        if "command" in part:
            yield part["command"]
        part = list(part.values())
    if isinstance(part, list):
        for inner in part:
            yield from _commands_in(inner)


@dataclasses.dataclass
class Checks:
    """The checks of one folder. What several files start is tried once."""

    reader: Reader
    tried: set[tuple[str, ...]] = dataclasses.field(default_factory=set)

    # systemd

    def unit(self, place: pathlib.Path) -> None:
        """systemd reads it without a complaint; the check before it passes, and it ends well when it is stopped."""
        text = place.read_text().replace("/srv/bookshop", str(self.reader.shell.directory))
        text = text.replace("EnvironmentFile=/etc/", f"EnvironmentFile={place.parents[2]}/")
        place.write_text(text)
        unit = configparser.ConfigParser(interpolation=None)
        unit.optionxform = str  # type: ignore[assignment,method-assign]
        unit.read(place)
        service = unit["Service"]
        if find_program("systemd-analyze"):
            done = subprocess.run(
                ["systemd-analyze", "verify", str(place)], capture_output=True, text=True, timeout=60, check=False
            )
            complaints = [line for line in done.stderr.splitlines() if place.name in line]
            assert done.returncode == 0, done.stderr
            assert complaints == []
        assert pathlib.Path(service["EnvironmentFile"]) in self.reader.files.values()
        command = shlex.split(service["ExecStart"])
        if service.get("Type") == "oneshot":
            self.reader.shell.run(service["ExecStart"])
        elif "worker" in command:
            self.reader.shell.run(service["ExecStartPre"])
            self._try_worker(command, int(service["TimeoutStopSec"]))
        else:
            self._try_server(command)

    def environment(self, place: pathlib.Path) -> None:
        """Every line is a variable, and those that are not PostgreSQL's are read by a file of the project."""
        names = [line.partition("=")[0] for line in place.read_text().splitlines()[1:]]
        settings = "".join(path.read_text() for name, path in self.reader.files.items() if name.endswith(".py"))
        for name in names:
            assert name in ("PGHOST", "PGUSER", "PGPASSWORD") or f'"{name}"' in settings

    # Docker

    def dockerfile(self, place: pathlib.Path) -> None:
        """What it copies is there, and its command ends well when it is stopped."""
        lines = place.read_text().replace("\\\n", "").splitlines()
        for source in [line.split()[1] for line in lines if line.startswith("COPY ")]:
            assert (place.parent / source).exists() or source == "wheels", f"There is no {source} to copy"
        (command,) = [line.removeprefix("CMD ") for line in lines if line.startswith("CMD ")]
        assert "RUN pip install --no-cache-dir --find-links=wheels -r requirements.txt" in lines
        self._try_worker(json.loads(command), None)

    def requirements(self, place: pathlib.Path) -> None:
        """They are installed here; that of this project is not satisfied by a release of 3.x."""
        names = place.read_text().splitlines()[1:]
        for requirement in names:
            check_requirement(requirement)
        assert any(re.fullmatch(rf"procrastinate\[\w+,binary\]>={re.escape(__version__)}", name) for name in names)

    def compose(self, place: pathlib.Path) -> None:
        """Services wait for services that are there, and what they start works."""
        services = yaml.safe_load(place.read_text())["services"]
        for service in services.values():
            for other, condition in service.get("depends_on", {}).items():
                assert other in services
                assert condition["condition"] in ("service_healthy", "service_completed_successfully")
        assert {name for name, service in services.items() if service.get("restart") != "always"} == {"migrate"}
        self.reader.shell.run(shlex.join(services["migrate"]["command"]))
        self._try_server(services["web"]["command"])
        token = services["metrics"]["environment"]["PROCRASTINATE_METRICS_TOKEN"]
        self._try_server(["env", f"PROCRASTINATE_METRICS_TOKEN={token}", *services["metrics"]["command"]])
        assert services["worker"]["stop_grace_period"] == "90s"
        assert "command" not in services["worker"]  # it is the Dockerfile's
        assert services["worker"]["healthcheck"]["test"][-2:] == ["healthchecks", "--worker"]

    # Kubernetes

    def job(self, place: pathlib.Path) -> None:
        """It is a Job that runs once, and its commands apply the migrations."""
        described = yaml.safe_load(place.read_text())
        assert (described["apiVersion"], described["kind"]) == ("batch/v1", "Job")
        spec = described["spec"]["template"]["spec"]
        assert spec["restartPolicy"] == "Never"
        (container,) = spec["containers"]
        for one in [*spec.get("initContainers", []), container]:
            self.reader.shell.run(shlex.join(one["command"]))

    def deployment(self, place: pathlib.Path) -> None:
        """kubectl takes it for a Deployment; its probes pass, and its command ends well when it is stopped."""
        described: dict[str, Any] = yaml.safe_load(place.read_text())
        if find_program("kubectl"):
            command = [
                "kubectl",
                "set",
                "image",
                "--local",
                "--filename",
                str(place),
                "worker=checked",
                "--output=json",
            ]
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
            assert done.returncode == 0, done.stderr
            described = json.loads(done.stdout)
        spec = described["spec"]["template"]["spec"]
        assert described["spec"]["selector"]["matchLabels"] == described["spec"]["template"]["metadata"]["labels"]
        (container,) = spec["containers"]
        starts, is_ready = (container[f"{probe}Probe"]["exec"]["command"] for probe in ("startup", "readiness"))
        assert is_ready == [*starts, "--worker"]
        assert container["readinessProbe"]["periodSeconds"] == 60
        self.reader.shell.run(shlex.join(starts))
        self._try_worker(container["command"], spec["terminationGracePeriodSeconds"])

    # What they start

    def _try_worker(self, command: list[str], killed_after: int | None) -> None:
        """It starts, and ends well at SIGTERM; it is not killed before it gives up its jobs by itself."""
        arguments = tuple(command[1:])
        (graceful,) = [
            int(found[1]) for word in command if (found := re.match(r"--shutdown-graceful-timeout=(\d+)", word))
        ]
        assert killed_after is None or killed_after > graceful
        if arguments in self.tried:
            return
        self.tried.add(arguments)
        server = self.reader.shell.start(shlex.join(command))
        server.wait_for_output(("... Starting worker ...",))
        assert server.stop(signal.SIGTERM) == 0
        self.reader.shell.stop_servers()

    def _try_server(self, command: list[str]) -> None:
        """It answers on its port: that of the page, or one that is free for the metrics."""
        port = self.reader.ports["8000"]
        if "metrics" in command:
            port = free_port()
            command = [*command, f"--port={port}"]
        self.reader.shell.start(shlex.join(command)).wait_for_port(port)
        self.reader.shell.stop_servers()


CHECKS = {
    ".service": Checks.unit,
    ".env": Checks.environment,
    "Dockerfile": Checks.dockerfile,
    "requirements.txt": Checks.requirements,
    "compose.yaml": Checks.compose,
    "worker.yaml": Checks.deployment,
    "migrate.yaml": Checks.job,
}
"""By how the names of the files end."""
