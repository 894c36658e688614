"""Sessions of real projects: several engines, schemas of tenants, sync code inside async sessions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import flask
import pytest
import sqlalchemy as sa
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import procrastinate
from tests.database import driver_url

TENANT = {"schema_translate_map": {None: "tenant"}}


class Base(DeclarativeBase):
    """The user's tables."""


class Note(Base):
    """A table of the user."""

    __tablename__ = "notes"

    id: Mapped[int] = mapped_column(primary_key=True)


@pytest.fixture
def app(database_url: str) -> procrastinate.App:
    """Return an app that is not open, because it must need no connection of its own."""
    return procrastinate.App(connector=database_url)


@pytest.fixture
def tenant_engine(engine: sa.Engine) -> sa.Engine:
    """Return an engine that maps the user's tables to the schema of a tenant."""
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE SCHEMA tenant"))
    tenant_engine = engine.execution_options(**TENANT)
    Base.metadata.create_all(tenant_engine)
    return tenant_engine


@pytest.fixture(params=["psycopg", "asyncpg"])
async def async_engine(request: pytest.FixtureRequest, database_url: str) -> AsyncIterator[AsyncEngine]:
    """Return the user's asynchronous engine."""
    engine = create_async_engine(driver_url(database_url, request.param))
    yield engine
    await engine.dispose()


def counts(engine: sa.Engine, *tables: str) -> list[int]:
    """Return the number of committed rows in each table."""
    with engine.connect() as connection:
        return [connection.execute(sa.text(f"SELECT count(*) FROM {table}")).scalar_one() for table in tables]  # noqa: S608


def test_the_schemas_of_tenants_are_for_the_users_tables(
    app: procrastinate.App, engine: sa.Engine, tenant_engine: sa.Engine
) -> None:
    """The user's tables are mapped before and after the defer."""
    with Session(tenant_engine) as session, session.begin():
        session.add(Note())
        session.flush()
        app.configure_task("task", connection=session).batch_defer({}, {})
        session.add(Note())
    assert counts(engine, "tenant.notes", "procrastinate_jobs") == [2, 2]


async def test_the_schemas_of_tenants_are_for_the_users_tables_async(
    app: procrastinate.App, engine: sa.Engine, tenant_engine: sa.Engine, async_engine: AsyncEngine
) -> None:
    """The user's tables are mapped before and after the defer."""
    async with AsyncSession(async_engine.execution_options(**TENANT)) as session, session.begin():
        session.add(Note())
        await session.flush()
        await app.configure_task("task", connection=session).batch_defer_async({}, {})
        session.add(Note())
    assert counts(engine, "tenant.notes", "procrastinate_jobs") == [2, 2]


def test_an_app_on_the_engine_of_a_tenant_has_the_one_queue(engine: sa.Engine, tenant_engine: sa.Engine) -> None:
    """This holds for one job, for several, and for the worker."""
    app = procrastinate.App(connector=tenant_engine)
    noted = []

    @app.task
    def note() -> None:
        noted.append(1)

    with app.open():
        note.defer()
        note.batch_defer({}, {})
        app.run_worker(wait=False, install_signal_handlers=False)
    assert counts(engine, "procrastinate_jobs") == [len(noted)] == [3]


async def test_an_app_on_the_async_engine_of_a_tenant_has_the_one_queue(
    engine: sa.Engine, tenant_engine: sa.Engine, async_engine: AsyncEngine
) -> None:
    """This holds for one job and for several."""
    app = procrastinate.App(connector=async_engine.execution_options(**TENANT))
    async with app.open_async():
        await app.configure_task("task").defer_async()
        await app.configure_task("task").batch_defer_async({}, {})
    assert counts(engine, "procrastinate_jobs") == [3]


def test_the_schema_is_not_applied_to_the_schema_of_a_tenant(empty_database_url: str) -> None:
    """Other sessions would not find it there."""
    engine = sa.create_engine(empty_database_url)
    app = procrastinate.App(connector=engine.execution_options(**TENANT))
    with app.open():
        app.schema_manager.apply_schema()
    assert counts(engine, "public.procrastinate_jobs") == [0]
    engine.dispose()


def test_a_session_of_several_engines_gives_the_connection_of_the_queue(
    app: procrastinate.App, engine: sa.Engine
) -> None:
    """The session gives the connection of one of its engines, and the defer uses it."""
    Base.metadata.create_all(engine)
    with Session(binds={Note: engine}) as session, session.begin():
        session.add(Note())
        connection = session.connection(bind_arguments={"mapper": Note})
        app.configure_task("task", connection=connection).defer()
    assert counts(engine, "notes", "procrastinate_jobs") == [1, 1]


def test_so_does_a_session_of_flask_sqlalchemy(app: procrastinate.App, engine: sa.Engine, database_url: str) -> None:
    """Its default engine may connect to another database."""
    flask_app = flask.Flask(__name__)
    flask_app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite://"
    flask_app.config["SQLALCHEMY_BINDS"] = {"shop": database_url}
    db = SQLAlchemy(flask_app)
    with flask_app.app_context():
        with pytest.raises(TypeError, match="sqlite"):
            app.configure_task("task", connection=db.session).defer()
        connection = db.session.connection(bind_arguments={"bind": db.engines["shop"]})
        app.configure_task("task", connection=connection).defer()
        assert counts(engine, "procrastinate_jobs") == [0]
        db.session.commit()
        assert counts(engine, "procrastinate_jobs") == [1]
        for own_engine in db.engines.values():
            own_engine.dispose()


