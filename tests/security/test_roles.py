"""The roles with few rights: the statements of docs/database.md are executed, and the roles do their work."""

from __future__ import annotations

import pathlib
import re
import uuid
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from procrastinate import Limit, exceptions
from procrastinate.alembic import upgrades
from procrastinate.app import App
from procrastinate.core import Status
from procrastinate.unique import Unique
from tests.database import libpq_url

_PAGE = pathlib.Path(__file__).parents[2] / "docs" / "database.md"


class Roles:
    """The roles of the documentation, under names of this test's own: a server's databases share their roles."""

    def __init__(self, connection: sa.Connection, database_url: str) -> None:
        self._connection = connection
        self._url = sa.make_url(libpq_url(database_url))
        suffix = uuid.uuid4().hex[:8]
        self.names = {name: f"{name}_{suffix}" for name in ("producer", "worker")}
        (script,) = re.findall(r"```sql\n(.*?)```", _section("Roles with few rights"), re.DOTALL)
        connection.exec_driver_sql(re.sub(r"\b(producer|worker)\b", lambda match: self.names[match[0]], script))

    def app(self, name: str) -> App:
        """An app that connects as one of them."""
        app = App(connector=self._url.set(username=self.names[name]).render_as_string(hide_password=False))
        app.task(name="pay", queueing_lock="one at a time")(lambda **_: None)
        app.task(name="add", pass_context=True)(_defer_another)
        return app

    def remove(self) -> None:
        """Take the roles out of the server."""
        for name in self.names.values():
            self._connection.exec_driver_sql(f"DROP OWNED BY {name}")
            self._connection.exec_driver_sql(f"DROP ROLE {name}")


def _defer_another(context: object) -> None:
    context.app.configure_task("pay", queueing_lock="another").defer()  # type: ignore[attr-defined]


def _section(title: str) -> str:
    (section,) = re.findall(rf"^## {title}\n(.*?)(?=^## |\Z)", _PAGE.read_text(), re.DOTALL | re.MULTILINE)
    return str(section)


@pytest.fixture
def roles(connection: sa.Connection, database_url: str) -> Iterator[Roles]:
    roles = Roles(connection, database_url)
    yield roles
    roles.remove()


def _history(connection: sa.Connection) -> list[str]:
    return list(connection.exec_driver_sql("SELECT type::text FROM procrastinate_events ORDER BY id").scalars())


def test_a_producer_defers(roles: Roles, connection: sa.Connection) -> None:
    with roles.app("producer").open() as app:
        assert app.tasks["pay"].defer(card="4111") == 1
        with pytest.raises(exceptions.AlreadyEnqueued):
            app.tasks["pay"].defer()
        ids = app.configure_task("other", schedule_in={"hours": 1}, lock="l").batch_defer({"a": 1}, {"a": 2})
    assert len(ids) == 2
    assert sorted(_history(connection)) == ["deferred"] * 3 + ["scheduled"] * 2


