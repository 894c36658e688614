"""The release before a revision of the schema, out of the history of this repository."""

from __future__ import annotations

import itertools
import pathlib
import shutil
import subprocess
from collections.abc import Sequence

from alembic.script import Script, ScriptDirectory

from procrastinate.alembic import revisions
from tests.faults.worker_process import ROOT
from tests.missing import is_bare, missing

_REQUIRED = "PROCRASTINATE_REQUIRE_HISTORY"
_PROGRAM = ("tests/__init__.py", "tests/faults/__init__.py", "tests/faults/program.py", "tests/faults/ledger.py")


_FIRST = ("procrastinate_0000", "procrastinate_0001")
"""The first release has them."""


def later_revisions() -> list[Script]:
    """Return all revisions that have a release before them, the newest first."""
    scripts = ScriptDirectory.from_config(revisions.alembic_config())
    return [one for one in scripts.walk_revisions() if one.revision not in _FIRST]


def revision_named(number: str) -> Script:
    """Return a revision by its number: ``"0014"``."""
    [found] = [one for one in later_revisions() if one.revision == f"procrastinate_{number}"]
    return found


def unpack_release_before(
    revision: Script, directory: pathlib.Path, programs: Sequence[str] = _PROGRAM
) -> pathlib.Path:
    """The package as it was before the commit that brought the revision, with programs of today's tests.

    Some commits brought revisions in another order than that of their numbers. So it is the commit that brought this
    revision or the first of those after it.
    """
    require_history()
    directory.mkdir()
    later = itertools.takewhile(lambda one: one.revision != revision.revision, later_revisions())
    paths = [str(pathlib.Path(one.path).relative_to(ROOT)) for one in (*later, revision)]
    brought = _git("log", "--diff-filter=A", "--format=%H", "--", *paths).split()
    before = f"{brought[-1]}^" if brought else "HEAD"  # a revision that is not committed yet
    archive = directory / "package.tar"
    _git("archive", f"--output={archive}", before, "procrastinate")
    shutil.unpack_archive(archive, directory, filter="data")
    for name in programs:
        (directory / name).parent.mkdir(exist_ok=True, parents=True)
        shutil.copy(ROOT / name, directory / name)
    return directory


def require_history(root: pathlib.Path = ROOT) -> None:
    """Skip the test where the history of the repository is not here, or not all of it, unless it must be."""
    if is_bare() and root == ROOT:
        missing("The release before is in the history of the repository, which a bare machine may not have", _REQUIRED)
    if shutil.which("git") is None:
        missing("The release before is in the history of the repository, and git is not installed", _REQUIRED)
    asked = _run_git(root, "rev-parse", "--is-shallow-repository")
    if asked.returncode != 0:
        missing(f"The release before is in the history of the repository, which is not here: {asked.stderr}", _REQUIRED)
    if asked.stdout.strip() == "true":
        missing("The release before is not in a shallow clone (git fetch --unshallow gets it)", _REQUIRED)


def _git(*arguments: str) -> str:
    done = _run_git(ROOT, *arguments)
    assert done.returncode == 0, f"git {' '.join(arguments)} fails:\n{done.stderr}"
    return done.stdout


def _run_git(root: pathlib.Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["git", "-c", f"safe.directory={root}", "-C", str(root), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)
