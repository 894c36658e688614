"""The record of a run says what became of the job, as its result says it afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import sessionmaker

from procrastinate import App, JobContext
from procrastinate.testing import InMemoryConnector, Jobs

PAID = {"order": 7, "cents": [1250, 0]}
new_session = sessionmaker(join_transaction_mode="create_savepoint")


def make_app(connector: Any, bind: Any) -> App:
    """With a task that ends with its own transaction, and keeps a result in it, or none."""
    app = App(connector=connector)

    @app.task(name="pay", pass_context=True, store_result=True)
    def pay(context: JobContext, keep: bool) -> str | None:
        with context.transaction(bind):
            if keep:
                context.set_result(PAID)
        return None if keep else "returned too late"

    return app


@pytest.fixture(params=["memory", "Connection"])
def jobs(request: pytest.FixtureRequest, database_url: str) -> Iterator[Jobs]:
    """On a connection that is rolled back, or in memory."""
    if request.param == "memory":
        with Jobs(make_app(InMemoryConnector(), None)) as jobs:
            yield jobs
        return
    engine = sa.create_engine(database_url, poolclass=sa.NullPool)
    with engine.connect() as connection, Jobs(make_app(database_url, new_session), connection=connection) as jobs:
        new_session.configure(bind=connection)
        yield jobs
        connection.rollback()


def test_a_record_has_the_result_that_the_task_has_set(jobs: Jobs) -> None:
    job_id = jobs.app.configure_task("pay").defer(keep=True)
    (record,) = jobs.run()
    assert record.result == PAID
    assert record.result == jobs.app.job_manager.get_result(job_id).value


def test_a_record_has_what_a_task_returns_that_sets_none(jobs: Jobs) -> None:
    jobs.app.configure_task("pay").defer(keep=False)
    (record,) = jobs.run()
    assert record.result == "returned too late"


def test_the_status_of_a_record_equals_that_of_the_job(jobs: Jobs) -> None:
    job_id = jobs.app.configure_task("pay").defer(keep=True)
    (record,) = jobs.run()
    (job,) = jobs.deferred()
    assert record.status == "succeeded"
    assert record.status == job.status
    assert job.status == jobs.app.job_manager.get_job_status(job_id)
