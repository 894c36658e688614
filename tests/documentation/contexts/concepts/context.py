"""What the page on concepts takes for granted: an app that is open, and a table of orders."""

import os

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import procrastinate

engine = sa.create_engine(os.environ["DATABASE_URL"])
app = procrastinate.App(connector=engine)
app.open()


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)


Base.metadata.create_all(engine)


def at_the_end() -> None:
    """The jobs of the page run, except the one with a schedule."""
    app.run_worker(wait=False)
    statuses = sorted(str(job.status) for job in app.job_manager.list_jobs())
    assert statuses == ["succeeded", "succeeded", "succeeded", "todo"]
    with Session(engine) as session:
        assert session.get_one(Order, 7).id == 7
