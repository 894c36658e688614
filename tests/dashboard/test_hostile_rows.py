"""Rows that plain SQL has written break no page, no metric and no worker."""

# ruff: noqa: S608

from __future__ import annotations

from collections.abc import Iterator
from wsgiref.util import setup_testing_defaults

import pytest
import sqlalchemy as sa

import procrastinate
from procrastinate import core
from procrastinate.core import bulk
from procrastinate.core.enums import EventType, Status
from procrastinate.dashboard import Access
from procrastinate.dashboard.dashboard import Dashboard
from procrastinate.dashboard.messages import Request
from procrastinate.metrics import metrics_wsgi
from tests.dashboard.test_faults import PAGES

TIMES = ("'infinity'", "'-infinity'", "'294276-12-31'", "'4713-01-01 BC'", "NULL")
SEARCHES = (
    "[]",
    "null",
    "{}",
    '{"state": "no such state"}',
    '{"state": "failed", "no such key": "x"}',
    '{"state": "failed", "task": []}',
    '{"state": "failed", "without_tasks": [1]}',
)
LARGEST = 2**63 - 1


def _rows(number: int, time: str) -> Iterator[str]:
    since = "now()" if time == "NULL" else time
    yield f"""
        INSERT INTO procrastinate_paused_queues (queue_name, paused_at, paused_until, reason, paused_by)
        VALUES ('odd {number}', {since}, {time}, E'\x1b[2J\n', E'\u202e')"""
    yield f"""
        INSERT INTO procrastinate_workers (
            id, last_heartbeat, started_at, loop_beat_at, last_fetch_at, last_error_at, running_ids, queues,
            concurrency, running, fetched_ahead, unwritten, pid, name, hostname, state, task_list, paused_queues,
            stalled_timeout)
        VALUES (
            {-number - 1}, {since}, {time}, {time}, {time}, {time}, '{{NULL,-1,{LARGEST}}}', '{{NULL,""}}', -1,
            2147483647, -2147483648, 2147483647, -1, E'\x1b', '', 'no state', '{number}', '{{NULL}}', 'NaN')"""
    yield f"INSERT INTO procrastinate_task_lists VALUES ('{number}', '{{NULL,\"\"}}', {since})"
    yield f"""
        INSERT INTO procrastinate_operations (kind, filter, state, created_at, finished_at, reached_id, last_id)
        VALUES ('retry', '{{"state": "failed"}}', 'running', {since}, {time}, -5, {LARGEST})"""
    yield f"""
        INSERT INTO procrastinate_workflows (root_id, name, kind, created_at, finished_at, cancelled_at, if_failed)
        VALUES ({number + 1}, E'\x1b[2J', 'workflow', {since}, {time}, {time}, 'what')"""
    yield f"""
        INSERT INTO procrastinate_jobs (queue_name, task_name, scheduled_at, finished_at, status)
        VALUES
            ('odd', 'odd', {time}, {time}, 'failed'),
            ('odd', 'odd', coalesce({time}::timestamptz, 'infinity'), NULL, 'todo')"""
    yield f"""
        INSERT INTO procrastinate_errors (job_id, attempt, at, exception_class, message, traceback)
        SELECT max(id) - 1, -1, {since}, E'\x1b', '', '' FROM procrastinate_jobs"""
    yield f"""
        INSERT INTO procrastinate_events (job_id, type, at)
        SELECT max(id), 'started', {time} FROM procrastinate_jobs"""
    for length in (0, 60):
        yield f"""
            INSERT INTO procrastinate_statistics (seconds, at, queue_name, task_name, outcome, count, run_seconds,
                run_histogram, wait_seconds, wait_histogram)
            VALUES ({length}, {since}, 'odd', 'odd {number}', 'no outcome', {LARGEST}, 'NaN', '{{NULL,{LARGEST}}}',
                'infinity', '{{}}')"""


@pytest.fixture
def app(database_url: str, connection: sa.Connection) -> Iterator[procrastinate.App]:
    """Return an app on a database with odd rows in each table."""
    for number, time in enumerate(TIMES):
        for statement in _rows(number, time):
            connection.exec_driver_sql(statement)
    of_search = "INSERT INTO procrastinate_operations (kind, filter, state, last_id) VALUES ('retry', %s, 'running', 1)"
    for search in SEARCHES:
        connection.exec_driver_sql(of_search, (search,))
    with procrastinate.App(connector=database_url).open() as app:
        yield app


def _pages_of_rows(connection: sa.Connection) -> Iterator[str]:
    """Yield the pages of all rows that have one, and lists that are searched."""
    for page, column, table in (
        ("jobs", "id", "procrastinate_jobs"),
        ("workflows", "root_id", "procrastinate_workflows"),
    ):
        for row_id in connection.exec_driver_sql(f"SELECT {column} FROM {table} ORDER BY 1").scalars():
            yield f"{page}/{row_id}"
    with_search = "SELECT id FROM procrastinate_operations ORDER BY id LIMIT %s"
    for row_id in connection.exec_driver_sql(with_search, (len(TIMES),)).scalars():
        yield f"operations/{row_id}"


