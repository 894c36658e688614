"""No step of a workflow starts once the cancel of the workflow has been committed"""

from __future__ import annotations

import asyncio
import datetime
import time
from collections.abc import Sequence
from typing import Any

import pytest
import sqlalchemy as sa

from procrastinate import core, exceptions
from procrastinate.app import App
from procrastinate.core.defaults import CANCEL_SEEN_WITHIN
from procrastinate.jobs import Job
from procrastinate.manager import JobManager
from procrastinate.worker.run.step_gate import StepGate
from procrastinate.workflows.states import WorkflowInfo
from tests.database import new_job
from tests.worker.running import Queue, Workers, happens, until
from tests.worker.test_prefetch import ahead as ahead
from tests.worker.test_prefetch import patient as patient
from tests.workflows.tasks import Notes


class Stop:
    """A task that runs until the test lets it end, and says that it has begun."""

    def __init__(self, app: App, error: Exception | None = None, **options: Any) -> None:
        self.begun = asyncio.Event()
        self.may_end = asyncio.Event()
        self.runs = 0
        self._error = error
        self.task = app.task(name="stop", **options)(self._run)

    async def _run(self) -> None:
        self.runs += 1
        self.begun.set()
        await self.may_end.wait()
        if self._error is not None:
            raise self._error


async def ended(app: App, workflow_id: int) -> WorkflowInfo:
    """Wait for the end of the steps. Return what came of them, of a workflow that was cancelled."""
    info = await app.workflows.wait_async(workflow_id, timeout=20)
    assert info.state == "cancelled"
    return info


def statuses(queue: Queue, workflow_id: int) -> dict[str, str]:
    """Return the status of each step by its name."""
    rows = queue.sql(
        "SELECT coalesce(json_object_agg(step, status), '{}') FROM procrastinate_jobs AS job"
        " JOIN procrastinate_workflows AS part ON part.id = job.workflow_id WHERE part.root_id = :id",
        id=workflow_id,
    )
    return dict(rows)


async def claim(app: App) -> tuple[int, int]:
    """Claim a step for a worker that does not start it. Return the ids of worker and step."""
    worker_id = await app.job_manager.register_worker()
    (job,) = await app.job_manager.fetch_jobs(None, worker_id, limit=1)
    assert job.id is not None
    return worker_id, job.id


@pytest.mark.usefixtures("patient")
async def test_a_step_that_a_worker_has_fetched_ahead_ends_as_cancelled(
    app: App, tasks: Notes, workers: Workers, queue: Queue
) -> None:
    stop = Stop(app)
    wf = app.workflow("import")
    wf.add(stop.task)
    wf.group("pages").add_many(tasks.note, [{"name": number} for number in range(5)])
    wf.on_end(tasks.note, name="over")
    workflow_id = await wf.defer_async()
    workers.start(concurrency=1)
    await happens(stop.begun)
    await until(lambda: queue.statuses().get("doing") == 6)
    await app.workflows.cancel_async(workflow_id)
    stop.may_end.set()
    info = await ended(app, workflow_id)
    assert (info.counts.succeeded, info.counts.cancelled) == (1, 5)
    await until(lambda: tasks.ran)
    assert tasks.ran == ["over"]


@pytest.mark.parametrize("abort", [False, True])
async def test_a_step_that_was_claimed_and_given_back_does_not_start(
    app: App, tasks: Notes, workers: Workers, abort: bool
) -> None:
    wf = app.workflow("import")
    wf.add(tasks.note, name="only")
    workflow_id = await wf.defer_async()
    worker_id, job_id = await claim(app)
    await app.workflows.cancel_async(workflow_id, abort=abort)
    await app.job_manager.release_jobs([core.FetchedJob(id=job_id, attempts=0)], worker_id=worker_id)
    workers.start()
    await ended(app, workflow_id)
    assert tasks.ran == []


async def test_a_step_that_is_rescued_does_not_start(app: App, tasks: Notes, workers: Workers, queue: Queue) -> None:
    wf = app.workflow("import")
    first = wf.add(tasks.note, name="first")
    wf.add(tasks.note, name="second", after=[first])
    workflow_id = await wf.defer_async()
    worker_id, _ = await claim(app)
    await app.workflows.cancel_async(workflow_id)
    await app.job_manager.unregister_worker(worker_id)
    workers.start()
    await ended(app, workflow_id)
    assert tasks.ran == []
    assert set(statuses(queue, workflow_id).values()) == {"cancelled"}


