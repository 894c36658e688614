"""``python -m tests.bare`` hides optional programs and packages, and runs the tests that use them. None may fail.

The tests are found by their imports, so the list is always complete. At the end, each optional program and package
must have been reported as missing.
"""

from __future__ import annotations

import ast
import os
import pathlib
import re
import subprocess
import sys
import tempfile

from tests.missing import BARE

ROOT = pathlib.Path(__file__).parents[1]
TESTS = ROOT / "tests"
_SWITCH = re.compile(r"^_REQUIRED\w* = \"(\w+)\"", re.MULTILINE)
_LACKING = re.compile(
    r"chrom|curl|wget|docker|faketime|firefox|kubectl|node$|npm|npx|pgbouncer|pg_|psql|postgres|rabbitmq|redis|systemd-analyze"
)
"""Matches programs to hide from the PATH of the run."""


def switches() -> set[str]:
    """Return the environment variables that make optional programs and packages mandatory."""
    return {name for file in TESTS.rglob("*.py") for name in _SWITCH.findall(file.read_text())}


def concerned() -> list[pathlib.Path]:
    """Return the test files that import :mod:`tests.missing`, directly, through another module or through a fixture."""
    modules = {_name(file): file for file in TESTS.rglob("*.py")}
    imports = {name: _imports(file, modules.keys()) for name, file in modules.items()}
    reached = {"tests.missing"}
    while more := {name for name, imported in imports.items() if imported & reached} - reached:
        reached |= more
    return sorted(
        file
        for name, file in modules.items()
        if file.name.startswith("test_") and (name in reached or _has_fixtures(name, reached))
    )


def _name(file: pathlib.Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def _imports(file: pathlib.Path, known: set[str] | object) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


def _has_fixtures(name: str, reached: set[str]) -> bool:
    packages = name.split(".")[:-1]
    return any(".".join([*packages[:count], "conftest"]) in reached for count in range(2, len(packages) + 1))


def _path_without(folder: pathlib.Path) -> str:
    """Fill a folder with links to all programs of this machine except those to hide, and return it as a PATH."""
    for place in os.environ.get("PATH", os.defpath).split(os.pathsep):
        for program in sorted(pathlib.Path(place).glob("*")):
            link = folder / program.name
            if not _LACKING.search(program.name) and not link.is_symlink():
                link.symlink_to(program)
    return str(folder)


def main(arguments: list[str]) -> int:
    """Run the tests, and return the exit status."""
    with tempfile.TemporaryDirectory(prefix="bare-") as name:
        folder = pathlib.Path(name)
        (folder / "bin").mkdir()
        missed = folder / "missed"
        missed.touch()
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PROCRASTINATE_REQUIRE_")}
        lacking = {BARE: str(missed), "PATH": _path_without(folder / "bin"), "PIP_NO_INDEX": "1"}
        files = [str(file.relative_to(ROOT)) for file in concerned()]
        command = [sys.executable, "-m", "tests.flaky", "run", "-q", *arguments, *files]
        status = subprocess.run(command, cwd=ROOT, env={**kept, **lacking}, check=False).returncode
        not_missed = switches() - set(missed.read_text().split())
    if sys.version_info < (3, 12):  # Django 5.2 lacks the task framework, whose source the tests need
        not_missed.discard("PROCRASTINATE_REQUIRE_DJANGO_SOURCE")
    not_missed.discard("PROCRASTINATE_REQUIRE_PATRONI")  # its tests run only in a full round, which this is not
    if status == 0 and not_missed:
        print(f"Nothing has missed what these require: {', '.join(sorted(not_missed))}", file=sys.stderr)
        return 1
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
