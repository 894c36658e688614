"""The fixtures for a reader who follows a page in an empty folder."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterator

import pytest

from tests.database import Databases
from tests.documentation.reader import CONTEXTS, Reader

MAKE_THE_TABLES = ("alembic", "celery-in-django-and-flask", "django", "django-tenants", "migrations", "testing")
"""Pages that begin with an empty database."""


@pytest.fixture
def new_reader(tmp_path: pathlib.Path, databases: Databases) -> Iterator[Callable[[str], Reader]]:
    """Yield a function that creates the reader of a page, with the context that the page assumes."""
    readers: list[Reader] = []

    def new(page: str) -> Reader:
        name = pathlib.PurePath(page).stem.lower()
        context = name if (CONTEXTS / name).is_dir() else None
        makes_the_tables = name in MAKE_THE_TABLES
        url = databases.create_empty() if makes_the_tables else databases.create_migrated()
        reader = Reader(tmp_path / f"folder-{len(readers)}", databases, url, context)
        readers.append(reader)
        return reader

    yield new
    for reader in readers:
        reader.close()
        databases.drop(reader.url)
