"""A dashboard in each host."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from tests import database
from tests.dashboard import sample
from tests.dashboard.hosts import HOSTS, Served
from tests.django import support


def _migrate_project(url: str) -> None:
    support.set_up()
    from django.core.management import call_command

    with support.using_database(url):
        call_command("migrate", verbosity=0)


@pytest.fixture(scope="session")
def django_databases(databases: database.Databases) -> Iterator[database.Databases]:
    """Databases of a Django project."""
    made = database.Databases(databases.server, f"{databases.prefix}_dashboard", _migrate_project)
    yield made
    made.close()


@pytest.fixture(scope="module", params=HOSTS)
def served(
    request: pytest.FixtureRequest, databases: database.Databases, django_databases: database.Databases
) -> Iterator[Served]:
    """The dashboard of a full queue in a host, which the tests of a module share."""
    makes = django_databases if request.param.startswith("django") else databases
    url = makes.create_migrated()
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    sample.fill(engine, hostile=True)
    with HOSTS[request.param](url, engine) as opened:
        yield opened
    engine.dispose()
    makes.drop(url)
