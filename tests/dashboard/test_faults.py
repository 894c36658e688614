"""What the pages say if the database cannot answer."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import pytest
import sqlalchemy as sa

import procrastinate
from procrastinate import core
from procrastinate.alembic import revisions, upgrades
from procrastinate.core.errors import sqlstate
from procrastinate.dashboard import Access
from procrastinate.dashboard.calls import Trouble
from procrastinate.dashboard.dashboard import Dashboard
from procrastinate.dashboard.messages import Request, Response
from procrastinate.dashboard.visit import DONE
from tests.documentation.shell import free_port

PAGES = (
    "",
    "jobs",
    "queues",
    "tasks",
    "failures",
    "locks",
    "limits",
    "periodic",
    "workers",
    "operations",
    "doctor",
    "system",
)
PROBLEM = 'class="pq-problem"'
"""What a panel has in the place of its content if it cannot be loaded."""


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Keep the warnings, which hold the details, out of the report."""
    with caplog.at_level(logging.CRITICAL, logger="procrastinate.dashboard"):
        yield


def _get(url: str, path: str, query: str = "") -> Response:
    with procrastinate.App(connector=url).open() as app:
        return Dashboard(app).handle(Request(method="GET", path=path, query=query, access=Access.everything()))


@pytest.mark.parametrize("page", PAGES)
def test_every_page_says_that_the_database_cannot_be_reached(page: str) -> None:
    """The text of the driver's error, which has the address, stays in the log."""
    port = free_port()
    response = _get(f"postgresql+psycopg://someone:secret@127.0.0.1:{port}/nowhere?connect_timeout=2", page)
    text = response.body.decode()
    assert response.status == 200
    assert "The database cannot be reached." in text
    assert str(port) not in text
    assert "secret" not in text


@pytest.mark.parametrize("page", [page for page in PAGES if page not in ("system", "doctor")])
def test_every_page_says_that_the_tables_are_missing(empty_database_url: str, page: str) -> None:
    text = _get(empty_database_url, page).body.decode()
    assert "The tables are not those of this release. Run procrastinate schema --apply, or" in text


def test_a_page_without_tables_logs_the_remedy_and_no_traceback(
    empty_database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="procrastinate.dashboard"):
        _get(empty_database_url, "jobs")
    records = [record for record in caplog.records if getattr(record, "action", None) == "dashboard_problem"]
    assert records
    for record in records:
        assert "run `procrastinate schema --apply`" in record.getMessage()
        assert record.exc_info is None


def test_the_page_of_a_job_says_that_the_database_cannot_be_reached() -> None:
    response = _get(f"postgresql+psycopg://someone@127.0.0.1:{free_port()}/nowhere?connect_timeout=2", "jobs/1")
    assert response.status == 503
    assert b"The database cannot be reached." in response.body


@pytest.fixture
def reader_of(database_url: str, engine: sa.Engine) -> Iterator[Callable[[str], str]]:
    """Return the URL of a role that may read all tables except one, and change nothing."""
    role = f"{sa.make_url(database_url).database}_reader"

    def reader_without(table: str) -> str:
        with engine.begin() as connection:
            connection.exec_driver_sql(f'REVOKE SELECT ON {table} FROM "{role}"')  # noqa: S608
        return sa.make_url(database_url).set(username=role).render_as_string(hide_password=False)

    with engine.begin() as connection:
        connection.exec_driver_sql(f'CREATE ROLE "{role}" LOGIN')
        connection.exec_driver_sql(f'GRANT SELECT ON ALL TABLES IN SCHEMA public TO "{role}"')
    yield reader_without
    with engine.begin() as connection:
        connection.exec_driver_sql(f'DROP OWNED BY "{role}"')
        connection.exec_driver_sql(f'DROP ROLE "{role}"')


@pytest.fixture
def reader_url(reader_of: Callable[[str], str]) -> str:
    """The URL of a role that may not read the errors."""
    return reader_of("procrastinate_errors")


def test_other_panels_stay_if_one_may_not_be_read(reader_url: str) -> None:
    text = _get(reader_url, "").body.decode()
    assert "The database role may not do this." in _panel(text, "failures")
    assert "No job waits or runs." in _panel(text, "queues")
    assert "may only read" in _get(reader_url, "system").body.decode()


