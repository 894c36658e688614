"""Sets up what the page assumes: an app that is open, and the names of an ORM."""

import datetime
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
    """A reminder that is due becomes one job, and its next time is in the future."""
    names = globals()
    reminder, now = names["Reminder"], datetime.datetime.now(tz=datetime.UTC)
    Base.metadata.create_all(engine)
    for job in app.job_manager.list_jobs():
        assert job.scheduled_at is not None
        app.job_manager.cancel_job_by_id(job.id or 0)
    with Session(engine) as session, session.begin():
        session.add(reminder(id=1, next_at=now - datetime.timedelta(days=3), every=datetime.timedelta(days=1)))
    names["defer_reminders"].func(0)
    names["defer_reminders"].func(60)
    assert len(list(app.job_manager.list_jobs(status="todo"))) == 1
    with Session(engine) as session:
        assert session.get_one(reminder, 1).next_at > now
