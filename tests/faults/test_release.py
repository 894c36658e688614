"""If the previous release is unavailable, the tests that need it are skipped, or fail if it is required."""

from __future__ import annotations

import pathlib
import subprocess

import pytest

from tests.faults.release import require_history

REQUIRED = "PROCRASTINATE_REQUIRE_HISTORY"


def git(directory: pathlib.Path, *arguments: str) -> None:
    """Run git with the name and address of an author."""
    who = ("-c", "user.name=Ann", "-c", "user.email=ann@example.com")
    subprocess.run(["git", "-C", str(directory), *who, *arguments], check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path: pathlib.Path) -> pathlib.Path:
    """Return a repository with two commits."""
    directory = tmp_path / "repository"
    directory.mkdir()
    git(directory, "init")
    for message in ("first", "second"):
        git(directory, "commit", "--allow-empty", "--message", message)
    return directory


@pytest.fixture
def shallow_clone(repository: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    """Return a shallow clone with the last commit."""
    git(tmp_path, "clone", "--depth=1", f"file://{repository}", "clone")
    return tmp_path / "clone"


def test_all_of_the_history_is_enough(repository: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(REQUIRED, "1")
    require_history(repository)


def test_a_shallow_clone_is_told_from_it(shallow_clone: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(REQUIRED, raising=False)
    with pytest.raises(pytest.skip.Exception, match="not in a shallow clone"):
        require_history(shallow_clone)


def test_a_shallow_clone_is_a_failure_where_history_is_required(
    shallow_clone: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(REQUIRED, "1")
    with pytest.raises(pytest.fail.Exception, match="git fetch --unshallow"):
        require_history(shallow_clone)


def test_so_is_a_folder_that_is_no_repository(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(REQUIRED, "1")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(pytest.fail.Exception, match="which is not here"):
        require_history(tmp_path)
