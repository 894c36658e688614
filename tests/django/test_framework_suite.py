"""Django's own tests of its Tasks framework, from its source distribution, on this project's backend."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import tarfile

import django
import pytest

from tests.django.support import ROOT, SETTINGS
from tests.missing import missing

_REQUIRED = "PROCRASTINATE_REQUIRE_DJANGO_SOURCE"
_IMMEDIATE = "test_immediate_backend.ImmediateBackendTestCase"
_DUMMY = "test_dummy_backend.DummyBackendTestCase"
DOES_NOT_APPLY = {
    f"{_IMMEDIATE}.test_cannot_get_result": "this backend keeps results",
    f"{_IMMEDIATE}.test_cannot_refresh_result": "this backend keeps results",
    f"{_IMMEDIATE}.test_cannot_pass_run_after": "this backend takes it",
    f"{_IMMEDIATE}.test_throws_keyboard_interrupt": "no task ends the worker; that one has failed",
    "test_immediate_backend.ImmediateBackendTransactionTestCase.test_doesnt_wait_until_transaction_commit_by_default": (
        "a worker sees a job once it is committed"
    ),
    f"{_DUMMY}.test_refresh_result": "it writes into a result kept in memory",
    f"{_DUMMY}.test_refresh_result_async": "it writes into a result kept in memory",
    f"{_DUMMY}.test_get_missing_result": "it asks the database from the event loop, which Django forbids",
    "test_dummy_backend.DummyBackendTransactionTestCase.test_doesnt_wait_until_transaction_commit_by_default": (
        "it counts jobs that are not committed from another thread, and those of other tests"
    ),
    "test_tasks.TaskTestCase.test_get_missing_result": "it asks the database from the event loop, which Django forbids",
    "test_tasks.TaskTestCase.test_refresh_result": "it writes into a result kept in memory",
}
"""Tests that say what only Django's own two backends do, and why it is not so here."""


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The tests of the Django that is installed."""
    if django.VERSION < (6, 0):
        pytest.skip("Django has a Tasks framework from 6.0 on; the package django-tasks ships no tests")
    directory = tmp_path_factory.mktemp("django")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
    done = subprocess.run(
        [*command, f"django=={django.get_version()}", "--dest", str(directory)],
        capture_output=True,
        text=True,
        check=False,
    )
    archives = [*directory.glob("*.tar.gz")]
    if not archives:
        missing(f"Django's source distribution cannot be had: {done.stderr[-500:]}", _REQUIRED)
    (archive,) = archives
    with tarfile.open(archive) as tar:
        tar.extractall(directory, filter="data")
    (tests,) = directory.glob("*/tests/tasks")
    return tests.parent


@pytest.mark.timeout(300)
def test_djangos_own_tests_of_a_backend_pass(source: pathlib.Path, project_url: str) -> None:
    """All but those that are listed, each of which must fail: the list names nothing that would pass."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.django.framework_suite", str(source)],
        cwd=ROOT,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": SETTINGS, "TEST_DATABASE_URL": project_url},
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    outcomes = {name.removeprefix("tasks."): outcome for name, outcome in json.loads(done.stdout).items()}
    failed = {name for name, outcome in outcomes.items() if outcome}
    assert failed == set(DOES_NOT_APPLY), _report(outcomes, failed)
    assert len(outcomes) - len(failed) > 50


def _report(outcomes: dict[str, str], failed: set[str]) -> str:
    passed = [f"{name}: passes, and is listed as one that does not apply" for name in set(DOES_NOT_APPLY) - failed]
    return "\n".join([*(f"{name}:\n{outcomes[name]}" for name in failed - set(DOES_NOT_APPLY)), *passed])
