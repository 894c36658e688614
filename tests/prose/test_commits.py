"""`.ci/commit-message`, the hook that reads the message of a commit, and the subjects of the commits since then."""

from __future__ import annotations

import pathlib
import subprocess

import pytest

from tests.prose.words import ROOT

HOOK = ".ci/commit-message"
LONGEST = 60
EXCEPTIONS = {
    "5ba3012802fd": "written before the hook was installed, and already merged",
    "91ba58cba434": "written before the hook was installed, and already merged",
}
"""Commits whose subjects are longer, by the first twelve digits, each with the reason."""


def git(*arguments: str) -> str:
    """Return what git prints in this repository."""
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def complaints(message: str, folder: pathlib.Path) -> str | None:
    """Return what the hook says of a message; ``None`` if it accepts it."""
    file = folder / "message"
    file.write_text(message)
    done = subprocess.run(["bash", HOOK, str(file)], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stderr if done.returncode else None


def test_the_subjects_of_commits_since_the_hook_have_sixty_characters_at_most() -> None:
    added = git("log", "--diff-filter=A", "--format=%H", "--", HOOK).splitlines()
    since = git("log", "--no-merges", "--format=%H %s", f"{added[-1]}..HEAD").splitlines() if added else []
    subjects = dict(line.split(" ", 1) for line in since)
    assert [
        subject for commit, subject in subjects.items() if len(subject) > LONGEST and commit[:12] not in EXCEPTIONS
    ] == []


@pytest.mark.parametrize(
    "message",
    [
        "Release prefetched jobs when the loop is blocked\n",
        f"{'A' * LONGEST}\n\nThe body may be as long as it needs to be, and says why the change is made.\n",
        f"Merge branch '{'a' * LONGEST}'\n",
        "Use one timer thread\n\n# A comment of git's\n",
    ],
)
def test_a_message_with_a_short_subject_is_accepted(message: str, tmp_path: pathlib.Path) -> None:
    assert complaints(message, tmp_path) is None


@pytest.mark.parametrize(
    ("message", "complaint"),
    [
        (f"{'A' * (LONGEST + 1)}\n", "61 characters"),
        ("Use one timer thread.\n", "full stop"),
        ("use one timer thread\n", "small letter"),
        ("Use one timer thread\nIt costs less.\n", "second line"),
        ("\n# Only a comment\n", "empty"),
    ],
)
def test_a_message_that_breaks_a_rule_is_refused_by_its_name(
    message: str, complaint: str, tmp_path: pathlib.Path
) -> None:
    assert complaint in (complaints(message, tmp_path) or "")
