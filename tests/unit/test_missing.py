"""Tests that are skipped where something is missing: none may vanish from CI unnoticed."""

from __future__ import annotations

import pathlib
import re

import pytest

from tests.missing import missing

ROOT = pathlib.Path(__file__).parents[2]
SWITCH = re.compile(r"^_REQUIRED = \"(\w+)\"", re.MULTILINE)


def switches() -> set[str]:
    """The environment variables by which tests are required."""
    return {name for file in (ROOT / "tests").rglob("*.py") for name in SWITCH.findall(file.read_text())}


def test_ci_sets_every_switch() -> None:
    run = (ROOT / ".ci" / "run").read_text()
    assert len(switches()) > 4
    assert switches() == set(re.findall(r"\b(PROCRASTINATE_REQUIRE_\w+)=1\b", run))


def test_what_is_missing_is_a_skip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PROCRASTINATE_REQUIRE_IT", raising=False)
    with pytest.raises(pytest.skip.Exception, match="It is not installed"):
        missing("It is not installed", "PROCRASTINATE_REQUIRE_IT")


def test_what_is_missing_and_required_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROCRASTINATE_REQUIRE_IT", "1")
    with pytest.raises(pytest.fail.Exception, match="It is not installed; PROCRASTINATE_REQUIRE_IT is set"):
        missing("It is not installed", "PROCRASTINATE_REQUIRE_IT")
