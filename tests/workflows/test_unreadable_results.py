"""A stored result that Python or PostgreSQL cannot read concerns the jobs that take it, and no others."""

from __future__ import annotations

import sys

import pytest

from procrastinate import JobContext, exceptions
from procrastinate.app import App
from tests.worker.running import Queue, Workers
from tests.workflows.tasks import Notes

UNREADABLE = {
    "too many digits": "SELECT CAST(repeat('1', 5000) AS jsonb)",
    "more than a gigabyte": "SELECT jsonb_agg(1e131071::numeric) FROM generate_series(1, 8300)",
}
if sys.version_info < (3, 12):  # later ones read more levels than PostgreSQL takes
    UNREADABLE["too many levels"] = "SELECT CAST(repeat('[', 2000) || repeat(']', 2000) AS jsonb)"


@pytest.mark.parametrize("value", UNREADABLE.values(), ids=UNREADABLE)
async def test_a_step_that_takes_an_unreadable_result_fails_with_its_name(
    app: App, workers: Workers, queue: Queue, tasks: Notes, value: str
) -> None:
    @app.task(pass_context=True)
    async def spoil(context: JobContext) -> None:
        queue.sql(f"UPDATE procrastinate_results SET value = ({value})")  # noqa: S608
        with pytest.raises(exceptions.InvalidJob, match="The result of step one cannot be read"):
            await context.workflow.value_async("one")

    wf = app.workflow("sum")
    one = wf.add(tasks.double, number=1, step="one")
    between = wf.add(spoil, after=[one])
    last = wf.add(tasks.note, name=one.value, after=[between])
    await wf.defer_async()
    await workers.run()
    assert queue.statuses() == {"succeeded": 2, "failed": 1}
    result = await app.job_manager.get_result_async(last.job_id)
    assert result.errors[-1].exception_class == "procrastinate.exceptions.InvalidJob"
    assert result.errors[-1].message.startswith("The result of step one cannot be read: ")


async def test_a_step_whose_arguments_have_lost_the_place_of_a_result_fails(
    app: App, workers: Workers, queue: Queue, tasks: Notes
) -> None:
    wf = app.workflow("sum")
    one = wf.add(tasks.double, number=1)
    last = wf.add(tasks.note, name=[one.value])
    await wf.defer_async()
    queue.sql("UPDATE procrastinate_jobs SET args = '{\"name\": null}' WHERE id = :id", id=last.job_id)
    await workers.run()
    result = await app.job_manager.get_result_async(last.job_id)
    assert "The arguments have no place " in result.errors[-1].message


@pytest.mark.parametrize("value", UNREADABLE.values(), ids=UNREADABLE)
async def test_a_job_whose_result_is_unreadable_has_the_rest_of_its_result(
    app: App, workers: Workers, queue: Queue, tasks: Notes, value: str
) -> None:
    job_id = await tasks.double.defer_async(number=1)
    await workers.run()
    queue.sql(f"UPDATE procrastinate_results SET value = ({value})")  # noqa: S608
    result = await app.job_manager.get_result_async(job_id)
    assert (result.status, result.attempts, result.has_value) == ("succeeded", 1, False)
    with pytest.raises(exceptions.ResultNotAvailable, match="its return value cannot be read: "):
        _ = result.value