@pytest.mark.parametrize(
    ("table", "readable"),
    [
        ("procrastinate_statistics", ("queues", "failures")),
        ("procrastinate_paused_queues", ("tiles", "failures")),
        ("procrastinate_errors", ("tiles", "queues")),
    ],
)
def test_the_overview_does_not_call_all_well_while_a_load_fails(
    reader_of: Callable[[str], str], table: str, readable: tuple[str, ...]
) -> None:
    """Each table is read by one load alone, and the other panels show what they have."""
    text = _get(reader_of(table), "").body.decode()
    attention = _panel(text, "attention")
    assert attention.count("The database role may not do this.") == 1
    assert "This list may lack something." in attention
    assert "Nothing needs attention" not in text
    for panel in readable:
        assert 'role="alert"' not in _panel(text, panel)


def test_the_overview_calls_all_well_if_every_load_succeeds(database_url: str) -> None:
    assert "Nothing needs attention." in _panel(_get(database_url, "").body.decode(), "attention")


def _panel(text: str, name: str) -> str:
    """Return the section of a page with this id."""
    return text[text.index(f' id="{name}" ') :].partition("</section>")[0]


def test_a_panel_whose_statement_takes_too_long_says_so_and_the_others_stay(
    database_url: str, engine: sa.Engine
) -> None:
    """The statement of the panel waits for a lock, until its two seconds are over."""
    with engine.connect() as locker, locker.begin():
        locker.exec_driver_sql("LOCK TABLE procrastinate_errors IN ACCESS EXCLUSIVE MODE")
        text = _get(database_url, "").body.decode()
    slow = "took longer than two seconds and the query was stopped."
    assert slow in _panel(text, "failures")
    assert slow in _panel(text, "attention")
    for panel in ("tiles", "queues"):
        assert PROBLEM not in _panel(text, panel)


