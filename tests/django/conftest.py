"""A database with the tables of the whole project, for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.core.management import call_command
from django.test.utils import setup_test_environment, teardown_test_environment

from tests import database
from tests.django import support

support.set_up()


@pytest.fixture(scope="session", autouse=True)
def environment() -> Iterator[None]:
    """What Django's test client needs to show the context of a page."""
    setup_test_environment()
    yield
    teardown_test_environment()


def _migrate(url: str) -> None:
    with support.using_database(url):
        call_command("migrate", verbosity=0)


@pytest.fixture(scope="session")
def project_databases(databases: database.Databases) -> Iterator[database.Databases]:
    """Databases that ``manage.py migrate`` has made."""
    project_databases = database.Databases(databases.server, f"{databases.prefix}_django", _migrate)
    yield project_databases
    project_databases.close()


@pytest.fixture
def project_url(project_databases: database.Databases) -> Iterator[str]:
    """The URL of a fresh database of this test, made by ``manage.py migrate``."""
    url = project_databases.create_migrated()
    yield url
    project_databases.drop(url)


@pytest.fixture
def project(project_url: str) -> Iterator[None]:
    """Django, on a fresh database of this test."""
    with support.using_database(project_url):
        yield