@pytest.mark.parametrize("options", [{"retry": True}, {"retry": 5}, {"retry": True, "timeout": 0.5}])
async def test_a_step_that_raises_after_the_cancel_is_not_retried(
    app: App, workers: Workers, queue: Queue, options: dict[str, Any]
) -> None:
    stop = Stop(app, ValueError("raised"), **options)
    wf = app.workflow("import")
    wf.add(stop.task)
    workflow_id = await wf.defer_async()
    workers.start()
    await happens(stop.begun)
    await app.workflows.cancel_async(workflow_id)
    if "timeout" not in options:
        stop.may_end.set()
    await ended(app, workflow_id)
    assert (stop.runs, list(statuses(queue, workflow_id).values())) == (1, ["failed"])


async def test_a_step_whose_row_the_cancel_passes_over_does_not_start(
    app: App, tasks: Notes, workers: Workers, engine: sa.Engine
) -> None:
    wf = app.workflow("import")
    step = wf.add(tasks.note, name="locked")
    workflow_id = await wf.defer_async()
    with engine.begin() as connection:
        connection.exec_driver_sql("SELECT FROM procrastinate_jobs WHERE id = %s FOR UPDATE", (step.job_id,))
        assert await app.workflows.cancel_async(workflow_id) == 0
    workers.start()
    await ended(app, workflow_id)
    assert tasks.ran == []


async def test_steps_that_an_open_transaction_adds_do_not_start(
    app: App, tasks: Notes, workers: Workers, engine: sa.Engine
) -> None:
    wf = app.workflow("import")
    wf.add(tasks.note, name="first")
    workflow_id = await wf.defer_async()
    part = core.NewGroup(kind=core.GroupKind.WORKFLOW, name="import")
    added = core.NewStep(job=new_job(task_name=tasks.note.name), step="added", group=0)
    graph = core.NewGraph(if_failed="cancel", groups=(part,), steps=(added,), dependencies=())
    with engine.begin() as connection:
        core.add_to_workflow(connection, workflow_id, graph)
        await app.workflows.cancel_async(workflow_id)
    workers.start()
    info = await ended(app, workflow_id)
    assert (tasks.ran, info.counts.cancelled) == ([], 2)


async def test_a_program_that_dies_during_its_cancel_leaves_no_step_to_start(
    app: App, tasks: Notes, workers: Workers
) -> None:
    wf = app.workflow("import")
    first = wf.add(tasks.note, name="first")
    wf.add(tasks.note, name="second", after=[first])
    wf.on_failure(tasks.note, name="failed")
    wf.on_end(tasks.note, name="over")
    workflow_id = await wf.defer_async()
    assert await app.job_manager.begin_cancel_async(workflow_id)
    workers.start()
    await ended(app, workflow_id)
    await until(lambda: tasks.ran)
    assert tasks.ran == ["over"]


async def test_a_retry_of_the_workflow_lets_its_steps_start_again(app: App, tasks: Notes, workers: Workers) -> None:
    wf = app.workflow("import")
    wf.add(tasks.note, name="step")
    workflow_id = await wf.defer_async()
    await app.workflows.cancel_async(workflow_id)
    await workers.run()
    await app.workflows.retry_async(workflow_id)
    await workers.run()
    assert tasks.ran == ["step"]


async def test_a_failed_step_of_a_cancelled_workflow_that_ended_may_be_run_again_by_hand(
    app: App, tasks: Notes, workers: Workers
) -> None:
    wf = app.workflow("import")
    step = wf.add(tasks.fail)
    wf.add_signal("approved")
    workflow_id = await wf.defer_async()
    await workers.run()
    await app.workflows.cancel_async(workflow_id)
    await workers.run()
    await ended(app, workflow_id)
    assert step.job_id is not None
    await app.job_manager.retry_job_by_id_async(step.job_id, datetime.datetime.now(datetime.UTC))
    await workers.run()
    assert tasks.ran == ["failed", "failed"]


