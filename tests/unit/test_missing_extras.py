"""What an extra installs and is missing: an error names the package and the extra, in each place that needs it."""

from __future__ import annotations

import os
import pathlib
import re
import signal
import subprocess
import sys
import tomllib

import pytest

from procrastinate import exceptions
from procrastinate._extras import needs_extra

ROOT = pathlib.Path(__file__).parents[2]

HIDING = """
import os, sys

class Hiding:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in os.environ["HIDDEN"].split():
            return None
        return self.finder.find_spec(name, path, target)

    def __getattr__(self, name):
        return getattr(self.finder, name)

sys.meta_path[:] = map(Hiding, sys.meta_path)
"""
"""Starts an interpreter that lacks packages, as in an environment without the extra."""

PLACES = {
    "dashboard": ("jinja2", "import procrastinate.dashboard.dashboard"),
    "dashboard as ASGI": ("jinja2", "from procrastinate.dashboard import asgi; asgi(None, authorize=bool)"),
    "dashboard, a dependency": ("markupsafe", "import procrastinate.dashboard.dashboard"),
    "sentry": ("sentry_sdk", "import procrastinate.contrib.sentry"),
    "otel": ("opentelemetry", "import procrastinate.otel"),
    "celery": ("kombu", "import procrastinate.from_celery.bridge"),
    "uvloop": ("uvloop", "from procrastinate.cli.event_loop import loop_factory; loop_factory(True)"),
    "pool": (
        "psycopg_pool",
        "import procrastinate\n"
        "async def check(connection): ...\n"
        "procrastinate.PsycopgConnector(conninfo='', check=check)",
    ),
    "fastapi": ("fastapi starlette", "import procrastinate.contrib.fastapi"),
    "flask": ("flask", "import procrastinate.contrib.flask"),
    "sphinx": ("sphinx", "import procrastinate.contrib.sphinx"),
    "django": ("django", "import procrastinate.contrib.django"),
    "psycopg2": (
        "psycopg2",
        "import procrastinate; procrastinate.App(connector='postgresql+psycopg2:///x').open().job_manager.list_jobs()",
    ),
}
"""The packages that an environment lacks, and code that needs them, by the extra before the comma or the space."""


@pytest.fixture
def without(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """The folder of a program whose interpreter hides the packages of ``HIDDEN``."""
    (tmp_path / "sitecustomize.py").write_text(HIDING)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{ROOT}")
    return tmp_path


def run(*arguments: str, folder: pathlib.Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python there."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("place", PLACES)
def test_code_that_needs_an_extra_names_the_package_and_the_extra(place: str, without: pathlib.Path) -> None:
    hidden, code = PLACES[place]
    extra = re.split("[ ,]", place)[0]
    done = run("-c", code, folder=without, HIDDEN=hidden)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("procrastinate.exceptions.MissingExtra: ")
    assert re.search(rf"needs ({'|'.join(hidden.split())}), which is not installed: ", last)
    assert f'pip install "procrastinate[{extra}]"' in last
    assert extra in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


@pytest.mark.parametrize(
    "prefix", [["-m", "procrastinate", "--app", "tests.cli.shop.app"], ["manage.py", "procrastinate"]]
)
@pytest.mark.parametrize(
    ("command", "hidden", "extra"),
    [
        (["dashboard"], "jinja2", "dashboard"),
        (["celery-bridge", "--broker", "redis://localhost", "--queue", "celery"], "kombu", "celery"),
        (["worker", "--uvloop"], "uvloop", "uvloop"),
    ],
)
def test_a_command_that_needs_an_extra_says_so_on_one_line(
    prefix: list[str], command: list[str], hidden: str, extra: str, without: pathlib.Path
) -> None:
    (without / "manage.py").write_text(
        "import sys\nfrom django.core.management import execute_from_command_line\n"
        "execute_from_command_line(sys.argv)\n"
    )
    (without / "without_pages.py").write_text(
        "from tests.django.project.settings import *\nROOT_URLCONF = 'without_pages'\nurlpatterns = []\n"
    )
    done = run(*prefix, *command, folder=without, HIDDEN=hidden, DJANGO_SETTINGS_MODULE="without_pages")
    assert done.returncode == 1
    assert f'pip install "procrastinate[{extra}]"' in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_dev_without_jinja2_runs_its_worker(without: pathlib.Path, database_url: str) -> None:
    (without / "shop.py").write_text(f"import procrastinate\napp = procrastinate.App(connector={database_url!r})\n")
    command = [sys.executable, "-m", "procrastinate", "--app", "shop.app", "dev"]
    environment = {**os.environ, "HIDDEN": "jinja2"}
    with subprocess.Popen(command, cwd=without, env=environment, stderr=subprocess.PIPE, text=True) as dev:
        assert dev.stderr is not None
        said = ""
        while "Starting worker" not in said and dev.poll() is None:
            said += dev.stderr.readline()
        dev.send_signal(signal.SIGTERM)
        said += dev.stderr.read()
    assert dev.returncode == 0, said
    assert "Running without the dashboard. The dashboard needs jinja2" in said


def test_a_command_without_libpq_names_the_extra_that_has_one(without: pathlib.Path) -> None:
    """The program stands in for a machine on which psycopg finds no libpq."""
    (without / "shop.py").write_text("import procrastinate\napp = procrastinate.App(connector='postgresql:///shop')\n")
    command = ["-m", "procrastinate", "--app", "shop.app", "healthchecks"]
    done = run(*command, folder=without, HIDDEN="psycopg_c", PSYCOPG_IMPL="c")
    assert done.returncode == 1
    assert "psycopg finds no libpq" in done.stderr
    assert 'pip install "procrastinate[binary]"' in done.stderr
    assert "Traceback" not in done.stderr


def test_a_module_of_this_package_that_is_missing_is_no_missing_extra() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"procrastinate\.nowhere"), needs_extra("This", "dashboard"):
        import procrastinate.nowhere  # type: ignore[import-not-found]  # noqa: F401


def test_a_missing_extra_is_an_import_error_with_the_name_of_the_package() -> None:
    with pytest.raises(ImportError) as caught, needs_extra("This", "dashboard"):
        import package_that_is_not_here  # type: ignore[import-not-found]  # noqa: F401
    assert isinstance(caught.value, exceptions.MissingExtra)
    assert caught.value.name == "package_that_is_not_here"
