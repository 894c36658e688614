"""The models: to be looked at, not written to."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

import pytest
from django.apps import apps
from django.db import connection
from django.test.utils import CaptureQueriesContext, override_settings
from django.utils import timezone

from procrastinate.contrib.django import app, models
from procrastinate.contrib.django.exceptions import ReadOnlyModel
from procrastinate.contrib.django.models import (
    ProcrastinateEvent,
    ProcrastinateJob,
    ProcrastinatePeriodicDefer,
    ProcrastinateWorker,
)
from procrastinate.core import EventType, Status, register_worker
from procrastinate.core.tables import metadata
from procrastinate.jobs import Job
from tests.django.shop.tasks import new_year, ship

pytestmark = pytest.mark.usefixtures("project")

MODELS = tuple(getattr(models, name) for name in models.__all__)

WITHOUT_A_MODEL = {
    "procrastinate_arrivals": "the sweep of workflows finds what they say",
    "procrastinate_hold_offs": "two columns are its primary key",
    "procrastinate_job_reports": "three columns are its primary key; progress and kept logs decide nothing",
    "procrastinate_openings": "the sweep of lines finds what they say",
    "procrastinate_statistics": "five columns are its primary key; figures decide nothing",
    "procrastinate_task_lists": "workers write theirs when they start",
    "procrastinate_turns": "the next turn may be that of any key",
    "procrastinate_windows": "the sweep of lines finds what they say",
}
COLUMNS_OF_WORKERS = {"id", "last_heartbeat"}
"""The others describe a process, which is not where the row is restored."""

WRITES: dict[str, Callable[[Any], Any]] = {
    "create": lambda rows: rows.create(),
    "bulk_create": lambda rows: rows.bulk_create([]),
    "bulk_update": lambda rows: rows.bulk_update([], ["id"]),
    "get_or_create": lambda rows: rows.get_or_create(id=0),
    "update_or_create": lambda rows: rows.update_or_create(id=0),
    "update": lambda rows: rows.update(id=0),
    "delete": lambda rows: rows.all().delete(),
}
ASYNC_WRITES: dict[str, Callable[[Any], Any]] = {
    "acreate": lambda rows: rows.acreate(),
    "abulk_create": lambda rows: rows.abulk_create([]),
    "abulk_update": lambda rows: rows.abulk_update([], ["id"]),
    "aget_or_create": lambda rows: rows.aget_or_create(id=0),
    "aupdate_or_create": lambda rows: rows.aupdate_or_create(id=0),
    "aupdate": lambda rows: rows.aupdate(id=0),
    "adelete": lambda rows: rows.all().adelete(),
}


def test_they_belong_to_the_label() -> None:
    """Whatever path they are imported from."""
    assert set(apps.get_app_config("procrastinate").get_models()) == set(MODELS)
    assert models.ProcrastinateJob._meta.label == "procrastinate.ProcrastinateJob"


def test_each_table_has_a_model_of_all_its_columns_or_a_reason_why_dumpdata_can_leave_it_out() -> None:
    by_table = {model._meta.db_table: {field.column for field in model._meta.fields} for model in MODELS}
    assert by_table.keys() | WITHOUT_A_MODEL.keys() == metadata.tables.keys()
    assert not by_table.keys() & WITHOUT_A_MODEL.keys()
    expected = {name: {column.name for column in metadata.tables[name].columns} for name in by_table}
    assert by_table == expected | {"procrastinate_workers": COLUMNS_OF_WORKERS}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("write", WRITES)
def test_rows_cannot_be_written(model: Any, write: str) -> None:
    """Through the manager, and through a query set."""
    with CaptureQueriesContext(connection) as queries:
        for rows in (model.objects, model.objects.all(), model._base_manager):
            with pytest.raises(ReadOnlyModel):
                WRITES[write](rows)
    assert len(queries) == 0


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("write", ASYNC_WRITES)
async def test_rows_cannot_be_written_asynchronously(model: Any, write: str) -> None:
    """Neither way."""
    for rows in (model.objects, model.objects.all()):
        with pytest.raises(ReadOnlyModel):
            await ASYNC_WRITES[write](rows)


@pytest.mark.parametrize("model", MODELS)
async def test_a_row_cannot_be_written(model: Any) -> None:
    """Neither saved nor deleted."""
    for write in (model(pk=1).save, model(pk=1).delete):
        with pytest.raises(ReadOnlyModel):
            write()
    for write in (model(pk=1).asave, model(pk=1).adelete):
        with pytest.raises(ReadOnlyModel):
            await write()


def test_related_rows_cannot_be_written() -> None:
    """The managers of relations write by ways of their own."""
    job = ProcrastinateJob.objects.get(pk=ship.defer(order_id=1))
    worker = ProcrastinateWorker.objects.get(pk=app.connector.run(register_worker))
    with pytest.raises(ReadOnlyModel):
        worker.procrastinatejob_set.add(job)
    with pytest.raises(ReadOnlyModel):
        job.procrastinateevent_set.all().delete()
    with pytest.raises(ReadOnlyModel):
        job.procrastinateevent_set.create(type="deferred")


def test_writes_are_allowed_by_a_setting() -> None:
    """For a project's own tests, say."""
    with override_settings(PROCRASTINATE_READONLY_MODELS=False):
        job = ProcrastinateJob.objects.get(pk=ship.defer(order_id=1))
        job.priority = 7
        job.save()
        assert ProcrastinateJob.objects.filter(pk=job.pk).update(lock="a") == 1
        job.refresh_from_db()
        assert (job.priority, job.lock) == (7, "a")
        job.delete()
    assert not ProcrastinateEvent.objects.exists()


