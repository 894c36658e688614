"""Cron expressions."""

from __future__ import annotations

import datetime
import time
import zoneinfo
from collections.abc import Iterator
from typing import Any

import pytest

from procrastinate.cron import check_cron, next_tick, previous_tick
from tests.local_zone import local_zone


def at(text: str) -> float:
    """A time in UTC, in seconds since 1970."""
    return datetime.datetime.fromisoformat(text).replace(tzinfo=datetime.UTC).timestamp()


@pytest.fixture
def in_new_york() -> Iterator[None]:
    """A machine whose local time jumps twice a year."""
    with local_zone("America/New_York"):
        yield


def test_a_changed_time_zone_of_the_process_is_restored() -> None:
    with local_zone("Asia/Tokyo"):
        with local_zone("America/New_York"):
            assert time.tzname[0] == "EST"
        assert time.tzname[0] == "JST"


@pytest.mark.parametrize(
    ("cron", "now", "tick"),
    [
        ("*/5 * * * *", "2024-01-01 00:03:10", "2024-01-01 00:05:00"),
        ("*/5 * * * *", "2024-01-01 00:05:00", "2024-01-01 00:10:00"),
        ("* * * * * */20", "2024-01-01 00:00:05", "2024-01-01 00:00:20"),
        ("0 3 * * mon", "2024-01-02 00:00:00", "2024-01-08 03:00:00"),
        ("0 0 29 2 *", "2024-03-01 00:00:00", "2028-02-29 00:00:00"),
        ("@daily", "2024-01-01 12:00:00", "2024-01-02 00:00:00"),
    ],
)
def test_the_next_tick(cron: str, now: str, tick: str) -> None:
    assert next_tick(cron, at(now)) == at(tick)


@pytest.mark.parametrize(
    ("cron", "now", "tick"),
    [
        ("*/5 * * * *", "2024-01-01 00:03:10", "2024-01-01 00:00:00"),
        ("* * * * * */20", "2024-01-01 00:00:45", "2024-01-01 00:00:40"),
        ("0 0 29 2 *", "2024-01-01 00:00:00", "2020-02-29 00:00:00"),
    ],
)
def test_the_last_tick(cron: str, now: str, tick: str) -> None:
    assert previous_tick(cron, at(now)) == at(tick)


def test_a_tick_counts_from_its_very_moment() -> None:
    tick = at("2024-01-01 00:05:00")
    assert previous_tick("*/5 * * * *", tick) == tick
    assert previous_tick("*/5 * * * *", tick + 0.0001) == tick
    assert previous_tick("*/5 * * * *", tick - 1) == tick - 300


@pytest.mark.usefixtures("in_new_york")
@pytest.mark.parametrize("day", ["2024-03-10", "2024-11-03"])
def test_ticks_are_in_utc_whatever_the_machine_and_daylight_saving_say(day: str) -> None:
    ticks = []
    tick = at(f"{day} 00:00:00") - 1
    for _ in range(24):
        tick = next_tick("30 * * * *", tick)
        ticks.append(tick)
    assert ticks == [at(f"{day} {hour:02}:30:00") for hour in range(24)]
    assert next_tick("0 2 * * *", at(f"{day} 00:00:00")) == at(f"{day} 02:00:00")


@pytest.mark.parametrize("cron", ["* * * * *", "*/5 * * * * *", "0 0 L * *", "@hourly", "0 0 29 2 *", "0 0 * * 7"])
def test_what_a_cron_expression_is(cron: str) -> None:
    check_cron(cron)


@pytest.mark.parametrize(
    "cron",
    ["", "often", "* * * *", "60 * * * *", "* * * * * 60", "*/0 * * * *", "@reboot", "0 0 1 1 * 0 2020", None, 5],
)
def test_what_is_none_is_refused_with_an_example(cron: Any) -> None:
    with pytest.raises(ValueError, match=r"is not a cron expression.*five fields") as caught:
        check_cron(cron)
    assert repr(cron) in str(caught.value)


@pytest.mark.parametrize("cron", ["0 0 30 2 *", "0 0 31 4,6 *"])
def test_a_day_that_never_comes_is_refused(cron: str) -> None:
    with pytest.raises(ValueError, match="never"):
        check_cron(cron)


def test_ticks_at_random_are_refused_because_each_worker_would_have_its_own() -> None:
    with pytest.raises(ValueError, match="random"):
        check_cron("R * * * *")


# Time zones

