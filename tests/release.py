"""``python -m tests.release``: build the wheel and the sdist, and use each as a user does, from a fresh environment.

Each is installed into an environment of its own, away from the repository. There the command says its version, the
schema is applied, a job is deferred and run, and Django finds the migrations and the templates of the admin. The
PostgreSQL is the embedded one of the tests.

``python -m tests.release --final`` also checks what a release needs: a dated section of CHANGELOG.md for the version of
``pyproject.toml``, a working tree without changes, and the tag ``vVERSION`` on this commit if that tag exists.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib

from tests import database

ROOT = pathlib.Path(__file__).parents[1]
DIST = ROOT / "dist"
PROGRAM = pathlib.Path(__file__).with_name("release_program.py")
_NEWEST_SECTION = re.compile(r"^## (?P<version>\S+) \((?P<date>[^)]+)\)$", re.MULTILINE)
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


class NotReady(Exception):
    """Something that a release needs is missing; the text says what."""


@dataclasses.dataclass(frozen=True)
class Repository:
    """What a release is made of, as far as it is checked."""

    version: str
    changelog: str
    changes: str
    """What `git status --porcelain` prints."""
    tagged: str
    """The commit of the tag of the version; empty without such a tag."""
    head: str

    @classmethod
    def read(cls) -> Repository:
        """Return the state of this repository."""
        version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
        return cls(
            version=version,
            changelog=(ROOT / "CHANGELOG.md").read_text(),
            changes=_git("status", "--porcelain"),
            tagged=_git(
                "for-each-ref",
                "--format=%(if)%(*objectname)%(then)%(*objectname)%(else)%(objectname)%(end)",
                f"refs/tags/v{version}",
            ),
            head=_git("rev-parse", "HEAD"),
        )


def what_is_missing(repository: Repository) -> list[str]:
    """Return what a release of this state still needs."""
    missing = []
    section = _NEWEST_SECTION.search(repository.changelog)
    if section is None or section["version"] != repository.version:
        missing.append(f"The first section of CHANGELOG.md is not that of {repository.version}, as in pyproject.toml")
    elif not _DATE.fullmatch(section["date"]):
        missing.append(f"The section of {repository.version} in CHANGELOG.md has no date: ({section['date']})")
    if repository.changes:
        missing.append(f"There are changes that are not committed:\n{repository.changes}")
    if repository.tagged not in ("", repository.head):
        missing.append(f"The tag v{repository.version} is on another commit: {repository.tagged}")
    return missing


def build() -> tuple[pathlib.Path, pathlib.Path]:
    """Build into an empty `dist`; return the wheel and the sdist."""
    shutil.rmtree(DIST, ignore_errors=True)
    _run(sys.executable, "-m", "build", "--outdir", DIST, ROOT)
    _run(sys.executable, "-m", "twine", "check", "--strict", *DIST.iterdir())
    (wheel,) = DIST.glob("*.whl")
    (sdist,) = DIST.glob("*.tar.gz")
    return wheel, sdist


def use(artifact: pathlib.Path, version: str, url: str) -> None:
    """Install an artifact into a fresh environment, and use it there on an empty database."""
    with tempfile.TemporaryDirectory(prefix="release-") as name:
        folder = pathlib.Path(name)
        _run(sys.executable, "-m", "venv", folder / "venv")
        programs = folder / "venv" / "bin"
        _run(programs / "python", "-m", "pip", "install", "--quiet", f"{artifact}[binary,django]")
        shutil.copy(PROGRAM, folder / "program.py")
        printed = _run(programs / "procrastinate", "--version", cwd=folder)
        if printed.split()[-1] != version:
            raise NotReady(f"{artifact.name} says {printed.strip()!r}, and not {version}")
        environment = {"DATABASE_URL": url, "PYTHONPATH": str(folder)}
        _run(programs / "procrastinate", "--app=program.app", "schema", "--apply", cwd=folder, **environment)
        _run(programs / "python", "-I", "program.py", cwd=folder, **environment)


def _git(*arguments: str) -> str:
    return _run("git", *arguments, cwd=ROOT).strip()


def _run(*command: str | pathlib.Path, cwd: pathlib.Path | None = None, **variables: str) -> str:
    """Run a program, and return what it prints."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise NotReady(f"{' '.join(map(str, command))} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def check(*, is_final: bool) -> None:
    """Build and use what a release consists of; raise :exc:`NotReady` for the first thing that fails."""
    repository = Repository.read()
    if is_final and (missing := what_is_missing(repository)):
        raise NotReady("\n".join(missing))
    artifacts = build()
    database.create_root()
    try:
        databases = database.Databases(database.start_server(), "release")
        for artifact in artifacts:
            print(f"Using {artifact.relative_to(ROOT)} ...", flush=True)
            use(artifact, repository.version, database.libpq_url(databases.create_empty()))
        databases.close()
    finally:
        database.remove_root()


def main(arguments: list[str]) -> int:
    """Check, and return the exit status."""
    try:
        check(is_final="--final" in arguments)
    except NotReady as error:
        print(error, file=sys.stderr)
        return 1
    print("Both are fine.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
