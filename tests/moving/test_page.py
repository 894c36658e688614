"""What docs/moving-in.md says, word for word, on databases that 3.10 has made."""

from __future__ import annotations

import asyncio
import pathlib
import shlex
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import Session

from procrastinate.alembic import revisions
from tests.database import Databases, driver_url, libpq_url
from tests.documentation.blocks import Block, blocks_of
from tests.documentation.reader import Reader
from tests.missing import find_program
from tests.moving.release import PROGRAMS
from tests.moving.rows import execute
from tests.moving.test_adoption import snapshot_of, without_rests
from tests.moving.test_django import manage, shop_template, shop_url  # noqa: F401
from tests.schema.dumps import run_script

pytestmark = pytest.mark.timeout(300)

(
    PLAIN,
    DJANGO,
    REVISION,
    AUTOCOMMIT,
    SCRIPT,
    ORPHANS,
    REVERT,
    CONTRACT,
    DEFER,
    ALPHA,
) = blocks_of("docs/moving-in.md")
"""All blocks of the page."""

Read = Callable[..., Reader]


@pytest.fixture
def read(tmp_path: pathlib.Path, databases: Databases) -> Iterator[Read]:
    """Lets a reader, whose project has a database, read blocks in one folder."""
    readers: dict[str, Reader] = {}

    def read(url: str, *blocks: Block) -> Reader:
        if url not in readers:
            readers[url] = Reader(tmp_path / f"folder-{len(readers)}", databases, libpq_url(url), "alembic")
            readers[url].shell.run(f"export DSN={shlex.quote(libpq_url(url))}")
            shutil.copytree(PROGRAMS, readers[url].directory, dirs_exist_ok=True)
        for block in blocks:
            readers[url].read(block)
        return readers[url]

    yield read
    for reader in readers.values():
        reader.close()


def revision_of(url: str) -> str | None:
    """The revision that a database says it has."""
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        return revisions.current_revision(connection)


def test_a_plain_project_moves_decides_goes_back_and_ends_the_move(
    read: Read, filled_url: str, database_url: str
) -> None:
    reader = read(filled_url, PLAIN)
    assert "2 of sleeps, the oldest since" in reader.printed[0]
    assert revision_of(filled_url) == revisions.head_revision()
    read(filled_url, ORPHANS)
    assert execute(filled_url, "SELECT count(*) FROM procrastinate_jobs WHERE worker_id = 0") == [(0,)]
    read(filled_url, REVERT)
    assert revision_of(filled_url) is None
    read(filled_url, PLAIN, CONTRACT)
    assert snapshot_of(filled_url)["functions"] == snapshot_of(database_url)["functions"]


def test_a_django_project_moves(read: Read, shop_url: str) -> None:  # noqa: F811
    read(shop_url, DJANGO)
    assert revision_of(shop_url) == revisions.head_revision()


def test_the_script_is_run_with_psql(read: Read, filled_url: str) -> None:
    reader = read(filled_url)
    if find_program("psql") is None:
        reader.shell.run(SCRIPT.text.splitlines()[0].removeprefix("$ "))
        run_script(filled_url, f"SET client_min_messages = warning;\n{(reader.directory / 'upgrade.sql').read_text()}")
    else:
        read(filled_url, SCRIPT)
    assert revision_of(filled_url) == revisions.head_revision()


@pytest.mark.parametrize("concurrently", [False, True])
@pytest.mark.parametrize("made_by", ["3x", "ours"])
def test_a_users_alembic_upgrades_the_tables(
    read: Read, filled_url: str, database_url: str, concurrently: bool, made_by: str
) -> None:
    """The user's own operations go on after it."""
    url = filled_url if made_by == "3x" else database_url
    reader = read(url)
    reader.shell.run("alembic init migrations")
    configuration = reader.directory / "alembic.ini"
    escaped = url.replace("%", "%%")
    lines = configuration.read_text().splitlines()
    configuration.write_text(
        "\n".join(f"sqlalchemy.url = {escaped}" if line.startswith("sqlalchemy.url") else line for line in lines)
    )
    assert REVISION.path is not None
    text = REVISION.text
    if concurrently:
        start, end = text.index("def upgrade"), text.index("def downgrade")
        text = f"{text[:start]}{AUTOCOMMIT.text}\n\n{text[end:]}"
    own = 'op.execute("CREATE TABLE own (id integer)")'
    text = text.replace("\n\n\ndef downgrade", f"\n    {own}\n\n\ndef downgrade")
    (reader.directory / REVISION.path).write_text(text)
    reader.shell.run("alembic upgrade head")
    assert revision_of(url) == revisions.head_revision()
    assert execute(url, "SELECT count(*) FROM own") == [(0,)]
    assert execute(url, "SELECT version_num FROM alembic_version") == [("upgrade_procrastinate",)]


