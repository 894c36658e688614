"""A queue whose schema gets another name, or whose tables move to another schema: its functions find the tables."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest
import sqlalchemy as sa

from procrastinate.alembic import upgrades
from procrastinate.app import App
from procrastinate.core import metadata
from tests.database import libpq_url

FUNCTIONS = "SELECT oid::regprocedure::text FROM pg_proc WHERE left(proname, 14) = 'procrastinate_'"
TYPES = ("procrastinate_job_status", "procrastinate_job_event_type", "procrastinate_job_to_defer_v1")

Move = Callable[[sa.Connection], None]


def rename_schema(connection: sa.Connection) -> None:
    """Give the schema another name."""
    connection.exec_driver_sql("ALTER SCHEMA former RENAME TO latter")


def rename_schema_and_use_the_name_again(connection: sa.Connection) -> None:
    """Give it another name, and make an empty schema of the former one."""
    rename_schema(connection)
    connection.exec_driver_sql("CREATE SCHEMA former")


def move_tables(connection: sa.Connection) -> None:
    """Move the tables, and leave types and functions where they are."""
    connection.exec_driver_sql("CREATE SCHEMA latter")
    for table in (*metadata.tables, "procrastinate_alembic_version"):
        connection.exec_driver_sql(f"ALTER TABLE former.{table} SET SCHEMA latter")


def move_everything(connection: sa.Connection) -> None:
    """Move the tables, the types and the functions."""
    functions = list(connection.exec_driver_sql(FUNCTIONS).scalars())
    move_tables(connection)
    for function in functions:
        connection.exec_driver_sql(f"ALTER FUNCTION {function} SET SCHEMA latter")
    for type_ in TYPES:
        connection.exec_driver_sql(f"ALTER TYPE former.{type_} SET SCHEMA latter")
    connection.exec_driver_sql("DROP SCHEMA former")


MOVES = [rename_schema, rename_schema_and_use_the_name_again, move_tables, move_everything]


def moved_url(url: str, move: Move) -> sa.URL:
    """Make the queue in the schema ``former``, move it to ``latter``, and return a URL that finds it there."""
    former = sa.make_url(url).update_query_dict({"options": "-csearch_path=former"})
    engine = sa.create_engine(former, poolclass=sa.NullPool)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE SCHEMA former")
        upgrades.upgrade(connection)
    with engine.begin() as connection:
        move(connection)
    path = "latter,former" if move is move_tables else "latter"
    return sa.make_url(url).update_query_dict({"options": f"-csearch_path={path}"})


@pytest.mark.parametrize("move", MOVES)
async def test_a_worker_runs_the_jobs_of_a_moved_queue(empty_database_url: str, move: Move) -> None:
    """Locks are handed on, the history is kept, and what belongs to deleted jobs is deleted."""
    url = moved_url(empty_database_url, move)
    app = App(connector=libpq_url(str(url.set(password=None))))
    ran: list[int] = []

    @app.task(name="add", store_result=True)
    async def add(number: int) -> int:
        ran.append(number)
        return number

    async with app.open_async():
        await app.schema_manager.check_schema_async()
        for number in (1, 2):
            await add.configure(lock="l").defer_async(number=number)
        await app.run_worker_async(wait=False, install_signal_handlers=False)
        assert ran == [1, 2]
        result = await app.job_manager.get_result_async(1)
        assert result.value == 1
        assert result.started_at is not None
        await app.job_manager.delete_old_jobs(nb_hours=0)
    with psycopg.connect(libpq_url(empty_database_url)) as connection:
        for part in ("jobs", "events", "results"):
            assert connection.execute(f"SELECT count(*) FROM latter.procrastinate_{part}").fetchone() == (0,)  # type: ignore[arg-type]  # noqa: S608


JOBS_OF_3X = """ARRAY[
    ROW('q', 't', 0, 'l', NULL, '{}', NULL),
    ROW('q', 't', 0, NULL, NULL, '{}', NULL),
    ROW('q', 't', 0, NULL, NULL, '{}', NULL)
]"""
CALLS = (
    "register_worker_v1()",
    "update_heartbeat_v1(1)",
    "fetch_job_v2(NULL, 1)",
    "retry_job_v1(1, NULL, NULL, NULL, NULL)",
    "cancel_job_v1(1, false, true)",
    "finish_job_v1(2, 'failed', true)",
    "retry_job_v2(3, NULL, NULL, NULL, NULL)",
    "defer_periodic_job_v2('q', NULL, NULL, 't', 0, '', 1, '{}')",
    "unregister_worker_v1(1)",
    "prune_stalled_workers_v1(1)",
)


@pytest.mark.parametrize("path", ["latter, former", "pg_catalog", "another, latter, former"])
@pytest.mark.parametrize("move", MOVES)
def test_the_functions_of_3x_find_the_tables_of_a_moved_queue(empty_database_url: str, move: Move, path: str) -> None:
    """They are called by their names alone, and with the schema before the name, also next to another queue."""
    moved_url(empty_database_url, move)
    schema = "former" if move is move_tables else "latter"
    prefix = "procrastinate_" if path == "latter, former" else f"{schema}.procrastinate_"
    with psycopg.connect(libpq_url(empty_database_url)) as connection:
        connection.execute("CREATE SCHEMA another")
        for table in metadata.tables:
            connection.execute(f"CREATE TABLE another.{table} (LIKE latter.{table})".encode())
        connection.execute("SELECT set_config('search_path', %s, false)", [path])
        array = f"{JOBS_OF_3X}::{schema}.procrastinate_job_to_defer_v1[]"
        connection.execute(f"SELECT {prefix}defer_jobs_v1({array})".encode())
        connection.execute("UPDATE latter.procrastinate_jobs SET status = 'doing' WHERE id = 2")
        connection.execute("UPDATE latter.procrastinate_jobs SET status = 'failed' WHERE id = 3")
        for call in CALLS:
            connection.execute(f"SELECT {prefix}{call}".encode())
        assert connection.execute("SHOW search_path").fetchone() == (path,)
        assert connection.execute("SELECT count(*) FROM another.procrastinate_jobs").fetchone() == (0,)
        found = connection.execute("SELECT id, status::text FROM latter.procrastinate_jobs ORDER BY id").fetchall()
    assert found == [(3, "todo"), (4, "todo")]


@pytest.mark.parametrize("move", MOVES)
def test_truncate_of_moved_jobs_empties_what_belongs_to_them(empty_database_url: str, move: Move) -> None:
    moved_url(empty_database_url, move)
    with psycopg.connect(libpq_url(empty_database_url)) as connection:
        connection.execute("INSERT INTO latter.procrastinate_jobs (queue_name, task_name) VALUES ('q', 't')")
        assert connection.execute("SELECT count(*) FROM latter.procrastinate_events").fetchone() == (1,)
        connection.execute("TRUNCATE latter.procrastinate_jobs")
        assert connection.execute("SELECT count(*) FROM latter.procrastinate_events").fetchone() == (0,)


@pytest.mark.parametrize("move", MOVES)
def test_the_search_path_of_a_transaction_stays_as_it_is(empty_database_url: str, move: Move) -> None:
    moved_url(empty_database_url, move)
    with psycopg.connect(libpq_url(empty_database_url)) as connection:
        connection.execute("SET search_path = pg_catalog")
        connection.execute("INSERT INTO latter.procrastinate_jobs (queue_name, task_name) VALUES ('q', 't')")
        connection.execute("UPDATE latter.procrastinate_jobs SET status = 'failed'")
        connection.execute("DELETE FROM latter.procrastinate_jobs")
        assert connection.execute("SHOW search_path").fetchone() == ("pg_catalog",)


def test_a_schema_named_like_the_role_takes_no_history(engine: sa.Engine, database_url: str) -> None:
    """A role can make tables of our names in a schema of its own, which its search path names first."""
    with engine.begin() as connection:
        role = connection.exec_driver_sql("SELECT current_user").scalar_one()
        connection.exec_driver_sql(f'CREATE SCHEMA "{role}"')
        connection.exec_driver_sql(f'CREATE TABLE "{role}".procrastinate_events (LIKE public.procrastinate_events)')
    with psycopg.connect(libpq_url(database_url)) as connection:
        connection.execute("INSERT INTO public.procrastinate_jobs (queue_name, task_name) VALUES ('q', 't')")
        assert connection.execute("SELECT count(*) FROM public.procrastinate_events").fetchone() == (1,)


@pytest.mark.parametrize("statement", ["INSERT", "UPDATE"])
def test_a_waiting_state_that_does_not_exist_becomes_the_first(connection: sa.Connection, statement: str) -> None:
    """The partial indexes know three of them: a job in a fourth would never run, and no list would show it."""
    readiness = 7 if statement == "INSERT" else 0
    connection.exec_driver_sql(
        f"INSERT INTO procrastinate_jobs (queue_name, task_name, lock, readiness) VALUES ('q', 't', 'l', {readiness})"  # noqa: S608
    )
    if statement == "UPDATE":
        connection.exec_driver_sql("UPDATE procrastinate_jobs SET readiness = -1")
    assert connection.exec_driver_sql("SELECT readiness FROM procrastinate_jobs").scalars().all() == [0]
