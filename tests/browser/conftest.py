"""A real browser, and the demo's shop served to it."""

from __future__ import annotations

import dataclasses
import pathlib
import shutil
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from tests import database
from tests.dashboard import sample
from tests.dashboard.conftest import django_databases
from tests.dashboard.hosts import HOSTS, Served
from tests.documentation.shell import Shell, free_port
from tests.missing import find_program, missing

__all__ = ["django_databases"]

_SHOP = pathlib.Path(__file__).parents[2] / "examples" / "django_demo"
_ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)
_REQUIRED = "PROCRASTINATE_REQUIRE_BROWSER"


def _program(name: str) -> str:
    path = find_program(name)
    if path is None:
        missing(f"{name} is not installed (Debian: apt install chromium chromium-driver)", _REQUIRED)
    return path


@dataclasses.dataclass(frozen=True)
class Shop:
    """Where the shop is served, and the database behind it."""

    url: str
    shell: Shell
    engine: sa.Engine

    def run_worker(self) -> None:
        """Run the jobs that are ready."""
        self.shell.run("python manage.py procrastinate worker --one-shot --unknown-task-timeout 0")


@pytest.fixture
def shop(empty_database_url: str, tmp_path: pathlib.Path) -> Iterator[Shop]:
    """The demo's shop, on a database of this test, with a superuser ``admin`` / ``admin``."""
    directory = tmp_path / "shop"
    shutil.copytree(_SHOP, directory)
    database = sa.make_url(empty_database_url)
    assert database.database is not None
    environment = {
        "SHOP_DATABASE": database.database,
        "SHOP_DATABASE_HOST": str(database.query["host"]),
        "DJANGO_SUPERUSER_PASSWORD": "admin",
    }
    shell = Shell(directory, environment)
    shell.run("python manage.py migrate")
    shell.run("python manage.py createsuperuser --noinput --username admin --email a@example.com")
    port = free_port()
    engine = sa.create_engine(empty_database_url)
    try:
        shell.start(f"python manage.py runserver --noreload {port}").wait_for_port(port)
        yield Shop(f"http://127.0.0.1:{port}", shell, engine)
    finally:
        shell.kill_servers()
        engine.dispose()


@pytest.fixture
def browser(tmp_path: pathlib.Path) -> Iterator[webdriver.Chrome]:
    """Headless Chromium, Debian's own, with an empty profile."""
    options = webdriver.ChromeOptions()
    options.binary_location = _program("chromium")
    for argument in (*_ARGUMENTS, f"--user-data-dir={tmp_path / 'chromium'}", "--window-size=1300,900"):
        options.add_argument(argument)
    driver = webdriver.Chrome(options=options, service=Service(executable_path=_program("chromedriver")))
    driver.implicitly_wait(10)
    yield driver
    driver.quit()


@pytest.fixture(scope="session")
def artifacts() -> pathlib.Path:
    """Where pictures are kept."""
    directory = pathlib.Path(__file__).parents[2] / "artifacts"
    directory.mkdir(exist_ok=True)
    return directory


@pytest.fixture(params=HOSTS)
def served(
    request: pytest.FixtureRequest, databases: database.Databases, django_databases: database.Databases
) -> Iterator[Served]:
    """The dashboard of a full queue in a host."""
    makes = django_databases if request.param.startswith("django") else databases
    url = makes.create_migrated()
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    sample.fill(engine)
    with HOSTS[request.param](url, engine) as opened:
        yield opened
    engine.dispose()
    makes.drop(url)
