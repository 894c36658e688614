"""Databases that 3.10 has made and filled, cloned for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.database import Databases
from tests.moving.release import command_3x, run_3x


@pytest.fixture(scope="session")
def template_of_3x(databases: Databases) -> Iterator[str]:
    """A database with the schema of 3.10, and nothing in it."""
    url = databases.create_empty()
    command_3x(url, "schema", "--apply")
    yield url
    databases.drop(url)


@pytest.fixture(scope="session")
def filled_template_of_3x(databases: Databases, template_of_3x: str) -> Iterator[str]:
    """A database that 3.10 has filled with jobs in every state."""
    url = databases.clone(template_of_3x)
    run_3x(url, "fill.py")
    yield url
    databases.drop(url)


@pytest.fixture
def url_of_3x(databases: Databases, template_of_3x: str) -> Iterator[str]:
    """A database of this test, as 3.10 makes one."""
    url = databases.clone(template_of_3x)
    yield url
    databases.drop(url)


@pytest.fixture
def filled_url(databases: Databases, filled_template_of_3x: str) -> Iterator[str]:
    """A database of this test, as 3.10 has filled it."""
    url = databases.clone(filled_template_of_3x)
    yield url
    databases.drop(url)
