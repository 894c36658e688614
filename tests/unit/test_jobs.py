"""Jobs as data, and the patterns from which they are deferred."""

from __future__ import annotations

import dataclasses
import datetime
import json
import logging
from typing import Any

import pytest

from procrastinate import exceptions
from procrastinate.jobs import DeleteJobCondition, Job, JobDeferrer, Status
from procrastinate.manager import JobManager
from tests.unit.recording import RecordingConnector, make_job

NOON = datetime.datetime(2024, 1, 2, 12, tzinfo=datetime.UTC)
ROW: dict[str, Any] = {
    "id": 7,
    "status": "doing",
    "queue_name": "mail",
    "priority": 3,
    "lock": "user-1",
    "queueing_lock": "digest",
    "task_name": "send",
    "args": {"to": "ada"},
    "scheduled_at": NOON,
    "attempts": 2,
    "abort_requested": True,
    "worker_id": 5,
}


@pytest.fixture
def manager(connector: RecordingConnector) -> JobManager:
    return JobManager(connector)


def test_a_job_is_read_from_a_row() -> None:
    assert Job.from_row(ROW) == Job(
        id=7,
        status="doing",
        queue="mail",
        priority=3,
        lock="user-1",
        queueing_lock="digest",
        task_name="send",
        task_kwargs={"to": "ada"},
        scheduled_at=NOON,
        attempts=2,
        abort_requested=True,
        worker_id=5,
    )


def test_a_row_of_an_old_query_may_lack_the_newer_columns() -> None:
    row = {name: value for name, value in ROW.items() if name not in ("abort_requested", "worker_id")}
    job = Job.from_row(row)
    assert (job.abort_requested, job.worker_id) == (False, None)


def test_a_job_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        make_job().queue = "other"  # type: ignore[misc]


def test_a_job_is_made_of_names_only() -> None:
    with pytest.raises(TypeError):
        Job(1, "todo", "queue")  # type: ignore[call-arg]


def test_evolve_copies_with_changes() -> None:
    job = make_job(queue="mail")
    assert job.evolve(priority=3) == make_job(queue="mail", priority=3)
    assert job.priority == 0


def test_a_copy_is_called_by_its_own_arguments() -> None:
    job = make_job(id=1, task_name="add", task_kwargs={"a": 1})
    assert job.call_string == "add[1](a=1)"
    assert job.evolve(id=2, task_kwargs={"a": 2}).call_string == "add[2](a=2)"


def test_evolve_refuses_what_no_job_can_have() -> None:
    with pytest.raises(TypeError, match="no field 'colour'"):
        make_job().evolve(colour="red")
    with pytest.raises(ValueError, match="scheduled_at must be an aware datetime"):
        make_job().evolve(scheduled_at=datetime.datetime(2024, 1, 2))


def test_a_job_with_a_naive_schedule_is_refused() -> None:
    with pytest.raises(ValueError, match="scheduled_at must be an aware datetime"):
        make_job(scheduled_at=datetime.datetime(2024, 1, 2))


def test_call_string_reads_as_a_call() -> None:
    job = make_job(id=12, task_name="add", task_kwargs={"a": 1, "b": "x"})
    assert job.call_string == "add[12](a=1, b='x')"


def test_log_context_is_json() -> None:
    context = Job.from_row(ROW).log_context()
    assert json.loads(json.dumps(context)) == context
    assert context["scheduled_at"] == "2024-01-02T12:00:00+00:00"
    assert context["call_string"] == "send[7](to='ada')"
    assert context["queue"] == "mail"


def test_asdict_has_every_field_that_is_stored() -> None:
    stored = {field.name for field in dataclasses.fields(Job)} - {
        *("log_arguments", "claimed_at", "trace_context"),
        *("limit_name", "limit_key", "limit_weight"),  # written only
    }
    assert set(make_job().asdict()) == stored


@pytest.mark.parametrize(
    ("condition", "deleted"),
    [
        ("never", set()),
        ("successful", {Status.SUCCEEDED}),
        ("always", {Status.SUCCEEDED, Status.FAILED, Status.ABORTED}),
    ],
)
def test_which_finished_jobs_are_deleted(condition: str, deleted: set[Status]) -> None:
    ended = {Status.SUCCEEDED, Status.FAILED, Status.ABORTED}
    assert {status for status in ended if DeleteJobCondition(condition).covers(status)} == deleted


def test_a_pattern_defers_and_returns_the_id(manager: JobManager, connector: RecordingConnector) -> None:
    deferrer = JobDeferrer(manager, make_job(id=None, queue="mail"))
    assert deferrer.defer(to="ada") == 1
    assert deferrer.defer(to="bob") == 2
    assert [(job.queue_name, json.loads(job.args)) for job in connector.stored] == [
        ("mail", {"to": "ada"}),
        ("mail", {"to": "bob"}),
    ]


