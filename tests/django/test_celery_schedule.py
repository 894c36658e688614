"""``manage.py procrastinate celery-schedule``: rows of django-celery-beat, printed as declarations."""

from __future__ import annotations

import sys

import pytest

from tests.django.support import manage, run_ok

SETTINGS = "tests.django.project.settings_celery_beat"
ROUTED = "tests.django.project.settings_celery_routes"
ROWS = """
import datetime
from django.utils import timezone
from django_celery_beat.models import ClockedSchedule, CrontabSchedule, IntervalSchedule, PeriodicTask
crontab = CrontabSchedule.objects.create(minute="30", hour="4", timezone="America/Lima")
interval = IntervalSchedule.objects.create(every=10, period="seconds")
PeriodicTask.objects.filter().delete()
PeriodicTask.objects.create(name="nightly", task="shop.report", crontab=crontab, args='["sales"]', queue="reports")
PeriodicTask.objects.create(name="often", task="shop.tick", interval=interval, kwargs='{"a": 1}', expire_seconds=5)
PeriodicTask.objects.create(name="off", task="shop.off", interval=interval, enabled=False)
clocked = ClockedSchedule.objects.create(clocked_time=timezone.now() + datetime.timedelta(days=1))
PeriodicTask.objects.create(name="once", task="shop.once", clocked=clocked, one_off=True)
"""
EXPECTED = """
app.periodic(
    cron='30 4 * * *',
    periodic_id='nightly',
    timezone='America/Lima',
    queue='reports',
    task_kwargs={'args': ['sales']},
)(app.tasks['shop.report'])

app.periodic(
    cron='* * * * * */10',
    periodic_id='often',
    timezone='Europe/Paris',
    task_kwargs={'kwargs': {'a': 1}, 'expires_in': 5},
)(app.tasks['shop.tick'])

# NOT TRANSLATED: once, task shop.once: a schedule of the kind PeriodicTask has no cron expression
"""


only_with_beat = pytest.mark.skipif(
    sys.version_info >= (3, 12), reason="django-celery-beat holds Django below the newest release"
)


@only_with_beat
def test_enabled_rows_are_printed_as_declarations(empty_database_url: str) -> None:
    run_ok("migrate", "django_celery_beat", "-v0", url=empty_database_url, settings=SETTINGS)
    run_ok("shell", "-c", ROWS, url=empty_database_url, settings=SETTINGS)
    printed = run_ok("procrastinate", "celery-schedule", url=empty_database_url, settings=SETTINGS)
    assert printed.strip() == EXPECTED.strip()


STARTS = """
day = datetime.timedelta(days=1)
PeriodicTask.objects.filter(name="nightly").update(start_time=timezone.now() - day)
PeriodicTask.objects.create(name="later", task="shop.later", interval=interval, start_time=timezone.now() + day)
"""


@only_with_beat
def test_a_row_that_starts_later_is_not_printed_as_a_schedule_that_starts_now(empty_database_url: str) -> None:
    run_ok("migrate", "django_celery_beat", "-v0", url=empty_database_url, settings=SETTINGS)
    run_ok("shell", "-c", ROWS + STARTS, url=empty_database_url, settings=SETTINGS)
    printed = run_ok("procrastinate", "celery-schedule", url=empty_database_url, settings=SETTINGS)
    later = "# NOT TRANSLATED: later, task shop.later: its option start_time has no counterpart"
    assert printed.strip() == f"{EXPECTED.strip()}\n\n{later}"


BROKEN = """
PeriodicTask.objects.create(name="text", task="shop.text", interval=interval)
PeriodicTask.objects.create(name="none", task="shop.none", interval=interval)
PeriodicTask.objects.create(name="five", task="shop.five", interval=interval)
PeriodicTask.objects.filter(name="text").update(args="[1")
PeriodicTask.objects.filter(name="none").update(interval=None)
PeriodicTask.objects.filter(name="five").update(args="5")
"""


@only_with_beat
def test_a_row_that_cannot_be_read_does_not_keep_the_others_from_being_printed(empty_database_url: str) -> None:
    run_ok("migrate", "django_celery_beat", "-v0", url=empty_database_url, settings=SETTINGS)
    run_ok("shell", "-c", ROWS + BROKEN, url=empty_database_url, settings=SETTINGS)
    printed = run_ok("procrastinate", "celery-schedule", url=empty_database_url, settings=SETTINGS)
    assert printed.startswith(EXPECTED.strip())
    for name in ("text", "none", "five"):
        assert f"# NOT TRANSLATED: {name}, task shop.{name}: it cannot be read (" in printed


@only_with_beat
def test_printed_rows_have_the_queues_of_the_routes_in_the_settings(empty_database_url: str) -> None:
    run_ok("migrate", "django_celery_beat", "-v0", url=empty_database_url, settings=ROUTED)
    run_ok("shell", "-c", ROWS, url=empty_database_url, settings=ROUTED)
    printed = run_ok("procrastinate", "celery-schedule", url=empty_database_url, settings=ROUTED)
    nightly, often, _ = printed.strip().split("\n\n")
    assert "queue='reports'" in nightly
    assert "queue='ticks'" in often


def test_without_rows_and_without_a_path_the_command_says_what_to_give() -> None:
    done = manage("procrastinate", "celery-schedule")
    assert done.returncode == 1
    assert "CommandError: The app django_celery_beat is not in INSTALLED_APPS" in done.stderr