async def test_async_code_may_defer_with_a_session_of_flask_sqlalchemy(
    app: procrastinate.App, engine: sa.Engine, database_url: str
) -> None:
    """This happens in an asynchronous view. A thread uses the session, and keeps the application context."""
    flask_app = flask.Flask(__name__)
    flask_app.config["SQLALCHEMY_DATABASE_URI"] = database_url
    db = SQLAlchemy(flask_app)
    with flask_app.app_context():
        await app.configure_task("task", connection=db.session).batch_defer_async({}, {})
        assert counts(engine, "procrastinate_jobs") == [0]
        db.session.commit()
        db.engine.dispose()
    assert counts(engine, "procrastinate_jobs") == [2]


@pytest.mark.parametrize("end", ["commit", "rollback"])
async def test_sync_code_inside_an_async_session_may_defer(
    app: procrastinate.App, engine: sa.Engine, async_engine: AsyncEngine, end: str
) -> None:
    """The defer uses the session that ``run_sync`` passes."""

    def defer(session: Session) -> None:
        app.configure_task("task", connection=session).defer()
        app.configure_task("task", connection=session).batch_defer({}, {})
        assert len(app.job_manager.list_jobs(connection=session.connection())) == 3

    async with AsyncSession(async_engine) as session:
        await session.run_sync(defer)
        assert counts(engine, "procrastinate_jobs") == [0]
        await getattr(session, end)()
    assert counts(engine, "procrastinate_jobs") == [3 if end == "commit" else 0]


def test_a_hook_of_the_session_may_defer(app: procrastinate.App, engine: sa.Engine) -> None:
    """The hook runs during a flush."""
    Base.metadata.create_all(engine)

    def noted(mapper: Any, connection: sa.Connection, note: Note) -> None:
        app.configure_task("task", connection=connection).defer(note_id=note.id)

    sa.event.listen(Note, "after_insert", noted)
    try:
        with Session(engine) as session, session.begin():
            session.add(Note())
    finally:
        sa.event.remove(Note, "after_insert", noted)
    assert counts(engine, "notes", "procrastinate_jobs") == [1, 1]


@pytest.mark.parametrize(
    "options", [{"stream_results": True, "max_row_buffer": 2}, {"yield_per": 2}, {"no_parameters": True}], ids=str
)
def test_a_connection_with_options_for_the_statements_of_its_user_defers(
    app: procrastinate.App, database_url: str, options: dict[str, Any]
) -> None:
    """psycopg2 declares a cursor on the server for each statement of a connection that streams its rows."""
    engine = sa.create_engine(driver_url(database_url, "psycopg2"), execution_options=options)
    with engine.begin() as connection:
        for _ in range(2):
            app.configure_task("task", connection=connection).batch_defer({"n": 1}, {"n": 2})
        assert {name: connection.get_execution_options()[name] for name in options} == options
    on_engine = procrastinate.App(connector=engine)
    with on_engine.open():
        on_engine.configure_task("task").defer(n=3)
        assert len(list(on_engine.job_manager.list_jobs())) == 5
    engine.dispose()


class RoutingSession(Session):
    """A session that reads from a replica and writes to the primary, as in the documentation of SQLAlchemy."""

    primary: sa.Engine
    replica: sa.Engine

    def get_bind(self, mapper: Any = None, clause: Any = None, **options: Any) -> sa.Engine:
        """Return the engine for a statement."""
        return self.primary if self._flushing or isinstance(clause, sa.Update | sa.Delete) else self.replica


@pytest.fixture
def routing_session(engine: sa.Engine, database_url: str) -> Iterator[RoutingSession]:
    """Yield a session whose replica refuses writes."""
    read_only = {"options": "-c default_transaction_read_only=on"}
    RoutingSession.primary, RoutingSession.replica = engine, sa.create_engine(database_url, connect_args=read_only)
    with RoutingSession() as session:
        yield session
    RoutingSession.replica.dispose()


def test_a_session_that_reads_from_a_replica_defers_on_the_primary(
    app: procrastinate.App, engine: sa.Engine, routing_session: RoutingSession
) -> None:
    Base.metadata.create_all(engine)
    routing_session.add(Note())
    routing_session.flush()
    job_id = app.configure_task("task", connection=routing_session).defer()
    assert app.job_manager.get_job_status(job_id, connection=routing_session) == "todo"
    assert counts(engine, "notes", "procrastinate_jobs") == [0, 0]
    routing_session.commit()
    assert counts(engine, "notes", "procrastinate_jobs") == [1, 1]


def test_the_transaction_of_a_job_is_on_the_primary_of_a_session_that_reads_from_a_replica(
    engine: sa.Engine, database_url: str, routing_session: RoutingSession
) -> None:
    app = procrastinate.App(connector=database_url)

    @app.task(name="note", pass_context=True)
    def note(context: procrastinate.JobContext) -> None:
        with context.transaction(routing_session) as session:
            session.add(Note())

    Base.metadata.create_all(engine)
    with app.open():
        job_id = note.defer()
        app.run_worker(wait=False, install_signal_handlers=False)
        assert app.job_manager.get_job_status(job_id) == "succeeded"
    assert counts(engine, "notes") == [1]