def test_rows_can_be_made_for_a_projects_own_tests() -> None:
    """With as little as PostgreSQL needs; a worker runs them."""
    with override_settings(PROCRASTINATE_READONLY_MODELS=False):
        worker = ProcrastinateWorker.objects.create(last_heartbeat=timezone.now())
        job = ProcrastinateJob.objects.create(queue_name="default", task_name=ship.name, args={"order_id": 1})
        ProcrastinateJob.objects.create(queue_name="q", task_name="t", status="failed", worker=worker)
        ProcrastinateEvent.objects.create(job=job, type="retried", at=timezone.now())
        ProcrastinatePeriodicDefer.objects.create(task_name="t", defer_timestamp=1, job=job)
    app.run_worker(wait=False, install_signal_handlers=False, listen_notify=False)
    assert app.job_manager.get_job_status(job.pk) is Status.SUCCEEDED


def test_a_worker_gets_an_id_however_its_row_is_made() -> None:
    """As the workers themselves draw it."""
    now = timezone.now()
    saved, *made = (ProcrastinateWorker(last_heartbeat=now) for _ in range(3))
    saved.full_clean()
    with override_settings(PROCRASTINATE_READONLY_MODELS=False):
        saved.save()
        ProcrastinateWorker.objects.bulk_create(made)
        ProcrastinateWorker(pk=saved.pk, last_heartbeat=now + datetime.timedelta(1)).save()
    ids = [worker.pk for worker in (saved, *made)]
    assert sorted(ids) == list(ProcrastinateWorker.objects.order_by("pk").values_list("pk", flat=True))
    assert max(ids) < 0


def test_a_job_knows_its_events() -> None:
    """Under the names of Procrastinate 3.x."""
    when = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)
    job = ProcrastinateJob.objects.get(pk=ship.configure(schedule_at=when).defer(order_id=1))
    assert {event.type for event in job.procrastinateevent_set.all()} == {"deferred", "scheduled"}
    assert ProcrastinateEvent.objects.filter(job__task_name=ship.name, job__status="todo").count() == 2
    assert ProcrastinateEvent.objects.latest().at == when


def test_a_job_whose_worker_is_gone() -> None:
    """The relation leads nowhere, and the job can be looked at all the same."""
    job_id = ship.defer(order_id=1)
    with override_settings(PROCRASTINATE_READONLY_MODELS=False):
        ProcrastinateJob.objects.update(worker_id=12345)
    job = ProcrastinateJob.objects.get(pk=job_id)
    assert (job.worker_id, job.worker) == (12345, None)
    assert ProcrastinateJob.objects.select_related("worker").get().worker is None


async def test_a_periodic_defer_knows_its_job() -> None:
    """And the job its periodic defers."""
    job = Job(queue="default", lock=None, queueing_lock=None, task_name=new_year.name, task_kwargs={"timestamp": 1})
    job_id = await app.job_manager.defer_periodic_job(job, "", 1)
    tick = await ProcrastinatePeriodicDefer.objects.select_related("job").aget()
    assert (tick.job_id, tick.job.task_name, tick.defer_timestamp) == (job_id, "shop.new_year", 1)


def test_every_status_and_event_is_a_choice() -> None:
    """So that filters offer them all."""
    assert [value for value, _ in ProcrastinateJob.STATUSES] == [status.value for status in Status]
    assert [value for value, _ in ProcrastinateEvent.TYPES] == [event.value for event in EventType]


def test_procrastinate_job() -> None:
    """The job as the app knows it."""
    job_id = ship.configure(queue="q", lock="l", queueing_lock="x", priority=3).defer(order_id=1)
    (listed,) = app.job_manager.list_jobs(id=job_id)
    assert ProcrastinateJob.objects.get(pk=job_id).procrastinate_job == listed
