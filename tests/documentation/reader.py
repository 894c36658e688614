"""Follows a page from its first block to its last, in its own folder and on its own databases."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import sys

import django
import sqlalchemy as sa

from tests.database import Databases, url_text
from tests.documentation.blocks import ROOT, Block, Command, blocks_of, commands_of
from tests.documentation.elsewhere import is_proved_elsewhere
from tests.documentation.instead import instead_of
from tests.documentation.manifests import check_manifests, try_commands, try_excerpt
from tests.documentation.shell import Shell, free_port, is_open, shows
from tests.missing import find_program, missing

PORTS = ("8000", "5000")
"""The ports of the servers on the pages."""
_NO_CODE = re.compile(r"text|mermaid|\{(toctree|eval-rst)\}|\{(image|include)\} .*|\{literalinclude\} \.\./examples/.*")
"""Blocks without code, and included example files, which have their own tests."""
_SERVER = re.compile(r"\b(runserver|uvicorn|flask .*\brun|procrastinate .*\b(dashboard|metrics))\b")
_METRICS = re.compile(r"\bprocrastinate .*\bmetrics\b")
_WORKER = re.compile(r"\bprocrastinate\b.*\b(?:worker|dev)\b(?!.*--one-shot)")
_CURL = re.compile(r"^\$ curl\b", re.MULTILINE)
_REQUIRED = "PROCRASTINATE_REQUIRE_CURL"
_CREATED = re.compile(r"^createdb (?P<name>\w+)$")
_URL = re.compile(r"(?P<driver>postgresql(?:\+\w+)?)://[\w@:]+/(?P<name>\w+)\b")


def is_for_a_reader(block: Block) -> bool:
    """Return whether the reader must write, run or check the block: it is code, and no other test covers it."""
    is_code = block.path is not None or _NO_CODE.fullmatch(block.language) is None
    return is_code and not is_proved_elsewhere(block)


@dataclasses.dataclass
class Reader:
    """A reader who follows the pages.

    Parameters
    ----------
    directory:
        The folder, empty at first.
    databases:
        Where databases come from. Those that a page makes have other names than in the page.
    url:
        A database for what a page does with one that it has not made.
    context:
        The folder of :file:`contexts` with what a page takes for granted: files, and in ``context.py`` the names that
        its Python blocks use.
    """

    directory: pathlib.Path
    databases: Databases
    url: str
    context: str | None = None

    def __post_init__(self) -> None:
        self.directory.mkdir()
        server = self.databases.server
        self.environment = {
            "PGHOST": str(server.query.get("host", server.host)),
            "PGUSER": str(server.username),
            "DATABASE_URL": self.url,
        }
        if server.port:
            self.environment["PGPORT"] = str(server.port)
        self.shell = Shell(self.directory, self.environment)
        self.ports = {number: free_port() for number in PORTS}
        self.created: dict[str, str] = {}
        self.files: dict[str, pathlib.Path] = {}
        self.commands: list[str] = []
        self.printed: list[str] = []
        self.has_environment = False
        self._made: list[str] = []
        self.checked: set[pathlib.Path] = set()
        self._python: list[Block] = []
        if self.context:
            self._bring(CONTEXTS / self.context)

    # A page

    def follow(self, page: str) -> None:
        """Read every block of a page, then run the steps that belong at its end."""
        self.read_all(page)
        self.finish()

    def read_all(self, page: str) -> None:
        """Read every block of a page. Its servers still run then."""
        if _CURL.search((ROOT / page).read_text()) and find_program("curl") is None:
            missing("curl is not installed (Debian: apt install curl)", _REQUIRED)
        for block in blocks_of(page):
            self.read(block)

    def finish(self) -> None:
        """Run the Python blocks that are no files, stop the servers, and check what only other machines can use.

        Every file must have been imported, run or checked.
        """
        self.shell.stop_servers()
        if self._python:
            self._run_python()
        check_manifests(self)
        unused = [path for path, place in self.files.items() if not self._is_used(path, place)]
        assert not unused, f"No block has imported, run or checked {unused}"

    def close(self) -> None:
        """Stop everything and drop the databases, even after an error."""
        self.shell.kill_servers()
        for running in self.directory.rglob("postmaster.pid"):
            os.kill(int(running.read_text().split()[0]), signal.SIGINT)
        for name in self._made:
            self.databases.drop_if_exists(name)

    def read(self, block: Block) -> None:
        """Follow a block, according to its language."""
        if not is_for_a_reader(block):
            return
        if block.path:
            self._write(block)
        elif block.language == "console":
            for command in commands_of(block):
                self._do(command)
        elif block.language == "python":
            self._python.append(block)
        elif block.language in ("ini", "dockerfile"):
            try_excerpt(self, block)
        elif block.language == "yaml":
            try_commands(self, block)
        elif block.language == "sql":
            self._execute(block)
        else:
            raise AssertionError(f"{block} is not run, and not listed as proved elsewhere")

    # Blocks

    def _write(self, block: Block) -> None:
        assert block.path
        place = self.shell.directory / block.path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        with place.open("a" if block.at_the_end else "w") as file:
            file.write(self.substituted(block.text))
        self.files[block.path] = place

    def _do(self, command: Command) -> None:
        if (instead := instead_of(command.text)) is not None:
            instead.check(self, command.text)
            return
        text = self._with_own_database(self.substituted(command.text))
        self.commands.append(text)
        expected = tuple(self.substituted(line) for line in command.output)
        try:
            if _SERVER.search(text) or _WORKER.search(text):
                self._serve(text, expected)
            else:
                printed = self.shell.run(text)
                self.printed.append(printed)
                assert shows(printed, expected), f"It prints something else:\n{printed}"
        except AssertionError as error:
            error.add_note(str(command))
            raise

    def _serve(self, command: str, expected: tuple[str, ...]) -> None:
        ports = [port for port in self.ports.values() if _SERVER.search(command) and str(port) in command]
        if any(is_open(port) for port in ports):  # Ctrl-C for a server that the page has started
            self.shell.stop_servers()
        server = self.shell.start(command)
        for port in ports:
            server.wait_for_port(port)
        server.wait_for_output(expected)
        server.wait_for_output(_ready_line(command))

    def _execute(self, block: Block) -> None:
        engine = sa.create_engine(self.url, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.exec_driver_sql(block.text)

    def _run_python(self) -> None:
        blocks = [
            {"place": block.page, "line": block.line, "text": self.substituted(block.text)} for block in self._python
        ]
        listed = self.directory / "blocks.json"
        listed.write_text(json.dumps(blocks))
        program = f"{sys.executable} -m tests.documentation.run_blocks {shlex.quote(str(listed))}"
        self.shell.run(f"PYTHONPATH={ROOT}:{self.directory} {program}")

    # Differences from the page

    def substituted(self, text: str) -> str:
        """Return the text with the ports and databases of this reader."""
        for number, port in self.ports.items():
            text = re.sub(rf"\b{number}\b", str(port), text)
        for name, own in self.created.items():
            text = re.sub(rf'(createdb |"NAME": "|dbname=|psql |postgresql[^\s"]*/){name}\b', rf"\g<1>{own}", text)
        if django.VERSION < (6, 0):  # the pages say so
            text = text.replace("from django.tasks import", "from django_tasks import")
        return _URL.sub(self._own_url, text)

    def _own_url(self, match: re.Match[str]) -> str:
        return url_text(sa.make_url(self.url).set(drivername=match["driver"]))

    def _with_own_database(self, command: str) -> str:
        if created := _CREATED.match(command):
            own = self.created[created["name"]] = self.databases.new_name()
            self._made.append(own)
            return f"createdb {own}"
        if "runserver" in command:
            return command.replace("runserver", f"runserver --noreload {self.ports['8000']}")
        if command.startswith("uvicorn"):
            return f"{command} --port {self.ports['8000']}"
        if command.startswith("flask") and command.endswith("run"):
            return f"{command} --port {self.ports['5000']}"
        return f"{command} --port 0" if _METRICS.search(command) else command

    # State of the reader

    def _bring(self, context: pathlib.Path) -> None:
        shutil.copytree(context, self.directory, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))

    def _is_used(self, path: str, place: pathlib.Path) -> bool:
        """Return whether Python has imported the file, pytest has read it, a command names it, or a check covered
        it.
        """
        compiled = place.parent / "__pycache__"
        return (
            place in self.checked
            or any(f"configfile: {path}\n" in printed for printed in self.printed)
            or any(compiled.glob(f"{place.stem}.*.pyc"))
            or any(re.search(rf"(^|[ /=]){re.escape(path)}\b", command) for command in self.commands)
        )


def _ready_line(command: str) -> tuple[str, ...]:
    """Return what a server prints when it has started. A worker that is stopped before that line exits with 130."""
    if _WORKER.search(command):
        return ("... Starting worker ...",)
    return ("Metrics: ...",) if _METRICS.search(command) else ()


CONTEXTS = pathlib.Path(__file__).parent / "contexts"
