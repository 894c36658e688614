"""Time zones, as objects of several libraries."""

from __future__ import annotations

import datetime
import zoneinfo
from collections.abc import Callable
from typing import Any

import dateutil.tz
import pytest
import pytz

from procrastinate._checks.zones import as_timezone
from procrastinate.app import App
from procrastinate.from_celery.options import read_expires
from procrastinate.jobs import Job
from procrastinate.retry import RetryDecision
from procrastinate.testing.clock import Clock

PARIS = zoneinfo.ZoneInfo("Europe/Paris")
SUMMER = datetime.datetime(2026, 7, 1, 12, tzinfo=datetime.UTC)


class Standing(datetime.tzinfo):
    """A zone that is off by an hour where it is attached to what clocks show."""

    def utcoffset(self, moment: datetime.datetime | None) -> datetime.timedelta:
        return datetime.timedelta(hours=1)

    def dst(self, moment: datetime.datetime | None) -> datetime.timedelta:
        return datetime.timedelta()

    def fromutc(self, moment: datetime.datetime) -> datetime.datetime:
        return (moment + datetime.timedelta(hours=2)).replace(tzinfo=datetime.timezone(datetime.timedelta(hours=2)))


@pytest.mark.parametrize(
    "zone",
    [
        pytz.timezone("Europe/Paris"),
        pytz.timezone("Europe/Paris").localize(datetime.datetime(2026, 1, 1)).tzinfo,
        dateutil.tz.gettz("Europe/Paris"),
        "Europe/Paris",
        PARIS,
    ],
    ids=["pytz", "pytz, localized", "dateutil", "name", "zoneinfo"],
)
def test_a_zone_of_any_library_ticks_by_its_clocks(app: App, zone: Any) -> None:
    app.periodic(cron="0 8 * * *", timezone=zone)(app.task(name="morning")(lambda timestamp: None))
    (schedule,) = app.periodic_registry.periodic_tasks.values()
    shown = datetime.datetime.fromtimestamp(schedule.next_tick(SUMMER.timestamp()), tz=PARIS)
    assert (shown.hour, shown.minute) == (8, 0)


@pytest.mark.parametrize("zone", [pytz.utc, pytz.FixedOffset(90), dateutil.tz.UTC, datetime.UTC])
def test_a_fixed_offset_stays_what_it_is(zone: datetime.tzinfo) -> None:
    moment = datetime.datetime(2026, 7, 1)
    assert moment.replace(tzinfo=as_timezone(zone)).utcoffset() == moment.replace(tzinfo=zone).utcoffset()


def test_a_zone_that_contradicts_itself_is_refused() -> None:
    with pytest.raises(ValueError, match="write the name of the zone, like 'Europe/Paris'"):
        as_timezone(Standing())


@pytest.mark.parametrize("value", [5, None, b"UTC", datetime.timedelta(hours=1)])
def test_what_is_no_zone_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="timezone must be the name of a time zone"):
        as_timezone(value)


@pytest.mark.parametrize("name", ["", " ", "europe/paris ", "Europe", "/etc/localtime", "../UTC", "+02:00"])
def test_a_name_of_no_zone_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is not known here: write a name like 'Europe/Paris'"):
        as_timezone(name)


def test_a_schedule_in_local_mean_time_is_refused_with_the_way_to_write_it(app: App) -> None:
    attached = datetime.datetime(2026, 7, 1, 8, tzinfo=pytz.timezone("Europe/Paris"))
    task = app.task(name="later")(lambda: None)
    with pytest.raises(ValueError, match=r"schedule_at=.*tzinfo=zoneinfo\.ZoneInfo\('Europe/Paris'\)"):
        task.configure(schedule_at=attached)
    with pytest.raises(ValueError, match="retry_at="):
        RetryDecision(retry_at=attached)


def test_any_time_of_a_program_is_refused_in_local_mean_time(app: App) -> None:
    attached = datetime.datetime(2026, 7, 1, 8, tzinfo=pytz.timezone("Europe/Paris"))
    ways: list[Callable[[], Any]] = [
        lambda: app.job_manager.retry_job_by_id(1, attached),
        lambda: app.queues.pause("mail", until=attached),
        lambda: Job(queue="mail", lock=None, queueing_lock=None, task_name="later", scheduled_at=attached),
        lambda: read_expires(attached),
        lambda: Clock().freeze(attached),
    ]
    for way in ways:
        with pytest.raises(ValueError, match=r"is in local mean time.*zoneinfo\.ZoneInfo\('Europe/Paris'\)"):
            way()


@pytest.mark.parametrize("value", [datetime.date(2026, 7, 1), datetime.datetime(2026, 7, 1), "2026-07-01", 0])
def test_a_schedule_that_is_no_moment_is_refused(app: App, value: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="schedule_at must be an aware datetime"):
        app.task(name="later")(lambda: None).configure(schedule_at=value)


def test_a_localized_schedule_is_taken(app: App) -> None:
    localized = pytz.timezone("Europe/Paris").localize(datetime.datetime(2026, 7, 1, 8))
    assert app.task(name="later")(lambda: None).configure(schedule_at=localized).job.scheduled_at == localized
