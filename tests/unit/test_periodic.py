"""Periodic tasks: the registry, and the ticks that are due."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import logging
import re
import zoneinfo
from collections.abc import Sequence
from typing import Any

import pytest

from procrastinate import core, exceptions
from procrastinate.app import App
from procrastinate.blueprints import Blueprint
from procrastinate.defer_hooks import Tick
from procrastinate.jobs import Job
from procrastinate.manager import JobManager
from procrastinate.periodic import PeriodicDeferrer, PeriodicRegistry, TaskAtTime
from procrastinate.types import OnConflict
from tests.unit.recording import RecordingConnector

MINUTE = 60
NOW = datetime.datetime(2024, 1, 1, 12, 0, 30, tzinfo=datetime.UTC).timestamp()
TICK = int(NOW) - 30


class TickManager(JobManager):
    """Accepts ticks and records them, and refuses the jobs of some tasks."""

    def __init__(self) -> None:
        super().__init__(RecordingConnector())
        self.ticks: list[tuple[str, str, int]] = []
        self.jobs: list[Job] = []
        self.kept_for: set[float] = set()
        self.raises: dict[str, Exception] = {}
        self.answer: int | None = 1
        self.clock = NOW

    async def read_clock(self) -> float:
        return self.clock

    async def defer_periodic_job(
        self,
        job: Job,
        periodic_id: str,
        defer_timestamp: int,
        *,
        on_conflict: OnConflict = "raise",
        keep_for: float = 0.0,
        tick: Tick | None = None,
        former_names: Sequence[str] = (),
    ) -> int | None:
        self.kept_for.add(keep_for)
        if job.task_name in self.raises:
            raise self.raises[job.task_name]
        self.ticks.append((job.task_name, periodic_id, defer_timestamp))
        self.jobs.append(job)
        return self.answer


@pytest.fixture
def manager() -> TickManager:
    return TickManager()


def add_periodic(app: Blueprint, name: str, cron: str, periodic_id: str = "", **options: Any) -> None:
    """Declare a periodic task."""

    @app.periodic(cron=cron, periodic_id=periodic_id, **options)
    @app.task(name=name)
    def task(timestamp: int, full: bool = False) -> None: ...


def names_and_ticks(ticks: Any) -> list[tuple[str, int]]:
    return [(periodic_task.task.name, timestamp) for periodic_task, timestamp in ticks]


# The registry


def test_a_task_is_registered_by_its_name_and_periodic_id(app: App) -> None:
    add_periodic(app, "report", "0 * * * *", periodic_id="hourly")
    ((key, periodic_task),) = app.periodic_registry.periodic_tasks.items()
    assert key == ("report", "hourly")
    assert periodic_task.task is app.tasks["report"]
    assert periodic_task.cron == "0 * * * *"


def test_one_task_may_have_several_schedules(app: App) -> None:
    task: Any = app.task(name="report")(lambda timestamp, late=False: None)
    app.periodic(cron="0 8 * * *", periodic_id="morning")(task)
    app.periodic(cron="0 20 * * *", periodic_id="evening", task_kwargs={"late": True})(task)
    assert set(app.periodic_registry.periodic_tasks) == {("report", "morning"), ("report", "evening")}


def test_two_schedules_with_one_periodic_id_are_refused(app: App) -> None:
    add_periodic(app, "report", "0 8 * * *")
    with pytest.raises(exceptions.TaskAlreadyRegistered, match="periodic_id="):
        app.periodic(cron="0 20 * * *")(app.tasks["report"])
    assert app.periodic_registry.periodic_tasks[("report", "")].cron == "0 8 * * *"


def test_a_wrong_cron_is_refused_where_it_is_written(app: App) -> None:
    with pytest.raises(ValueError, match="'every day' is not a cron expression"):
        app.periodic(cron="every day")


def test_an_unknown_option_is_refused_where_it_is_written(app: App) -> None:
    with pytest.raises(TypeError, match="'quue'"):
        app.periodic(cron="* * * * *", quue="mail")  # type: ignore[call-arg]


def test_the_decorator_returns_the_task(app: App) -> None:
    @app.task(name="report")
    def report(timestamp: int) -> str:
        return "done"

    declared: object = report
    assert app.periodic(cron="* * * * *")(report) is declared
    assert report(1) == "done"


def test_an_app_takes_in_the_schedules_of_a_blueprint_under_the_new_names(app: App) -> None:
    blueprint = Blueprint()
    add_periodic(blueprint, "report", "* * * * *", periodic_id="x")
    app.add_tasks_from(blueprint, namespace="sales")
    assert set(app.periodic_registry.periodic_tasks) == {("sales:report", "x")}


# Due ticks


def test_a_deferrer_that_starts_takes_the_last_tick(app: App) -> None:
    add_periodic(app, "report", "*/5 * * * *")
    deferrer = PeriodicDeferrer(app.periodic_registry)
    assert names_and_ticks(deferrer.get_previous_tasks(NOW)) == [("report", TICK)]


def test_a_deferrer_that_starts_ignores_a_tick_older_than_max_delay(app: App, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="procrastinate")
    add_periodic(app, "report", "*/5 * * * *")
    deferrer = PeriodicDeferrer(app.periodic_registry, max_delay=10)
    assert names_and_ticks(deferrer.get_previous_tasks(NOW)) == []
    record = vars(caplog.records[-1])
    assert record["action"] == "ignore_periodic_task"
    assert (record["last_timestamp"], record["delay"]) == (TICK, pytest.approx(30))


def test_after_an_ignored_tick_the_next_one_is_taken(app: App) -> None:
    add_periodic(app, "report", "*/5 * * * *")
    deferrer = PeriodicDeferrer(app.periodic_registry, max_delay=10)
    assert names_and_ticks(deferrer.get_previous_tasks(NOW)) == []
    assert names_and_ticks(deferrer.get_previous_tasks(NOW + 5 * MINUTE)) == [("report", TICK + 5 * MINUTE)]


async def test_a_tick_is_taken_once(app: App, manager: TickManager) -> None:
    add_periodic(app, "report", "* * * * *")
    deferrer = PeriodicDeferrer(app.periodic_registry, job_manager=manager)
    await deferrer.defer_jobs(deferrer.get_previous_tasks(NOW))
    await deferrer.defer_jobs(deferrer.get_previous_tasks(NOW + 1))
    assert manager.ticks == [("report", "", TICK)]


async def ticks_after_a_pause(app: App, manager: TickManager, max_delay: float, pause: float) -> list[int]:
    """Return the ticks that a deferrer defers after a pause of `pause` seconds."""
    deferrer = PeriodicDeferrer(app.periodic_registry, max_delay=max_delay, job_manager=manager)
    await deferrer.defer_jobs(deferrer.get_previous_tasks(NOW))
    manager.ticks.clear()
    await deferrer.defer_jobs(deferrer.get_previous_tasks(NOW + pause))
    return [tick for _, _, tick in manager.ticks]


async def test_ticks_missed_during_a_pause_are_all_deferred_later(app: App, manager: TickManager) -> None:
    add_periodic(app, "report", "* * * * *")
    ticks = await ticks_after_a_pause(app, manager, max_delay=3600, pause=30 * MINUTE)
    assert ticks == [TICK + minute * MINUTE for minute in range(1, 31)]


async def test_missed_ticks_older_than_max_delay_are_not_made_up_for(app: App, manager: TickManager) -> None:
    add_periodic(app, "report", "* * * * * *")
    ticks = await ticks_after_a_pause(app, manager, max_delay=60, pause=1_000_000)
    assert ticks == [int(NOW) + 1_000_000 - second for second in range(60, -1, -1)]


async def test_the_last_tick_is_made_up_for_however_old_it_is(app: App, manager: TickManager) -> None:
    """A nightly report must not be lost in a temporary outage of the database."""
    add_periodic(app, "report", "0 * * * *")
    assert await ticks_after_a_pause(app, manager, max_delay=60, pause=150 * MINUTE) == [TICK + 120 * MINUTE]
    assert await ticks_after_a_pause(app, manager, max_delay=60, pause=5 * MINUTE) == []


async def test_ticks_go_on_when_the_clock_is_set_back(app: App, manager: TickManager) -> None:
    add_periodic(app, "report", "* * * * *")
    assert await ticks_after_a_pause(app, manager, max_delay=600, pause=-60 * MINUTE) == [TICK - 60 * MINUTE]


async def test_the_time_is_the_databases_and_not_the_machines(app: App, manager: TickManager) -> None:
    add_periodic(app, "report", "* * * * *")
    deferrer = PeriodicDeferrer(app.periodic_registry, job_manager=manager)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(deferrer.worker(), 0.05)
    assert manager.ticks == [("report", "", TICK)]


async def test_the_deferrer_never_sleeps_for_long(
    app: App, manager: TickManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock that measures the sleep stops while the machine is suspended."""
    add_periodic(app, "report", "0 0 1 1 *")
    deferrer = PeriodicDeferrer(app.periodic_registry, job_manager=manager)
    waits: list[float] = []

    async def wait(next_tick: float) -> None:
        waits.append(next_tick)
        raise KeyError

    monkeypatch.setattr(deferrer, "wait", wait)
    with pytest.raises(KeyError):
        await deferrer.worker()
    assert waits == [MINUTE]


