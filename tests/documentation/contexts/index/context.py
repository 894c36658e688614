"""Sets up what the first page assumes: an app that is open, and a table of orders."""

import os

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import procrastinate

engine = sa.create_engine(os.environ["DATABASE_URL"])
queue = procrastinate.App(connector=engine)
queue.open()


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)


Base.metadata.create_all(engine)


def at_the_end() -> None:
    """The job runs, and the order is there."""
    queue.run_worker(wait=False)
    assert [job.status for job in queue.job_manager.list_jobs()] == ["succeeded"]
    with Session(engine) as session:
        assert session.get_one(Order, 1).id == 1
