"""The files that docs/testing.md shows, in new projects: their tests pass."""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
import sys

import pytest
import sqlalchemy as sa

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "testing.md"
_BLOCK = re.compile(r"^```python\n# (?P<path>[\w/]+\.py)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)

FILES = {block["path"]: block["code"] for block in _BLOCK.finditer(PAGE.read_text())}
SHOP = [path for path in FILES if path.startswith("shop/")]
BOOKSHOP = [path for path in FILES if "bookshop" in path or path == "conftest.py"]


def write(directory: pathlib.Path, paths: list[str]) -> None:
    """Write files of the page."""
    for path in paths:
        (directory / path).write_text(FILES[path])


def run(directory: pathlib.Path, *command: str, **environment: str) -> str:
    """Run a command, expect success, and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(directory), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def run_pytest(directory: pathlib.Path, *options: str, **environment: str) -> str:
    """Run pytest; it must skip nothing."""
    printed = run(directory, "pytest", "-q", "-p", "no:cacheprovider", *options, **environment)
    assert " skipped" not in printed
    return printed


def test_every_python_block_is_a_file_that_is_tried() -> None:
    assert PAGE.read_text().count("```python") == len(FILES) == len(SHOP) + len(BOOKSHOP) + 1


def test_the_tests_of_a_django_project(tmp_path: pathlib.Path, empty_database_url: str) -> None:
    run(tmp_path, "django", "startproject", "mysite", ".")
    run(tmp_path, "django", "startapp", "shop")
    database = sa.make_url(empty_database_url)
    with (tmp_path / "mysite" / "settings.py").open("a") as settings:
        settings.write(
            'INSTALLED_APPS += ["procrastinate.contrib.django", "shop"]\n'
            'DATABASES = {"default": {"ENGINE": "django.db.backends.postgresql", '
            f'"NAME": {database.database!r}, "USER": {database.username!r}, "HOST": {database.query["host"]!r}}}}}\n'
        )
    write(tmp_path, SHOP)
    settings_module = {"DJANGO_SETTINGS_MODULE": "mysite.settings"}
    assert "Ran 5 tests" in run(tmp_path, "django", "test", "--noinput", "--pattern", "tests*.py", **settings_module)
    assert "1 passed" in run_pytest(tmp_path, "shop/test_orders.py", **settings_module)


def test_the_tests_of_a_program_on_sqlalchemy(tmp_path: pathlib.Path, empty_database_url: str) -> None:
    write(tmp_path, BOOKSHOP)
    options = ["-p", "no:django", "-W", "error", "-o", "asyncio_default_fixture_loop_scope=function"]
    printed = run_pytest(tmp_path, *options, DATABASE_URL=empty_database_url)
    assert "4 passed" in printed


def test_tests_without_a_database(tmp_path: pathlib.Path) -> None:
    write(tmp_path, ["test_in_memory.py"])
    assert "2 passed" in run_pytest(tmp_path, "-p", "no:django")


def test_a_project_that_does_not_use_the_plugin_imports_nothing(tmp_path: pathlib.Path) -> None:
    (tmp_path / "test_nothing.py").write_text(
        "import sys\n\n\ndef test_nothing(request):\n"
        "    assert request.config.pluginmanager.has_plugin('procrastinate')\n"
        "    names = ('procrastinate', 'sqlalchemy', 'psycopg', 'asyncio.events', 'django')\n"
        "    assert [name for name in names if name in sys.modules] == []\n"
    )
    options = ["-p", "no:django", "-p", "no:asyncio", "-p", "no:anyio", "-p", "no:xdist", "-p", "no:timeout"]
    run_pytest(tmp_path, *options)


@pytest.mark.parametrize("fixture", ["procrastinate_jobs", "procrastinate_worker"])
def test_a_project_without_an_app_is_told_how_to_name_it(tmp_path: pathlib.Path, fixture: str) -> None:
    (tmp_path / "test_it.py").write_text(f"def test_it({fixture}): pass\n")
    with pytest.raises(AssertionError, match="Set procrastinate_app in pytest's ini file, or override the fixture"):
        run_pytest(tmp_path, "-p", "no:django")