def test_every_page_shows_odd_rows(
    app: procrastinate.App, connection: sa.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    """A panel that cannot be loaded is logged."""
    connection.exec_driver_sql(
        "INSERT INTO procrastinate_job_reports (job_id, attempt, kind, at, content) SELECT id, 1, kind, 'infinity', "
        "content::jsonb FROM procrastinate_jobs, (VALUES ('progress', '[]'), ('log', '{\"records\": 1}'), "
        "('stack', 'null'), ('no kind', '{}')) AS report (kind, content)"
    )
    connection.exec_driver_sql(
        "UPDATE procrastinate_jobs SET args = '[1]', meta = '\"text\"', trace_context = '[]', lock = E'\x1b[2J', "
        "limit_name = '', limit_weight = -1, worker_id = 0 WHERE status = 'failed'"
    )
    pages = [*PAGES, *_pages_of_rows(connection)]
    assert len(pages) > len(PAGES) + 3 * len(TIMES)
    for page in pages:
        response = Dashboard(app).handle(Request(method="GET", path=page, access=Access.everything()))
        assert response.status == 200
    assert [record for record in caplog.records if record.name.startswith("procrastinate")] == []


def test_an_operation_whose_search_cannot_be_read_is_left_alone(
    app: procrastinate.App, connection: sa.Connection
) -> None:
    read = {one.id for one in app.inspect.run(bulk.load_bulk_operations)}
    ids = connection.exec_driver_sql("SELECT id FROM procrastinate_operations ORDER BY id").scalars().all()
    assert sorted(read) == ids[: len(TIMES)]
    for operation_id in ids[len(TIMES) :]:
        assert not app.inspect.run(bulk.step_bulk_operation, operation_id)
    states = connection.exec_driver_sql("SELECT DISTINCT state FROM procrastinate_operations").scalars().all()
    assert states == ["running"]


@pytest.mark.parametrize("path", ["/metrics", "/scale"])
def test_metrics_count_odd_rows(app: procrastinate.App, path: str) -> None:
    environ: dict[str, object] = {}
    setup_testing_defaults(environ)
    environ["PATH_INFO"] = path
    started: list[str] = []
    b"".join(metrics_wsgi(app, token=None)(environ, lambda status, headers: started.append(status)))
    assert started == ["200 OK"]


def test_a_worker_runs_its_jobs_and_rolls_up_statistics_amid_odd_rows(
    app: procrastinate.App, connection: sa.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    ran: list[int] = []
    app.task(name="fine")(lambda: ran.append(1)).defer()
    app.run_worker(wait=False, install_signal_handlers=False)
    assert ran == [1]
    assert "ERROR" not in {record.levelname for record in caplog.records}
    core.roll_up_statistics(connection)
    assert (
        connection.exec_driver_sql(
            "SELECT count(*) FROM procrastinate_statistics WHERE seconds = 60 AND at < now() - interval '1 day'"
        ).scalar()
        == 0
    )


def _page(app: procrastinate.App, path: str) -> str:
    response = Dashboard(app).handle(Request(method="GET", path=path, access=Access.everything()))
    assert response.status == 200
    return bytes(response.body).decode()


def test_events_without_a_known_type_break_neither_the_page_nor_the_result_of_a_job(
    app: procrastinate.App, connection: sa.Connection
) -> None:
    """A later release may have stored another type. Nothing keeps plain SQL from storing none."""
    connection.exec_driver_sql("ALTER TYPE procrastinate_job_event_type ADD VALUE 'of a later release'")
    job_id = app.configure_task("of a later release").defer()
    connection.exec_driver_sql(
        "INSERT INTO procrastinate_events (job_id, type, at) VALUES (%s, 'of a later release', now()), "
        "(%s, NULL, now())",
        (job_id, job_id),
    )
    assert _page(app, f"jobs/{job_id}").count("Unknown event") == 2
    assert app.job_manager.get_result(job_id).status is Status.TODO
    stored = app.connector.run(core.get_result, job_id)
    assert stored is not None
    assert [event.type for event in stored.events] == [EventType.DEFERRED]


def test_a_job_that_holds_several_unique_keys_has_a_page(app: procrastinate.App, connection: sa.Connection) -> None:
    job_id = app.configure_task("task").defer()
    connection.exec_driver_sql(
        "INSERT INTO procrastinate_uniques (key, job_id, until, taken_at) VALUES ('a', %s, 'end', now()), "
        "('b', %s, 'end', now())",
        (job_id, job_id),
    )
    assert f"#{job_id}" in _page(app, f"jobs/{job_id}")