def deferred(url: str) -> list[tuple[object, ...]]:
    """The jobs that the page's statement defers."""
    return execute(
        url, "SELECT args ->> 'a', lock, queueing_lock, scheduled_at > now() FROM procrastinate_jobs ORDER BY id"
    )


JOBS = [("1", None, None, None), ("2", "a lock", "a queueing lock", True)]


def with_psycopg(url: str) -> None:
    """In the transaction of a psycopg connection."""
    with psycopg.connect(libpq_url(url)) as connection:
        assert connection.execute(DEFER.text.encode()).fetchall() == [(1,), (2,)]


def with_sqlalchemy(url: str) -> None:
    """In the transaction of a session."""
    engine = sa.create_engine(driver_url(url, "psycopg2"), poolclass=sa.NullPool)
    with Session(engine) as session, session.begin():
        statement = sa.text(DEFER.text.replace(":", r"\:"))
        assert list(session.execute(statement).scalars()) == [1, 2]


def with_asyncpg(url: str) -> None:
    """On a session of SQLAlchemy over asyncpg."""

    async def defer() -> None:
        engine = create_async_engine(driver_url(url, "asyncpg"), poolclass=sa.NullPool)
        async with engine.begin() as connection:
            assert list((await connection.exec_driver_sql(DEFER.text)).scalars()) == [1, 2]
        await engine.dispose()

    asyncio.run(defer())


def with_psql(url: str) -> None:
    """As a script."""
    assert run_script(url, f"\\pset tuples_only on\n{DEFER.text}").split() == ["1", "2"]


@pytest.mark.parametrize("defer", [with_psycopg, with_sqlalchemy, with_asyncpg, with_psql])
def test_a_program_in_sql_defers_jobs(database_url: str, defer: Callable[[str], Any]) -> None:
    defer(database_url)
    assert deferred(database_url) == JOBS


def test_a_program_that_names_the_schema_need_not_look_in_it(database_url: str) -> None:
    with psycopg.connect(libpq_url(database_url), autocommit=True) as connection:
        connection.execute("SET search_path = pg_catalog")
        connection.execute(DEFER.text.replace("procrastinate_", "public.procrastinate_").encode())
    assert deferred(database_url) == JOBS


def test_a_function_is_for_roles_that_may_write_jobs(database_url: str) -> None:
    role = f"reader_{sa.make_url(database_url).database}"
    with psycopg.connect(libpq_url(database_url), autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {role}".encode())
        try:
            connection.execute(f"SET ROLE {role}".encode())
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(DEFER.text.encode())
        finally:
            connection.execute(f"RESET ROLE; DROP ROLE {role}".encode())


def test_a_django_project_on_an_alpha_learns_of_the_first_migration(empty_database_url: str, database_url: str) -> None:
    """An alpha knows neither the names of 3.x nor the first migration."""
    manage(empty_database_url, "migrate", "procrastinate")
    execute(empty_database_url, "DELETE FROM django_migrations WHERE name < '1001' AND app = 'procrastinate'")
    manage(empty_database_url, "migrate", fails=True)
    execute(empty_database_url, ALPHA.text)
    manage(empty_database_url, "migrate")
    assert "[ ]" not in manage(empty_database_url, "showmigrations")
    assert without_rests(snapshot_of(empty_database_url)) == without_rests(snapshot_of(database_url))