async def test_a_pattern_defers_asynchronously(manager: JobManager) -> None:
    deferrer = JobDeferrer(manager, make_job(id=None))
    assert await deferrer.defer_async(a=1) == 1
    assert await deferrer.batch_defer_async({"a": 2}, {"a": 3}) == [2, 3]


def test_the_arguments_of_the_call_win_over_those_of_the_pattern(manager: JobManager) -> None:
    deferrer = JobDeferrer(manager, make_job(id=None, task_kwargs={"a": 1, "b": 1}))
    assert deferrer.make_new_job(b=2, c=3).task_kwargs == {"a": 1, "b": 2, "c": 3}
    assert deferrer.job.task_kwargs == {"a": 1, "b": 1}


def test_a_batch_keeps_the_order(manager: JobManager, connector: RecordingConnector) -> None:
    deferrer = JobDeferrer(manager, make_job(id=None, task_kwargs={"x": 0}))
    assert deferrer.batch_defer({"n": 1}, {"n": 2}) == [1, 2]
    assert [json.loads(job.args) for job in connector.stored] == [{"x": 0, "n": 1}, {"x": 0, "n": 2}]


async def test_an_empty_batch_asks_the_database_nothing(manager: JobManager, connector: RecordingConnector) -> None:
    connector.taken = True  # any question would be refused
    assert JobDeferrer(manager, make_job(id=None)).batch_defer() == []
    assert await JobDeferrer(manager, make_job(id=None)).batch_defer_async() == []


async def test_the_users_connection_is_used(manager: JobManager, connector: RecordingConnector) -> None:
    connection = object()
    deferrer = JobDeferrer(manager, make_job(id=None), connection=connection)
    deferrer.defer()
    await deferrer.defer_async()
    assert connector.connections == [connection, connection]


async def test_a_taken_queueing_lock_is_named(manager: JobManager, connector: RecordingConnector) -> None:
    connector.taken = True
    deferrer = JobDeferrer(manager, make_job(id=None, queueing_lock="digest (daily)"))
    with pytest.raises(exceptions.AlreadyEnqueued, match=r"'digest \(daily\)'"):
        deferrer.defer()
    with pytest.raises(exceptions.AlreadyEnqueued, match=r"'digest \(daily\)'"):
        await deferrer.defer_async()


def test_deferring_is_logged(manager: JobManager, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="procrastinate")
    JobDeferrer(manager, make_job(id=None)).defer(a=1)
    about, deferred = (vars(record) for record in caplog.records)
    assert (about["action"], deferred["action"]) == ("about_to_defer_jobs", "jobs_deferred")
    assert [job["id"] for job in about["jobs"]] == [None]
    assert [(job["id"], job["status"], job["task_kwargs"]) for job in deferred["jobs"]] == [(1, "todo", {"a": 1})]


async def test_a_periodic_job_must_carry_its_own_tick(manager: JobManager) -> None:
    for kwargs in ({}, {"timestamp": 1}):
        with pytest.raises(exceptions.InvalidTimestamp, match="2"):
            await manager.defer_periodic_job(make_job(id=None, task_kwargs=kwargs), "", 2)


async def test_a_job_that_was_not_deferred_cannot_be_retried_or_finished(manager: JobManager) -> None:
    with pytest.raises(ValueError, match="was not deferred"):
        await manager.retry_job(make_job(id=None))
    with pytest.raises(ValueError, match="was not deferred"):
        await manager.finish_job(make_job(id=None), Status.SUCCEEDED, delete_job=False)


async def test_a_naive_time_of_a_retry_is_refused(manager: JobManager) -> None:
    naive = datetime.datetime(2024, 1, 1)
    with pytest.raises(ValueError, match="retry_at must be an aware datetime"):
        manager.retry_job_by_id(1, naive)
    with pytest.raises(ValueError, match="retry_at must be an aware datetime"):
        await manager.retry_job_by_id_async(1, naive)


async def test_an_unknown_status_is_refused(manager: JobManager) -> None:
    with pytest.raises(ValueError, match="done"):
        manager.list_jobs(status="done")


def test_a_status_equals_its_text_and_is_printed_as_before() -> None:
    assert Status.TODO == "todo"
    assert Status.TODO != "doing"
    assert {Status.TODO: 1}["todo"] == 1  # type: ignore[index]
    assert (str(Status.TODO), f"{Status.TODO}") == ("Status.TODO", "Status.TODO")
    assert repr(Status.TODO) == "<Status.TODO: 'todo'>"
