"""What the lists of jobs, failures and tasks offer."""

from __future__ import annotations

import html
import re
import urllib.parse
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

import procrastinate
from procrastinate.dashboard import Access
from procrastinate.dashboard.dashboard import Dashboard
from procrastinate.dashboard.messages import Request


@pytest.fixture
def app(database_url: str) -> Iterator[procrastinate.App]:
    with procrastinate.App(connector=database_url).open() as app:
        yield app


def _get(app: procrastinate.App, path: str, query: str = "", access: Access | None = None) -> str:
    request = Request(method="GET", path=path, query=query, access=access or Access.everything())
    return Dashboard(app).handle(request).body.decode()


def _tabs(page: str) -> dict[str, str]:
    tabs = page.partition('class="pq-tabs"')[2].partition("</ul>")[0]
    texts = [" ".join(re.sub("<[^>]+>", " ", one).split()) for one in tabs.split("</li>")]
    counted = [re.fullmatch(r".*?([a-z][a-z ]*?) ([0-9,]+\+?)", text) for text in texts]
    return {match[1]: match[2] for match in counted if match}


def test_the_tabs_of_the_states_count_their_jobs_up_to_a_limit(
    app: procrastinate.App, connection: sa.Connection
) -> None:
    many = sa.text(
        "INSERT INTO procrastinate_jobs (queue_name, task_name, status, finished_at) "
        "SELECT 'q', 't', CAST(:status AS procrastinate_job_status), CASE WHEN CAST(:status AS text) <> 'todo' "
        "THEN now() END FROM generate_series(1, :number)"
    )
    for status, number in (("failed", 3), ("succeeded", 1_001), ("todo", 1_000)):
        connection.execute(many, {"status": status, "number": number})
    tabs = _tabs(_get(app, "jobs"))
    assert (tabs["failed"], tabs["succeeded"], tabs["ready"], tabs["running"]) == ("3", "1,000+", "1,000", "0")
    assert _tabs(_get(app, "jobs", "state=failed")) == tabs
    assert _tabs(_get(app, "jobs", "q=queue:q")) == {}


def _fail(connection: sa.Connection, task: str, error: str) -> None:
    job = (
        "INSERT INTO procrastinate_jobs (queue_name, task_name, status, finished_at) "
        "VALUES ('q', :task, 'failed', now()) RETURNING id"
    )
    job_id = connection.execute(sa.text(job), {"task": task}).scalar_one()
    connection.execute(
        sa.text(
            "INSERT INTO procrastinate_errors (job_id, attempt, exception_class, message, traceback) "
            "VALUES (:id, 1, :error, 'm', '')"
        ),
        {"id": job_id, "error": error},
    )


def test_a_group_of_failures_leads_to_the_preview_of_its_retry(
    app: procrastinate.App, connection: sa.Connection
) -> None:
    for task, error in (
        ("odd task", "a.Lost"),
        ("odd task", "a.Lost"),
        ("b", "a.Late"),
        ("c", "a.Late"),
        ("d", "a.Lost2"),
    ):
        _fail(connection, task, error)
    page = _get(app, "failures")
    links = [html.unescape(one) for one in re.findall(r'href="([^"]+)">Retry these', page)]
    counts = {}
    for link in links:
        parts = urllib.parse.urlsplit(link)
        assert parts.path == "./operations/new"
        search = urllib.parse.parse_qs(parts.query)["q"][0]
        counts[search] = re.findall(r"<strong>(\d+)</strong>", _get(app, "operations/new", parts.query))[0]
    assert counts == {"error:a.Lost task:'odd task'": "2", "error:a.Late": "2", "error:a.Lost2 task:d": "1"}
    assert "Retry these" not in _get(app, "failures", access=Access.read_only())