@pytest.fixture
def read_only_url(database_url: str, engine: sa.Engine) -> str:
    """The URL of a database that takes no writes."""
    name = sa.make_url(database_url).database
    with engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO procrastinate_jobs (queue_name, task_name) VALUES ('q', 't')")
        connection.exec_driver_sql(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    return database_url


@pytest.mark.parametrize("page", [*PAGES, "jobs/1"])
def test_every_page_works_on_a_database_that_takes_no_writes(read_only_url: str, page: str) -> None:
    response = _get(read_only_url, page)
    assert response.status == 200
    assert PROBLEM not in response.body.decode()


def test_an_action_on_a_database_that_takes_no_writes_changes_nothing_and_logs_why(
    read_only_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    headers = {"sec-fetch-site": "same-origin"}
    request = Request(method="POST", path="jobs/1/cancel", headers=headers, access=Access.everything())
    with (
        caplog.at_level(logging.WARNING, logger="procrastinate.dashboard"),
        procrastinate.App(connector=read_only_url).open() as app,
    ):
        response = Dashboard(app).handle(request)
        assert app.job_manager.get_job_status(1) is core.Status.TODO
    assert "done=" in dict(response.headers)["Location"]
    assert "done=cancel" not in dict(response.headers)["Location"]
    assert "25006" in {
        sqlstate(record.exc_info[1]) for record in caplog.records if record.exc_info and record.exc_info[1]
    }


BEHIND = {"one revision": -2, "no limits and no unique keys": revisions.known_revisions().index("procrastinate_0011")}
"""The place of an older revision in the list of all, by what the schema lacks."""


@pytest.fixture(params=BEHIND.values(), ids=BEHIND)
def older_url(request: pytest.FixtureRequest, empty_database_url: str) -> str:
    """The URL of a database with an older schema."""
    older = sa.create_engine(empty_database_url, poolclass=sa.NullPool)
    with older.begin() as connection:
        upgrades.upgrade(connection, revisions.known_revisions()[request.param])
        connection.exec_driver_sql("INSERT INTO procrastinate_jobs (queue_name, task_name) VALUES ('q', 't')")
    return empty_database_url


@pytest.mark.parametrize("page", [*PAGES, "jobs/1"])
def test_every_page_works_or_names_the_remedy_if_the_schema_is_behind(older_url: str, page: str) -> None:
    response = _get(older_url, page)
    text = response.body.decode()
    assert response.status in (200, 503)
    assert text.count(PROBLEM) == text.count("The tables are not those of this release. Run procrastinate schema")
    if page == "doctor":
        assert "<code>schema-behind</code>" in text


def test_an_action_that_the_database_refuses_changes_nothing_and_says_why(reader_url: str, engine: sa.Engine) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO procrastinate_jobs (queue_name, task_name) VALUES ('q', 't')")
    response = _post(reader_url, "jobs/1/cancel")
    assert dict(response.headers)["Location"] == "../../jobs/1?done=failed_rights"
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT status::text FROM procrastinate_jobs").scalar_one() == "todo"
    text = _get(reader_url, "jobs/1", "done=failed_rights").body.decode()
    assert "Not done. The database role may not do this. Grant it the rights" in text


def _post(url: str, path: str, form: str = "") -> Response:
    headers = {"sec-fetch-site": "same-origin"}
    request = Request(method="POST", path=path, headers=headers, body=form.encode(), access=Access.everything())
    with procrastinate.App(connector=url).open() as app:
        return Dashboard(app).handle(request)


def test_an_action_that_waits_for_too_long_says_so(database_url: str, engine: sa.Engine) -> None:
    url = sa.make_url(database_url).update_query_dict({"options": "-c statement_timeout=300"})
    with engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO procrastinate_jobs (queue_name, task_name) VALUES ('q', 't')")
    with engine.begin() as connection:
        connection.exec_driver_sql("SELECT FROM procrastinate_jobs FOR UPDATE")
        response = _post(url.render_as_string(hide_password=False), "jobs/1/cancel")
    assert dict(response.headers)["Location"] == "../../jobs/1?done=failed_slow"


@pytest.mark.parametrize(
    ("path", "form", "page"),
    [
        ("jobs/1/cancel", "", "../../jobs/1"),
        ("jobs/selected", "action=cancel&job=1", "../jobs"),
        ("queues/pause", "queue=q", "../queues"),
        ("queues/pause", "queue=q&minutes=15", "../queues"),
        ("queues/resume", "queue=q", "../queues"),
        ("workflows/1/cancel", "", "../../workflows/1"),
    ],
)
def test_an_action_on_a_read_only_database_says_so(
    database_url: str, engine: sa.Engine, path: str, form: str, page: str
) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO procrastinate_jobs (queue_name, task_name) VALUES ('q', 't')")
        connection.exec_driver_sql(
            "INSERT INTO procrastinate_workflows (root_id, name, kind, if_failed) VALUES (1, 'w', 'workflow', 'cancel')"
        )
    location = dict(_post(_read_only(database_url), path, form).headers)["Location"]
    assert location == f"{page}?done=failed_read_only"


def _read_only(url: str) -> str:
    url_of_role = sa.make_url(url).update_query_dict({"options": "-c default_transaction_read_only=on"})
    return url_of_role.render_as_string(hide_password=False)


def test_an_action_on_a_database_that_is_away_does_not_claim_that_nothing_changed() -> None:
    response = _post(f"postgresql+psycopg://someone@127.0.0.1:{free_port()}/nowhere?connect_timeout=2", "jobs/1/cancel")
    assert dict(response.headers)["Location"] == "../../jobs/1?done=failed_away"
    assert DONE["failed_away"].endswith("look whether something changed.")


def test_every_trouble_of_an_action_has_its_message() -> None:
    assert {f"failed_{trouble}" for trouble in Trouble} <= set(DONE)


@pytest.mark.parametrize("page", ["jobs", "jobs/1", "queues", "workflows"])
def test_a_database_that_takes_no_changes_is_offered_none(
    reader_url: str, database_url: str, engine: sa.Engine, page: str
) -> None:
    """A role that may only read, and settings that allow no changes, are found without an option."""
    with engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO procrastinate_jobs (queue_name, task_name) VALUES ('q', 't')")
    offered = _get(database_url, page).body.decode()
    assert 'method="post"' in offered or page == "workflows"
    for url in (reader_url, _read_only(database_url)):
        text = _get(url, page).body.decode()
        assert "</svg> read-only</span>" in text
        assert "<button>" not in text
        assert "data-confirm" not in text


def test_the_head_of_each_page_names_the_database_and_counts_paused_queues(
    database_url: str, engine: sa.Engine
) -> None:
    name = sa.make_url(database_url).database
    assert name is not None
    head = _head(_get(database_url, "tasks").body.decode())
    assert name in head
    assert "paused" not in head
    with engine.begin() as connection:
        pause = "INSERT INTO procrastinate_paused_queues (queue_name, paused_until) VALUES"
        connection.exec_driver_sql(f"{pause} ('a', NULL), ('ended', now() - interval '1 hour')")
    assert "1 queue paused" in _head(_get(database_url, "tasks").body.decode())


def test_a_role_that_may_not_read_the_pauses_sees_the_rest_of_the_head(
    reader_of: Callable[[str], str], database_url: str
) -> None:
    head = _head(_get(reader_of("procrastinate_paused_queues"), "tasks").body.decode())
    assert str(sa.make_url(database_url).database) in head
    assert "read-only" in head


def _head(text: str) -> str:
    return text.partition('id="head"')[2].partition('<form class="pq-search"')[0]


def test_the_doctor_says_that_the_tables_are_missing(empty_database_url: str) -> None:
    assert "<code>schema-missing</code>" in _get(empty_database_url, "doctor").body.decode()
