"""The overview says what needs attention, the faults that the doctor finds among it."""

from __future__ import annotations

import html
import re
import urllib.parse
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

import procrastinate
from procrastinate.core.doctor import Diagnosis, Finding, Severity
from procrastinate.dashboard import Access
from procrastinate.dashboard.dashboard import Dashboard
from procrastinate.dashboard.messages import Request
from procrastinate.dashboard.views.overview import find_attention


@pytest.fixture
def app(database_url: str) -> Iterator[procrastinate.App]:
    with procrastinate.App(connector=database_url).open() as app:
        yield app


def _page(app: procrastinate.App, path: str = "", query: str = "") -> str:
    request = Request(method="GET", path=path, query=query, access=Access.everything())
    return Dashboard(app).handle(request).body.decode()


def _attention(app: procrastinate.App) -> list[str]:
    """Return the lines of the panel as HTML."""
    panel = _page(app).partition('id="attention"')[2].partition("</section>")[0]
    return re.findall("<li.*?</li>", panel, re.DOTALL)


_WORKER = """
    INSERT INTO procrastinate_workers (
        id, last_heartbeat, stalled_timeout, name, queues, concurrency, running, state, last_fetch_at, last_error_at,
        last_error_code, started_at, loop_beat_at
    ) VALUES ({id}, now(), 3600, 'w', '{{mail}}', 2, {running}, 'running', now() - interval '1 min', {error}, 42501,
        now() - interval '1 hour', now())
"""
_OLD_EVENTS = "UPDATE procrastinate_events SET at = at - interval '10 min'"
_JOB = "INSERT INTO procrastinate_jobs (queue_name, task_name) VALUES ('{}', 'a.b')"


def _run(connection: sa.Connection, *statements: str) -> None:
    for statement in statements:
        connection.exec_driver_sql(statement)


def test_a_fault_of_the_schema_needs_attention(app: procrastinate.App, connection: sa.Connection) -> None:
    _run(connection, "ALTER TABLE procrastinate_jobs DISABLE TRIGGER procrastinate_jobs_updated")
    (line,) = _attention(app)
    assert 'class="pq-urgent"' in line
    assert '<a href="./doctor">' in line
    assert "The trigger procrastinate_jobs_updated of procrastinate_jobs is disabled." in html.unescape(line)


def test_a_schema_that_is_behind_needs_attention(app: procrastinate.App, connection: sa.Connection) -> None:
    _run(connection, "UPDATE procrastinate_alembic_version SET version_num = 'procrastinate_0024'")
    assert any("The schema is at revision procrastinate_0024" in line for line in _attention(app))


def test_workers_whose_fetches_fail_need_attention_on_one_line(
    app: procrastinate.App, connection: sa.Connection
) -> None:
    _run(connection, *(_WORKER.format(id=-n, running=0, error="now()") for n in (1, 2, 3)))
    (line,) = _attention(app)
    assert "cannot fetch. The last error was 42501. There are 2 more such faults." in html.unescape(line)


def test_a_queue_without_a_worker_needs_attention_once(app: procrastinate.App, connection: sa.Connection) -> None:
    """The doctor knows why its jobs wait, so the overview does not guess as well."""
    _run(connection, _WORKER.format(id=-1, running=0, error="NULL"), _JOB.format("other"), _OLD_EVENTS)
    (line,) = _attention(app)
    assert "No worker takes jobs of the queue 'other', and jobs wait in it." in html.unescape(line)


def test_a_wait_behind_busy_workers_is_told_as_such_and_leads_to_its_jobs(
    app: procrastinate.App, connection: sa.Connection
) -> None:
    """Whatever the name of the queue is."""
    name = "two words\" and 'quotes"
    worker = _WORKER.format(id=-1, running=2, error="NULL").replace("'{mail}'", "'{}'")
    _run(connection, worker, _JOB.format(name.replace("'", "''")), _OLD_EVENTS)
    (line,) = _attention(app)
    assert "The workers of this queue are busy" in line
    link = html.unescape(re.search('href="([^"]*)"', line)[1])  # type: ignore[index]
    parts = urllib.parse.urlsplit(link)
    assert 'id="job-1"' in _page(app, "jobs", parts.query)


def test_faults_of_the_role_and_notes_of_the_doctor_stay_on_its_own_page(app: procrastinate.App) -> None:
    """An empty queue has no worker, which is a fault for the doctor alone."""
    assert "<code>no-worker</code>" in _page(app, "doctor")
    assert _attention(app) == []


def test_many_kinds_of_faults_are_cut() -> None:
    findings = tuple(
        Finding(code=f"code-{n}", severity=Severity.FAULT, text=f"Text {n}", advice=f"Advice {n}") for n in range(8)
    )
    found = find_attention(None, None, Diagnosis(now=None, findings=findings, checks=()))
    assert [one.text for one in found] == [
        *(f"Text {n}." for n in range(5)),
        "The doctor finds 3 more kinds of faults.",
    ]
    assert {one.path for one in found} == {"doctor"}
