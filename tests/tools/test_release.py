"""What a release needs before it is built."""

from __future__ import annotations

import dataclasses

import pytest

from tests.release import Repository, what_is_missing

READY = Repository(
    version="4.1.0",
    changelog="# Changelog\n\n## 4.1.0 (2026-12-01)\n\n## 4.0.0 (2026-11-01)\n",
    changes="",
    tagged="",
    head="abc",
)


@pytest.mark.parametrize("tagged", ["", "abc"])
def test_a_committed_version_with_a_dated_section_is_ready_with_or_without_its_tag(tagged: str) -> None:
    assert what_is_missing(dataclasses.replace(READY, tagged=tagged)) == []


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"version": "4.2.0"}, "first section of CHANGELOG.md is not that of 4.2.0"),
        ({"changelog": "# Changelog\n"}, "first section of CHANGELOG.md"),
        ({"changelog": "## 4.1.0 (unreleased)\n"}, "has no date: (unreleased)"),
        ({"changes": " M README.md"}, "not committed"),
        ({"tagged": "def"}, "tag v4.1.0 is on another commit: def"),
    ],
)
def test_what_a_release_still_needs_is_named(change: dict[str, str], complaint: str) -> None:
    (missing,) = what_is_missing(dataclasses.replace(READY, **change))
    assert complaint in missing


def test_this_repository_can_be_read() -> None:
    repository = Repository.read()
    assert len(repository.head) == 40
    assert f"## {repository.version} (" in repository.changelog