# Time zones


def test_a_schedule_may_be_by_the_clocks_of_a_time_zone(app: App) -> None:
    """Noon in UTC is one o'clock in Paris, and seven in New York."""
    add_periodic(app, "paris", "0 13 * * *", timezone="Europe/Paris")
    add_periodic(app, "york", "0 7 * * *", timezone=zoneinfo.ZoneInfo("America/New_York"))
    add_periodic(app, "utc", "0 12 * * *")
    deferrer = PeriodicDeferrer(app.periodic_registry)
    ticks = names_and_ticks(deferrer.get_previous_tasks(NOW))
    assert ticks == [("paris", TICK), ("york", TICK), ("utc", TICK)]
    assert deferrer.get_next_tick(NOW) == 24 * 60 * MINUTE - 30


@pytest.mark.parametrize("cron", ["30 2 * * *", "0 12 * * *"])
@pytest.mark.parametrize("month", [3, 10])
async def test_a_daily_tick_comes_once_a_day_also_when_clocks_change(
    app: App, manager: TickManager, cron: str, month: int
) -> None:
    """In Paris, half past two is skipped on 30 March 2025, and repeated on 26 October."""
    add_periodic(app, "report", cron, timezone="Europe/Paris")
    deferrer = PeriodicDeferrer(app.periodic_registry, job_manager=manager)
    paris = zoneinfo.ZoneInfo("Europe/Paris")
    first = datetime.datetime(2025, month, 24, 13, tzinfo=paris).timestamp()
    for minutes in range(0, 6 * 24 * 60 + 180, 10):
        await deferrer.defer_jobs(deferrer.get_previous_tasks(first + minutes * MINUTE))
    days = [datetime.datetime.fromtimestamp(tick, paris).day for _, _, tick in manager.ticks]
    assert days == [25, 26, 27, 28, 29, 30]


