"""A Django project's own test-suite, run as its developers do: with manage.py, and with pytest."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import pytest

PROJECT = pathlib.Path(__file__).parent / "sample_project"


def run_suite(url: str, *command: str, settings: str = "sample.settings") -> str:
    """Run a command in the folder of the project, expect success, and return what it printed."""
    done = subprocess.run(
        [sys.executable, *command],
        cwd=PROJECT,
        env={**os.environ, "TEST_DATABASE_URL": url, "DJANGO_SETTINGS_MODULE": settings},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_the_test_cases_of_the_project_pass_with_manage_py(empty_database_url: str) -> None:
    printed = run_suite(empty_database_url, "manage.py", "test", "--noinput")
    assert "OK" in printed
    assert "Ran 34 tests" in printed, printed


@pytest.mark.parametrize("options", [(), ("--parallel=2",)], ids=str)
def test_the_test_cases_of_the_project_pass_without_migrations(
    empty_database_url: str, options: tuple[str, ...]
) -> None:
    """The tables are there, though their models are unmanaged. The second run keeps the database of the first."""
    for _ in range(2):
        printed = run_suite(
            empty_database_url,
            *("manage.py", "test", "--noinput", "--keepdb", *options),
            settings="sample.settings_without_migrations",
        )
        assert "Ran 34 tests" in printed, printed


def test_everything_passes_with_pytest_without_migrations(empty_database_url: str) -> None:
    printed = run_suite(empty_database_url, "-m", "pytest", "-p", "no:cacheprovider", "-q", "--nomigrations")
    assert " passed" in printed
    assert " skipped" not in printed


def test_immediate_mode_is_a_setting_for_a_whole_suite(empty_database_url: str) -> None:
    command = ("-m", "pytest", "-p", "no:cacheprovider", "-q", "shop/tests/suite_run_at_defer.py")
    printed = run_suite(empty_database_url, *command, settings="sample.settings_run_at_defer")
    assert "3 passed" in printed


@pytest.mark.parametrize("options", [(), ("-p", "no:asyncio", "-k", "not async")], ids=["with asyncio", "without"])
def test_everything_passes_with_pytest(empty_database_url: str, options: tuple[str, ...]) -> None:
    printed = run_suite(empty_database_url, "-m", "pytest", "-p", "no:cacheprovider", "-q", *options)
    assert " passed" in printed
    assert " skipped" not in printed
