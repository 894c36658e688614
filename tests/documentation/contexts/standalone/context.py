"""Sets up what the page assumes: imported names, an order, a job and a table."""

import asyncio  # noqa: F401
import os

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import procrastinate
from procrastinate.adapters.standalone import SQLAlchemyConnector  # noqa: F401

engine = sa.create_engine(os.environ["DATABASE_URL"])
async_session = AsyncSession(create_async_engine(os.environ["DATABASE_URL"]))
session = Session(engine)


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)


Base.metadata.create_all(engine)
order = Order()
own = procrastinate.App(connector=engine)
own.open()


@own.task
def send_receipt(order_id: int) -> None: ...


@own.task
def fail() -> None:
    raise ValueError("on purpose")


job_id = send_receipt.defer(order_id=0)


def before(statement: str) -> None:
    """Create a failed job before the statement that retries one."""
    global job_id
    if "retry_job_by_id" in statement:
        job_id = fail.defer()
        own.run_worker(wait=False, queues=["default"])


def at_the_end() -> None:
    """Check that the program of the page can be imported. tests/standalone/test_schema.py tests it further."""
    import search_path

    assert search_path.on_psycopg is not search_path.on_asyncpg