async def test_a_step_that_does_not_start_is_no_run(
    app: App, tasks: Notes, workers: Workers, queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    wf = app.workflow("import")
    wf.add(tasks.note, name="only")
    workflow_id = await wf.defer_async()
    assert await app.job_manager.begin_cancel_async(workflow_id)
    with caplog.at_level("INFO"):
        await workers.run()
    (record,) = [one for one in caplog.records if getattr(one, "action", None) == "job_cancelled"]
    assert "its workflow was cancelled" in record.getMessage()
    assert queue.sql("SELECT count(*) FROM procrastinate_errors") == 0
    assert queue.sql("SELECT count(*) FROM procrastinate_statistics") == 0


async def test_a_worker_trusts_that_a_workflow_goes_on_for_a_moment_only(app: App, tasks: Notes) -> None:
    now = 100.0
    gate = StepGate(app.job_manager, clock=lambda: now)
    wf = app.workflow("import")
    wf.add(tasks.note)
    workflow_id = await wf.defer_async()
    assert await gate.may_start(workflow_id)
    assert await app.job_manager.begin_cancel_async(workflow_id)
    now += CANCEL_SEEN_WITHIN * 0.99
    assert await gate.may_start(workflow_id)
    now += CANCEL_SEEN_WITHIN * 0.01
    assert not await gate.may_start(workflow_id)
    assert not await gate.may_start(workflow_id)


async def test_a_cancel_returns_when_no_worker_trusts_an_older_answer(app: App, tasks: Notes) -> None:
    wf = app.workflow("import")
    wf.add(tasks.note)
    workflow_id = await wf.defer_async()
    began = time.monotonic()
    await app.workflows.cancel_async(workflow_id)
    assert time.monotonic() - began >= CANCEL_SEEN_WITHIN


async def test_steps_that_ask_at_the_same_time_get_their_own_answers(app: App, tasks: Notes) -> None:
    gate = StepGate(app.job_manager)
    ids = []
    for number in range(8):
        wf = app.workflow(f"import {number}")
        wf.add(tasks.note)
        ids.append(await wf.defer_async())
    assert await app.job_manager.begin_cancel_async(ids[3])
    answers = await asyncio.gather(*(gate.may_start(workflow_id) for workflow_id in ids))
    assert [workflow_id for workflow_id, may in zip(ids, answers, strict=True) if not may] == [ids[3]]


@pytest.mark.parametrize(("is_cancelled", "questions"), [(True, 2), (False, 5)])
async def test_an_answer_that_comes_too_late_is_asked_for_again_a_few_times(
    app: App, tasks: Notes, monkeypatch: pytest.MonkeyPatch, is_cancelled: bool, questions: int
) -> None:
    """The cancel is committed after the first question, and has returned when the answer comes."""
    now = 100.0
    ask = app.job_manager.list_cancelled_groups
    asked: list[Sequence[int]] = []

    async def ask_slowly(groups: Sequence[int]) -> list[int]:
        nonlocal now
        asked.append(groups)
        answer = await ask(groups)
        if is_cancelled:
            assert await app.job_manager.begin_cancel_async(workflow_id)
        now += CANCEL_SEEN_WITHIN
        return answer

    monkeypatch.setattr(app.job_manager, "list_cancelled_groups", ask_slowly)
    gate = StepGate(app.job_manager, clock=lambda: now)
    wf = app.workflow("import")
    wf.add(tasks.note)
    workflow_id = await wf.defer_async()
    assert await gate.may_start(workflow_id) is not is_cancelled
    assert asked == [[workflow_id]] * questions


@pytest.mark.parametrize("kind", [exceptions.ConnectorException, exceptions.DatabaseUnavailable])
async def test_steps_that_wait_for_a_question_that_fails_do_not_ask_one_after_the_other(
    app: App, monkeypatch: pytest.MonkeyPatch, kind: type[exceptions.ConnectorException]
) -> None:
    """The next question is for all of them. Each learns whether the database is away, and pauses as for that."""
    asked: list[Sequence[int]] = []

    async def fail(groups: Sequence[int]) -> list[int]:
        asked.append(groups)
        await asyncio.sleep(0)
        raise kind("The database is away")

    monkeypatch.setattr(app.job_manager, "list_cancelled_groups", fail)
    gate = StepGate(app.job_manager)
    answers = await asyncio.gather(*map(gate.may_start, range(1, 9)), return_exceptions=True)
    assert [(type(answer), str(answer)) for answer in answers] == [(kind, "The database is away")] * 8
    assert len(asked) == 1
    with pytest.raises(exceptions.ConnectorException):
        await gate.may_start(9)
    assert asked[1] == list(range(1, 10))


async def test_a_step_whose_values_are_read_during_the_cancel_does_not_start(
    app: App, tasks: Notes, workers: Workers, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = JobManager.read_values

    async def read_slowly(self: JobManager, job: Job) -> Job:
        with_values = await read(self, job)
        await app.workflows.cancel_async(workflow_id)
        return with_values

    monkeypatch.setattr(JobManager, "read_values", read_slowly)
    wf = app.workflow("import")
    first = wf.add(tasks.double, number=1)
    wf.add(tasks.double, number=first.value)
    workflow_id = await wf.defer_async()
    workers.start()
    await ended(app, workflow_id)
    assert tasks.ran == [1]
