"""What the Makefile has: the targets that the pages name, and a clean-up of all that is made."""

from __future__ import annotations

import pathlib
import re
import subprocess

ROOT = pathlib.Path(__file__).parents[2]


def test_every_target_that_is_named_is_there() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in ("README.md", "CONTRIBUTING.md", "ARCHITECTURE.md", "CHANGELOG.md"):
        named = set(re.findall(r"(?:^\$ |`)make ([a-z-]+)", (ROOT / page).read_text(), re.MULTILINE))
        assert named <= targets, page


def test_all_that_git_ignores_is_removed_by_make_clean() -> None:
    removed = subprocess.run(["make", "-n", "clean"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for ignored in (ROOT / ".gitignore").read_text().split():
        if ignored != "*.pyc":  # they are in __pycache__
            assert f" {ignored.rstrip('/*')}" in removed, ignored
