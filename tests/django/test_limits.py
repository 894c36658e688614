"""The setting ``PROCRASTINATE_LIMITS`` limits the jobs of a queue, whatever framework their tasks belong to."""

from __future__ import annotations

import json

import pytest

from procrastinate import Limit
from procrastinate.adapters.django.task_backend import framework
from procrastinate.contrib.django import app
from procrastinate.contrib.django.models import ProcrastinateJob
from tests.django.shop import framework_tasks
from tests.django.support import run_program
from tests.django.test_task_backend import backend

_PROJECT = """
import json
import django
from django.conf import settings
from procrastinate import Limit

settings.PROCRASTINATE_LIMITS = [Limit("mail", queue="mail", concurrency=2)]
settings.TASKS = {
    "default": {"BACKEND": "procrastinate.contrib.django.tasks.ProcrastinateBackend", "QUEUES": []}
}
"""

_FIVE_OF_EACH_FRAMEWORK = """
django.setup()
from procrastinate.contrib.django import app
from procrastinate.contrib.django.models import ProcrastinateEvent, ProcrastinateJob
from tests.django.shop import framework_tasks, tasks

for number in range(5):
    tasks.ship.configure(queue="mail").defer(order_id=number)
    framework_tasks.add.using(queue_name="mail").enqueue(number)
tasks.ship.defer(order_id=0)
rows = ProcrastinateJob.objects.values_list("queue_name", "limit_name").order_by("queue_name").distinct()
app.run_worker(wait=False, install_signal_handlers=False, listen_notify=False, concurrency=5)
running, most = 0, 0
events = ProcrastinateEvent.objects.filter(type__in=("started", "succeeded"), job__queue_name="mail")
for event in events.order_by("id"):
    running += 1 if event.type == "started" else -1
    most = max(most, running)
stored = [one.name for one in app.limits.list()]
print(json.dumps({"rows": list(rows), "most": most, "left": running, "stored": stored}))
"""


def test_no_more_jobs_of_a_queue_run_at_once_than_the_setting_says(project_url: str) -> None:
    assert json.loads(run_program(_PROJECT + _FIVE_OF_EACH_FRAMEWORK, project_url)) == {
        "rows": [["default", None], ["mail", "mail"]],
        "most": 2,
        "left": 0,
        "stored": ["mail"],
    }


def test_a_pattern_that_is_made_before_django_is_ready_has_the_limit_of_its_queue() -> None:
    program = """
from procrastinate.contrib.django import app

@app.task(name="send", queue="mail")
def send(to): pass

patterns = [send.configure(priority=1), send.configure(queue="other")]
django.setup()
print(*(pattern.job.limit_name for pattern in [*patterns, send.configure()]))
"""
    assert run_program(_PROJECT + program).split() == ["mail", "None", "mail"]


def test_a_pattern_without_settings_has_no_limit() -> None:
    """A library can declare its tasks before the program has chosen its settings."""
    program = """
import os
del os.environ["DJANGO_SETTINGS_MODULE"]
from procrastinate.contrib.django import app

@app.task(name="send", queue="mail")
def send(to): pass

print(send.configure(priority=1).job.limit_name)
"""
    assert run_program(program).strip() == "None"


def test_a_limit_of_the_setting_with_the_name_and_not_the_numbers_of_a_tasks_limit_is_refused() -> None:
    program = """
from procrastinate.contrib.django import app

@app.task(name="send", limit=Limit("mail", concurrency=3))
def send(to): pass

try:
    django.setup()
except ValueError as error:
    print(error)
"""
    assert "The limit 'mail' is defined twice" in run_program(_PROJECT + program)


@pytest.mark.usefixtures("project")
def test_the_limit_of_a_task_or_of_its_backend_comes_before_that_of_its_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    of_queue = Limit("of the queue", queue="mail", by=lambda given: f"to {given['args'][0]}", concurrency=3)
    monkeypatch.setattr(app, "_limits_of_queues", {"mail": of_queue})
    with backend(limit=Limit("of the backend", concurrency=1)):
        task = framework_tasks.add.using(queue_name="mail")
        first = task.enqueue(7)
    with backend(weight=2):
        second, third = task.enqueue(7), task.using(limit_key="mine", weight=3).enqueue(7)
        with pytest.raises(ValueError, match="weight=4 is more than the limit 'of the queue' allows"):
            task.using(weight=4).enqueue(7)
    rows = [ProcrastinateJob.objects.get(pk=result.id) for result in (first, second, third)]
    assert [(row.limit_name, row.limit_key, row.limit_weight) for row in rows] == [
        ("of the backend", "", None),
        ("of the queue", "to 7", 2),
        ("of the queue", "mine", 3),
    ]


