"""The queues in which jobs wait, for the warning about queues that no task names."""

from __future__ import annotations

import datetime
import json

import pytest
import sqlalchemy as sa

from procrastinate import core
from procrastinate.core.enums import Readiness
from procrastinate.core.tables import jobs

LATER = datetime.datetime(2099, 1, 1, tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    "readiness",
    [Readiness.UNDECIDED, Readiness.PARKED, Readiness.IN_LINE, Readiness.PROMOTED, Readiness.WAITS_FOR_OTHERS],
    ids=lambda readiness: readiness.name,
)
def test_a_queue_with_a_waiting_job_is_found_whatever_the_job_waits_for(
    connection: sa.Connection, readiness: Readiness
) -> None:
    waits = {"lock": "a", "limit_name": "api", "limit_key": "", "scheduled_at": LATER}
    job_id = core.defer_job(
        connection,
        core.NewJob(queue_name="mail", task_name="send", args=json.dumps({}), **waits),  # type: ignore[arg-type]
    )
    values = {"readiness": readiness.value}
    if readiness is Readiness.WAITS_FOR_OTHERS:
        values["workflow_id"] = job_id
    connection.execute(sa.update(jobs).where(jobs.c.id == job_id).values(**values))
    assert core.list_waiting_queues(connection, queues=["mail", "mial"]) == ["mail"]


def test_a_queue_with_ended_jobs_only_is_not_among_those_where_jobs_wait(connection: sa.Connection) -> None:
    job_id = core.defer_job(connection, core.NewJob(queue_name="mail", task_name="send", args="{}"))
    assert job_id is not None
    core.cancel_job(connection, job_id, abort=False, delete=False)
    assert core.list_waiting_queues(connection, queues=["mail"]) == []
