"""Tests that are skipped where something is missing: none may vanish from CI unnoticed."""

from __future__ import annotations

import pathlib
import re

import pytest

from tests import bare
from tests.bare import switches
from tests.missing import BARE, find_file, find_program, missing

ROOT = pathlib.Path(__file__).parents[2]


def test_ci_sets_every_switch() -> None:
    run = (ROOT / ".ci" / "run").read_text()
    assert len(switches()) > 4
    assert switches() == set(re.findall(r"\b(PROCRASTINATE_REQUIRE_\w+)=1\b", run))


def test_ci_runs_the_tests_of_a_bare_machine() -> None:
    assert "make test-bare" in (ROOT / ".ci" / "run").read_text()


def test_the_tests_that_may_lack_something_are_found_by_what_they_import() -> None:
    found = {str(file.relative_to(ROOT / "tests")) for file in bare.concerned()}
    assert {"faults/test_clocks.py", "browser/test_admin.py", "worker/test_pgbouncer.py"} <= found
    assert "unit/test_cron.py" not in found


def test_no_test_looks_for_a_program_past_the_one_place() -> None:
    """What is found there cannot be hidden."""
    known = {"tests/missing.py", "tests/matrix.py", "tests/faults/release.py"}  # git, and other Pythons
    looking = {
        str(file.relative_to(ROOT))
        for file in (ROOT / "tests").rglob("*.py")
        if re.search(r"shutil\.which\(|glob\.glob\(", file.read_text()) and file != pathlib.Path(__file__)
    }
    assert looking <= known


def test_a_bare_machine_has_nothing_that_may_be_lacking(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    monkeypatch.delenv(BARE, raising=False)
    assert find_program("sh") is not None
    assert find_file("/bin/s?") is not None
    monkeypatch.setenv(BARE, str(tmp_path / "missed"))
    monkeypatch.delenv("PROCRASTINATE_REQUIRE_IT", raising=False)
    assert find_program("sh") is None
    assert find_file("/bin/s?") is None
    with pytest.raises(pytest.skip.Exception):
        missing("It is not installed", "PROCRASTINATE_REQUIRE_IT")
    assert (tmp_path / "missed").read_text() == "PROCRASTINATE_REQUIRE_IT\n"


def test_what_is_missing_is_a_skip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PROCRASTINATE_REQUIRE_IT", raising=False)
    with pytest.raises(pytest.skip.Exception, match="It is not installed"):
        missing("It is not installed", "PROCRASTINATE_REQUIRE_IT")


def test_what_is_missing_and_required_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROCRASTINATE_REQUIRE_IT", "1")
    with pytest.raises(pytest.fail.Exception, match="It is not installed; PROCRASTINATE_REQUIRE_IT is set"):
        missing("It is not installed", "PROCRASTINATE_REQUIRE_IT")