@pytest.mark.usefixtures("project")
def test_a_job_that_another_backend_has_stored_gets_the_limit_of_its_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "_limits_of_queues", {"mail": Limit("of the queue", queue="mail", concurrency=3)})
    with backend():
        ours = framework.task_backends["default"]
        job = ours.job_of_row(
            framework_tasks.add.module_path,
            framework_tasks.add,
            {"args": [1], "kwargs": {}},
            queue="mail",
            priority=0,
            run_after=None,
        )
    assert job.limit_name == "of the queue"


def test_a_copy_of_the_app_keeps_the_limits_of_the_setting() -> None:
    program = """
django.setup()
from procrastinate.contrib.django import app
from procrastinate.testing import InMemoryConnector
print(*(limit.name for limit in app.with_connector(InMemoryConnector()).list_limits()))
"""
    assert run_program(_PROJECT + program).split() == ["mail"]


_EVERY_OPTION = """
settings.TASKS["default"]["OPTIONS"] = {
    "limit": Limit("of the tasks", by=lambda given: f"key {given['args'][0] % 2}", concurrency=2)
}
django.setup()
import datetime
from django.utils import timezone
from procrastinate import Unique
from procrastinate.contrib.django import app
from procrastinate.contrib.django.models import ProcrastinateEvent, ProcrastinateJob
from procrastinate.exceptions import AlreadyEnqueued
from tests.django.shop import framework_tasks

JOBS = 6
due = timezone.now() + datetime.timedelta(seconds=0.5)
unique = Unique(by=lambda given: f"unique {given['args'][0]}", until="end")
tasks = {
    "plain": framework_tasks.add,
    "async": framework_tasks.add_async,
    "locked": framework_tasks.add.using(lock="one at a time"),
    "queueing": framework_tasks.add.using(queueing_lock=lambda given: f"queueing {given['args'][0]}"),
    "unique": framework_tasks.add.using(unique=unique),
    "scheduled": framework_tasks.add.using(run_after=due),
    "heavy": framework_tasks.add.using(weight=2),
}
ids = {name: [int(task.enqueue(number).id) for number in range(JOBS)] for name, task in tasks.items()}
refused = []
for name in ("queueing", "unique"):
    try:
        tasks[name].enqueue(0)
    except AlreadyEnqueued:
        refused.append(name)
while ProcrastinateJob.objects.filter(status="todo").exists():
    app.run_worker(wait=False, install_signal_handlers=False, concurrency=6, prefetch=PREFETCH)

most, running = {}, {}
weights = dict(ProcrastinateJob.objects.values_list("id", "limit_weight"))
keys = dict(ProcrastinateJob.objects.values_list("id", "limit_key"))
first_scheduled = None
for event in ProcrastinateEvent.objects.filter(type__in=("started", "succeeded")).order_by("id"):
    sign = 1 if event.type == "started" else -1
    groups = {keys[event.job_id]: weights[event.job_id] or 1}
    if event.job_id in ids["locked"]:
        groups["locked"] = 1
    if event.job_id in ids["scheduled"] and sign > 0:
        first_scheduled = first_scheduled or event.at
    for group, weight in groups.items():
        running[group] = running.get(group, 0) + sign * weight
        most[group] = max(most.get(group, 0), running[group])
statuses = sorted(set(ProcrastinateJob.objects.values_list("status", flat=True)))
print(json.dumps({
    "refused": refused,
    "statuses": statuses,
    "number": ProcrastinateJob.objects.count(),
    "most": dict(sorted(most.items())),
    "not before": first_scheduled >= due,
}))
"""


@pytest.mark.parametrize("prefetch", [True, False], ids=["prefetch", "no prefetch"])
def test_a_limit_of_djangos_tasks_holds_together_with_every_other_option(project_url: str, prefetch: bool) -> None:
    printed = run_program(_PROJECT + _EVERY_OPTION.replace("PREFETCH", str(prefetch)), project_url)
    assert json.loads(printed) == {
        "refused": ["queueing", "unique"],
        "statuses": ["succeeded"],
        "number": 7 * 6,
        "most": {"key 0": 2, "key 1": 2, "locked": 1},
        "not before": True,
    }