def test_a_blueprint_takes_its_time_zones_along(app: App) -> None:
    blueprint = Blueprint()
    add_periodic(blueprint, "report", "0 13 * * *", timezone="Europe/Paris")
    app.add_tasks_from(blueprint, namespace="sales")
    (periodic_task,) = app.periodic_registry.periodic_tasks.values()
    assert periodic_task.next_tick(NOW - MINUTE) == TICK


@pytest.mark.parametrize("wrong", ["Europe/Pariss", "", "../etc", "Europe"])
def test_a_time_zone_that_is_not_known_is_refused_where_it_is_written(app: App, wrong: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"timezone={wrong!r}")):
        app.periodic(cron="* * * * *", timezone=wrong)


def test_what_is_no_time_zone_is_refused_by_name(app: App) -> None:
    wrong: Any = 1
    with pytest.raises(TypeError, match="timezone must be"):
        app.periodic(cron="* * * * *", timezone=wrong)


def test_the_next_tick_is_that_of_the_first_task(app: App) -> None:
    add_periodic(app, "hourly", "0 * * * *")
    add_periodic(app, "often", "*/5 * * * *")
    assert PeriodicDeferrer(app.periodic_registry).get_next_tick(NOW) == 4.5 * MINUTE


async def test_without_periodic_tasks_the_deferrer_is_done(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="procrastinate")
    await PeriodicDeferrer(PeriodicRegistry()).worker()
    assert [vars(record)["action"] for record in caplog.records] == ["periodic_deferrer_no_task"]


async def test_a_look_that_loses_its_connection_is_repeated_before_it_counts(app: App, manager: TickManager) -> None:
    """A one-shot worker waits for it."""
    add_periodic(app, "report", "* * * * *")
    deferrer = PeriodicDeferrer(app.periodic_registry, job_manager=manager)
    manager.raises["report"] = exceptions.DatabaseUnavailable()
    for _ in range(2):
        with pytest.raises(exceptions.DatabaseUnavailable):
            await deferrer.worker()
    assert not deferrer.has_looked.is_set()
    del manager.raises["report"]
    deferring = asyncio.create_task(deferrer.worker())
    await deferrer.has_looked.wait()
    assert len(manager.ticks) == 1
    deferring.cancel()