PARIS = zoneinfo.ZoneInfo("Europe/Paris")
"""Clocks go from 2:00 to 3:00 on 2024-03-31 at 1:00 UTC, and from 3:00 to 2:00 on 2024-10-27 at 1:00 UTC."""


def ticks_between(cron: str, start: str, end: str, timezone: datetime.tzinfo = PARIS) -> list[str]:
    """The ticks, in UTC, found forwards; backwards they must be the same."""
    forwards, backwards = [], []
    tick = next_tick(cron, at(start) - 1, timezone)
    while tick <= at(end):
        forwards.append(tick)
        tick = next_tick(cron, tick, timezone)
    tick = previous_tick(cron, at(end), timezone)
    while tick >= at(start):
        backwards.append(tick)
        tick = previous_tick(cron, tick - 1, timezone)
    assert forwards == backwards[::-1]
    return [f"{datetime.datetime.fromtimestamp(tick, tz=datetime.UTC):%d %H:%M}" for tick in forwards]


@pytest.mark.parametrize(
    ("cron", "ticks"),
    [
        ("30 2 * * *", ["30 01:30", "31 01:00", "01 00:30"]),
        ("*/20 2 * * *", ["30 01:00", "30 01:20", "30 01:40", "31 01:00", "01 00:00", "01 00:20", "01 00:40"]),
        ("0 3 * * *", ["30 02:00", "31 01:00", "01 01:00"]),
        ("0 2,3 * * *", ["30 01:00", "30 02:00", "31 01:00", "01 00:00", "01 01:00"]),
        ("0 4 * * sun", ["31 02:00"]),
    ],
)
def test_a_time_that_is_left_out_ticks_once_when_clocks_change(cron: str, ticks: list[str]) -> None:
    assert ticks_between(cron, "2024-03-30 00:00:00", "2024-04-01 12:00:00") == ticks


@pytest.mark.parametrize(
    ("cron", "ticks"),
    [
        ("30 2 * * *", ["26 00:30", "27 00:30", "28 01:30"]),
        ("*/30 2 * * *", ["26 00:00", "26 00:30", "27 00:00", "27 00:30", "28 01:00", "28 01:30"]),
        ("0 3 * * *", ["26 01:00", "27 02:00", "28 02:00"]),
        ("30 1-3 27 * *", ["26 23:30", "27 00:30", "27 02:30"]),
    ],
)
def test_a_time_that_occurs_twice_ticks_once(cron: str, ticks: list[str]) -> None:
    assert ticks_between(cron, "2024-10-25 22:00:00", "2024-10-28 12:00:00") == ticks


@pytest.mark.parametrize("day", ["2024-03-31", "2024-10-27"])
def test_a_schedule_of_every_hour_does_not_mind_the_change(day: str) -> None:
    assert ticks_between("*/30 * * * *", f"{day} 00:00:00", f"{day} 02:00:00") == [
        f"{day[-2:]} {time}" for time in ("00:00", "00:30", "01:00", "01:30", "02:00")
    ]


def test_a_schedule_of_every_hour_is_by_clocks_that_are_half_an_hour_off() -> None:
    kolkata = zoneinfo.ZoneInfo("Asia/Kolkata")
    assert ticks_between("@hourly", "2024-01-01 00:00:00", "2024-01-01 02:00:00", kolkata) == ["01 00:30", "01 01:30"]


def test_ticks_of_each_second_are_found_in_the_hour_that_occurs_twice() -> None:
    during_the_second = at("2024-10-27 01:30:00")
    assert previous_tick("* 2 * * * *", during_the_second, PARIS) == at("2024-10-27 00:59:59")
    assert next_tick("* 2 * * * *", during_the_second, PARIS) == at("2024-10-28 01:00:00")


@pytest.mark.parametrize("name", ["Europe/Paris", "Australia/Lord_Howe", "America/St_Johns", "Africa/Casablanca"])
@pytest.mark.parametrize("cron", ["15 2 * * *", "45 1,2 * * *", "0 0 * * *", "30 1-4 * * sun"])
def test_each_day_has_its_ticks_forwards_and_backwards(name: str, cron: str) -> None:
    ticks = ticks_between(cron, "2024-01-01 00:00:00", "2024-12-31 00:00:00", zoneinfo.ZoneInfo(name))
    assert len(ticks) >= {"15 2 * * *": 364, "45 1,2 * * *": 729, "0 0 * * *": 364, "30 1-4 * * sun": 206}[cron]
