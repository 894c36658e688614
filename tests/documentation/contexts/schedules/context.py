"""Checks what the page says. The page sets everything up by itself."""

import contextlib
import datetime as dt
import logging
import os
from collections.abc import Iterator
from typing import Any

import pytest


def at_the_end() -> None:
    """A schedule that is due becomes one job, and its next time is in the future."""
    _standalone()
    _django()


def _standalone() -> None:
    import reminders

    names = vars(reminders)
    schedule, session_of, engine, app = names["Schedule"], names["Session"], names["engine"], names["app"]
    now = dt.datetime.now(tz=dt.UTC)
    with app.open():
        for job in app.job_manager.list_jobs(status="todo"):
            app.job_manager.cancel_job_by_id(job.id)
        with session_of(engine) as session, session.begin():
            names["add_schedule"](session, "0 8 * * mon-fri", "Europe/Paris")
            with pytest.raises(ValueError, match="is not a cron expression"):
                names["add_schedule"](session, "every day", "Europe/Paris")
            for zone in ("Mars/Olympus", "Europe", ""):
                with pytest.raises(ValueError, match="There is no time zone"):
                    names["add_schedule"](session, "0 8 * * *", zone)
            wrong = {"cron": "0 8 * * *", "time_zone": "Mars/Olympus", "next_at": now - dt.timedelta(days=4)}
        with session_of(engine) as session, session.begin():
            (added,) = session.query(schedule)
            session.add(schedule(**wrong))
            paris = added.next_at.astimezone(names["zoneinfo"].ZoneInfo("Europe/Paris"))
            assert (paris.hour, paris.minute) == (8, 0)
            assert now < added.next_at < now + dt.timedelta(days=4)
            added.next_at = first = now - dt.timedelta(days=3)
        with _log_of("reminders") as messages:
            names["defer_reminders"].func(0)
            names["defer_reminders"].func(60)
        assert messages == ["Schedule 2 is wrong"] * 2
        (job,) = app.job_manager.list_jobs(status="todo")
        assert job.task_kwargs == {"schedule_id": 1, "due": first.isoformat()}
    with session_of(engine) as session, session.begin():
        assert session.get_one(schedule, 1).next_at > now
        names["change_schedule"](session, 1, "30 9 * * *", "UTC")
        names["change_schedule"](session, 2, "30 9 * * *", "Europe/Paris")
    with session_of(engine) as session, session.begin():
        changed = session.get_one(schedule, 1).next_at.astimezone(dt.UTC)
        assert (changed.hour, changed.minute) == (9, 30)
        assert session.get_one(schedule, 2).next_at > now
        names["remove_schedule"](session, 2)
    with session_of(engine) as session:
        assert [one.id for one in session.query(schedule)] == [1]
        _clocks(schedule(cron="30 2 * * *", time_zone="Europe/Berlin"))


@contextlib.contextmanager
def _log_of(name: str) -> Iterator[list[str]]:
    """Collect the messages of a logger, instead of showing them."""
    messages: list[str] = []
    logger, handler = logging.getLogger(name), logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]
    logger.addHandler(handler)
    yield messages
    logger.removeHandler(handler)


def _clocks(schedule: Any) -> None:
    """A skipped time comes once, at the change, and a repeated one comes the first time."""
    for start, expected in (
        (dt.datetime(2027, 3, 27, 12, tzinfo=dt.UTC), ["03-28T01:00", "03-29T00:30"]),
        (dt.datetime(2027, 10, 30, 12, tzinfo=dt.UTC), ["10-31T00:30", "11-01T01:30"]),
    ):
        schedule.next_at = start
        for text in expected:
            schedule.set_next(schedule.next_at)
            assert schedule.next_at.isoformat() == f"2027-{text}:00+00:00"


def _django() -> None:
    """The rows and the jobs of the task commit together, in a worker."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "mysite.settings"
    import django

    django.setup()
    from django.core.exceptions import ValidationError
    from django.db import connection
    from shop import tasks
    from shop.models import Schedule

    from procrastinate.contrib.django import app

    with connection.schema_editor() as editor:
        editor.create_model(Schedule)
    now = dt.datetime.now(tz=dt.UTC)
    schedule = Schedule(cron="*/5 * * * *")
    schedule.full_clean()
    schedule.save()
    assert schedule.next_at > now
    with pytest.raises(ValidationError, match="is not a cron expression"):
        Schedule(cron="every day").full_clean()
    with pytest.raises(ValidationError, match="There is no time zone"):
        Schedule(cron="*/5 * * * *", time_zone="Mars/Olympus").full_clean()
    wrong = Schedule(cron="*/5 * * * *")
    wrong.save()
    Schedule.objects.filter(pk=wrong.pk).update(time_zone="Mars/Olympus")
    Schedule.objects.update(next_at=now - dt.timedelta(hours=3))
    save, Schedule.save = Schedule.save, lambda _: 1 / 0
    failed = tasks.defer_reminders.defer(timestamp=0)
    _run(app)
    assert [job.id for job in app.job_manager.list_jobs(status="failed")] == [failed]
    assert not list(app.job_manager.list_jobs(task="shop.tasks.remind"))
    Schedule.save = save
    with _log_of("shop.tasks") as messages:
        for _ in range(2):
            tasks.defer_reminders.defer(timestamp=0)
            _run(app)
    assert messages == [f"Schedule {wrong.pk} is wrong"] * 2
    (job,) = app.job_manager.list_jobs(task="shop.tasks.remind")
    assert job.task_kwargs["schedule_id"] == schedule.pk
    schedule.refresh_from_db()
    assert schedule.next_at > now


def _run(app: Any) -> None:
    """Run the jobs, without the ticks of the minute."""
    app.periodic_registry.periodic_tasks.clear()
    app.run_worker(wait=False)
