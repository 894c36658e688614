"""Sets up what the page assumes: an app that is open, and the names of an ORM."""

import datetime
import os

import django
import sqlalchemy as sa
from django.conf import settings
from sqlalchemy.orm import DeclarativeBase, Session

import procrastinate

engine = sa.create_engine(os.environ["DATABASE_URL"])
app = procrastinate.App(connector=engine)
app.open()

address = sa.make_url(os.environ["DATABASE_URL"])
settings.configure(
    INSTALLED_APPS=["procrastinate.contrib.django"],
    USE_TZ=True,
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": address.database,
            "USER": address.username,
            "HOST": address.query.get("host") or address.host,
            "PORT": address.query.get("port") or address.port or "",
        }
    },
)
django.setup()

from django.db import connection, models  # noqa: E402

from procrastinate.contrib.django import app as project_app  # noqa: E402


class ScheduleModel(models.Model):
    cron = models.TextField()
    zone = models.TextField()
    next_at = models.DateTimeField()

    class Meta:
        app_label = "shop"


@project_app.task(name="project_report")
def project_report(schedule_id: int) -> None: ...


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
    check_schedules(now)
    check_models(now)


def check_schedules(now: datetime.datetime) -> None:
    """A schedule keeps its time of day in its zone when summer time begins and ends."""
    names = globals()
    next_tick, schedule = names["next_tick"], names["Schedule"]
    days = {"2026-03-28T12:00": "2026-03-29T07:00", "2026-03-27T12:00": "2026-03-28T08:00"}
    days |= {"2026-10-24T12:00": "2026-10-25T08:00", "2026-10-23T12:00": "2026-10-24T07:00"}
    for after, then in days.items():
        start = datetime.datetime.fromisoformat(f"{after}+00:00")
        found = next_tick("0 9 * * *", "Europe/Berlin", start)
        assert found == datetime.datetime.fromisoformat(f"{then}+00:00"), (after, found)
    with Session(engine) as session, session.begin():
        three_days_ago = now - datetime.timedelta(days=3)
        session.add(schedule(id=1, cron="0 9 * * *", zone="Europe/Berlin", next_at=three_days_ago))
    names["defer_reports"].func(0)
    names["defer_reports"].func(60)
    assert len(list(app.job_manager.list_jobs(task=names["report"].name))) == 1
    with Session(engine) as session:
        assert session.get_one(schedule, 1).next_at > now


def check_models(now: datetime.datetime) -> None:
    """A row of the model that is due becomes one job."""
    with connection.schema_editor() as editor:
        editor.create_model(ScheduleModel)
    row = ScheduleModel.objects.create(cron="0 9 * * *", zone="Europe/Berlin", next_at=now)
    globals()["defer_reports_of_models"].func(0)
    globals()["defer_reports_of_models"].func(60)
    row.refresh_from_db()
    assert row.next_at > now
    assert len(list(app.job_manager.list_jobs(task="project_report"))) == 1
