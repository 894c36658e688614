"""Sets up what the page assumes: an app that is open, and the names of an ORM."""

import os

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column  # noqa: F401

import procrastinate

engine = sa.create_engine(os.environ["DATABASE_URL"])
app = procrastinate.App(connector=engine)
app.open()


class Base(DeclarativeBase):
    pass


def at_the_end() -> None:
    """The row has the progress of the job that has run."""
    app.run_worker(wait=False)
    with Session(engine) as session:
        assert session.get_one(globals()["Export"], 1).done == 3
