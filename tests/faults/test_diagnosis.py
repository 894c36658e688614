"""What ``why`` and the doctor say of a server that takes no writes, or has no connection left."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import psycopg
import sqlalchemy as sa

from procrastinate import App
from procrastinate.dashboard import Access
from procrastinate.dashboard.dashboard import Dashboard
from procrastinate.dashboard.messages import Request
from procrastinate.inspection import DoctorLimits
from tests.dashboard.test_faults import PAGES, PROBLEM
from tests.database import libpq_url
from tests.faults.cluster import Cluster
from tests.faults.queue import Queue


def test_a_standby_is_named_and_every_page_shows_it(queue: Queue, standby: Callable[[], Cluster]) -> None:
    with App(connector=queue.url).open() as app:
        job_id = app.configure_task("t").defer()
    reader = standby()
    there = sa.make_url(queue.url).set(host="127.0.0.1", port=reader.port)
    with App(connector=there.render_as_string(hide_password=False)).open() as app:
        assert app.inspect.explain(job_id).headline.code == "standby"
        diagnosis = app.inspect.diagnose()
        for page in (*PAGES, f"jobs/{job_id}"):
            response = Dashboard(app).handle(Request(method="GET", path=page, access=Access.everything()))
            assert response.status == 200
            assert PROBLEM not in response.body.decode(), page
    assert "standby" in {finding.code for finding in diagnosis.findings}
    assert [check for check in diagnosis.checks if check.error] == []


def test_connections_that_are_used_up_are_named(queue: Queue, cluster: Cluster) -> None:
    with App(connector=queue.url).open() as app, contextlib.ExitStack() as stack:
        job_id = app.configure_task("t").defer()
        queue.sql("INSERT INTO procrastinate_workers (concurrency, running, state) VALUES (1, 0, 'running')")
        app.inspect.explain(job_id)
        used = cluster.execute("SELECT count(*) FROM pg_stat_activity WHERE datname IS NOT NULL")
        for _ in range(98 - used):
            stack.enter_context(psycopg.connect(libpq_url(queue.url)))
        assert app.inspect.explain(job_id).headline.code == "connections-used-up"
        diagnosis = app.inspect.diagnose(limits=DoctorLimits(left_alone_seconds=3600))
    assert "connections-short" in {finding.code for finding in diagnosis.findings}