# Deferred jobs


async def defer_one(app: App, manager: TickManager) -> None:
    deferrer = PeriodicDeferrer(app.periodic_registry, job_manager=manager)
    await deferrer.defer_jobs(deferrer.get_previous_tasks(NOW))


async def test_a_job_carries_its_tick_and_the_options_of_the_schedule(app: App, manager: TickManager) -> None:
    add_periodic(
        app, "report", "* * * * *", periodic_id="x", queue="slow", priority=3, lock="l", task_kwargs={"full": True}
    )
    await defer_one(app, manager)
    (job,) = manager.jobs
    assert (job.queue, job.priority, job.lock) == ("slow", 3, "l")
    assert job.task_kwargs == {"full": True, "timestamp": TICK}
    assert manager.ticks == [("report", "x", TICK)]


async def test_a_schedule_within_the_schedule_is_ignored(app: App, manager: TickManager) -> None:
    later = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)
    add_periodic(app, "report", "* * * * *", schedule_at=later)
    add_periodic(app, "other", "* * * * *", schedule_in={"days": 1})
    await defer_one(app, manager)
    assert [job.scheduled_at for job in manager.jobs] == [None, None]


@pytest.mark.parametrize(
    ("answer", "error", "action"),
    [
        (7, None, "periodic_task_deferred"),
        (None, None, "periodic_task_already_deferred"),
        (None, exceptions.AlreadyEnqueued(), "skip_periodic_task_queueing_lock"),
    ],
)
async def test_what_became_of_a_tick_is_logged(
    app: App,
    manager: TickManager,
    caplog: pytest.LogCaptureFixture,
    answer: int | None,
    error: Exception | None,
    action: str,
) -> None:
    caplog.set_level(logging.DEBUG, logger="procrastinate")
    add_periodic(app, "report", "* * * * *")
    manager.answer = answer
    if error is not None:
        manager.raises["report"] = error
    await defer_one(app, manager)
    assert vars(caplog.records[-1])["action"] == action
    assert vars(caplog.records[-1])["defer_timestamp"] == TICK


async def test_a_task_that_cannot_be_deferred_does_not_hold_up_the_others(
    app: App, manager: TickManager, caplog: pytest.LogCaptureFixture
) -> None:
    add_periodic(app, "first", "* * * * *")
    add_periodic(app, "wrong", "* * * * *")
    add_periodic(app, "last", "* * * * *")
    manager.raises["wrong"] = exceptions.InvalidJob("No such thing")
    await defer_one(app, manager)
    assert [name for name, _, _ in manager.ticks] == ["first", "last"]
    (record,) = (record for record in caplog.records if record.levelno == logging.ERROR)
    assert "wrong" in record.getMessage()
    assert vars(record)["action"] == "periodic_task_error"


async def test_a_database_that_is_away_is_told_and_the_tick_is_not_lost(app: App, manager: TickManager) -> None:
    add_periodic(app, "report", "* * * * *")
    deferrer = PeriodicDeferrer(app.periodic_registry, job_manager=manager)
    manager.raises["report"] = exceptions.DatabaseUnavailable()
    with pytest.raises(exceptions.DatabaseUnavailable):
        await deferrer.defer_jobs(deferrer.get_previous_tasks(NOW))
    manager.raises.clear()
    await deferrer.defer_jobs(deferrer.get_previous_tasks(NOW))
    assert manager.ticks == [("report", "", TICK)]


def test_a_tick_is_a_whole_number(app: App) -> None:
    add_periodic(app, "report", "* * * * * *")
    ticks: list[TaskAtTime] = list(PeriodicDeferrer(app.periodic_registry).get_previous_tasks(NOW + 0.7))
    assert [timestamp for _, timestamp in ticks] == [int(NOW)]


def test_tick_outcomes_name_what_happened() -> None:
    assert core.TickOutcome(job_id=3).queueing_lock_taken is False


async def test_ticks_are_kept_for_longer_than_they_are_made_up_for(app: App, manager: TickManager) -> None:
    """Otherwise a tick could be deferred twice."""
    add_periodic(app, "minutely", "* * * * *")
    for max_delay in (600.0, 1_000_000.0):
        manager.kept_for.clear()
        deferrer = PeriodicDeferrer(app.periodic_registry, max_delay, manager)
        await deferrer.defer_jobs(deferrer.get_previous_tasks(NOW))
        assert min(manager.kept_for) >= max_delay + 3600