def test_a_producer_of_unique_jobs_needs_what_the_page_says(roles: Roles, connection: sa.Connection) -> None:
    role = roles.names["producer"]
    connection.exec_driver_sql(f"GRANT USAGE ON SEQUENCE procrastinate_jobs_id_seq TO {role}")
    connection.exec_driver_sql(f"GRANT SELECT (attempts) ON procrastinate_jobs TO {role}")
    connection.exec_driver_sql(f"GRANT SELECT, INSERT, UPDATE ON procrastinate_uniques TO {role}")
    with roles.app("producer").open() as app:
        deferrer = app.configure_task("unique", unique=Unique(by="k", on_conflict="skip"))
        assert deferrer.defer() == deferrer.batch_defer({}, {})[1]


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT args FROM procrastinate_jobs",
        "UPDATE procrastinate_jobs SET priority = 1",
        "DELETE FROM procrastinate_jobs",
        "SELECT * FROM procrastinate_events",
        "DELETE FROM procrastinate_events",
        "INSERT INTO procrastinate_workers DEFAULT VALUES",
        "INSERT INTO procrastinate_jobs (queue_name, task_name, status) VALUES ('q', 't', 'doing')",
        "INSERT INTO procrastinate_jobs (queue_name, task_name, worker_id) VALUES ('q', 't', 1)",
        "INSERT INTO procrastinate_jobs (queue_name, task_name, attempts) VALUES ('q', 't', 2147483647)",
        "INSERT INTO procrastinate_jobs (queue_name, task_name, rescues) VALUES ('q', 't', -5)",
        "INSERT INTO procrastinate_jobs (queue_name, task_name, finished_at) VALUES ('q', 't', 'infinity')",
        "INSERT INTO procrastinate_jobs (queue_name, task_name, abort_requested) VALUES ('q', 't', true)",
        "CREATE TABLE mine (id int)",
    ],
)
def test_a_producer_can_do_nothing_else(roles: Roles, engine: sa.Engine, statement: str) -> None:
    _is_refused(engine, roles.names["producer"], statement)


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE mine (id int)",
        "ALTER TABLE procrastinate_jobs ADD COLUMN mine int",
        "DROP TABLE procrastinate_events",
        "TRUNCATE procrastinate_jobs",
        "CREATE OR REPLACE FUNCTION procrastinate_unpark_next(released text[]) RETURNS void LANGUAGE sql AS ''",
        "UPDATE procrastinate_alembic_version SET version_num = 'x'",
    ],
)
def test_a_worker_changes_no_schema(roles: Roles, engine: sa.Engine, statement: str) -> None:
    _is_refused(engine, roles.names["worker"], statement)


def _is_refused(engine: sa.Engine, role: str, statement: str) -> None:
    with engine.connect() as connection:
        connection.exec_driver_sql("REVOKE CREATE ON SCHEMA public FROM PUBLIC")  # as it is since PostgreSQL 15
        connection.exec_driver_sql(f"SET ROLE {role}")
        with pytest.raises(sa.exc.ProgrammingError, match=r"permission denied|must be owner"):
            connection.exec_driver_sql(statement)


async def test_a_worker_with_the_rights_of_an_older_schema_runs_jobs_with_limits(
    engine: sa.Engine, connection: sa.Connection, database_url: str
) -> None:
    """The migrations give it the rights on new tables and columns."""
    role = f"older_{uuid.uuid4().hex[:8]}"
    with engine.begin() as owner:
        upgrades.downgrade(owner, "procrastinate_0010")
        owner.exec_driver_sql(f"CREATE ROLE {role} LOGIN")
        owner.exec_driver_sql(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}")
        owner.exec_driver_sql(f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {role}")
    with engine.begin() as owner:
        upgrades.upgrade(owner)
    url = sa.make_url(libpq_url(database_url)).set(username=role).render_as_string(hide_password=False)
    app = App(connector=url)
    pay = app.task(name="pay", limit=Limit("bank", concurrency=1))(lambda: None)
    try:
        async with app.open_async():
            await pay.batch_defer_async({}, {}, {})
            await app.run_worker_async(wait=False, install_signal_handlers=False)
        statuses = connection.exec_driver_sql("SELECT status::text FROM procrastinate_jobs").scalars()
        assert list(statuses) == ["succeeded"] * 3
    finally:
        connection.exec_driver_sql(f"DROP OWNED BY {role}")
        connection.exec_driver_sql(f"DROP ROLE {role}")


async def test_a_worker_runs_what_a_producer_defers(roles: Roles, connection: sa.Connection) -> None:
    with roles.app("producer").open() as app:
        app.configure_task("add", lock="l").defer()
    async with roles.app("worker").open_async() as app:
        await app.run_worker_async(wait=False, install_signal_handlers=False, delete_jobs="successful")
        await app.tasks["pay"].defer_async()
        await app.tasks["pay"].configure(on_conflict="replace").defer_async(a=1)
        await app.run_worker_async(wait=False, install_signal_handlers=False)
        (job,) = await app.job_manager.list_jobs_async()
        assert job.status == Status.SUCCEEDED.value
        await app.job_manager.delete_old_jobs(nb_hours=0)
    assert connection.exec_driver_sql("SELECT count(*) FROM procrastinate_jobs").scalar() == 0
    assert connection.exec_driver_sql("SELECT count(*) FROM procrastinate_workers").scalar() == 0
