"""What pages hide from a visitor, and what a search must not tell of it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from procrastinate.dashboard import Access, hide_keys
from tests.dashboard.hosts import Served, wsgi_host

Serve = Callable[..., AbstractContextManager[tuple[Served, httpx.Client]]]
_HIDES = "shop.hides"


@pytest.fixture
def serve(database_url: str) -> Iterator[Serve]:
    """Return a function that serves a dashboard with these options."""
    engine = sa.create_engine(database_url, isolation_level="AUTOCOMMIT")

    @contextlib.contextmanager
    def served(**options: Any) -> Iterator[tuple[Served, httpx.Client]]:
        with wsgi_host(database_url, engine, **options) as opened, opened.client() as client:
            yield opened, client

    yield served
    engine.dispose()


def _insert(engine: sa.Engine, task: str, args: str = "{}", status: str = "failed") -> int:
    statement = """
        INSERT INTO procrastinate_jobs (queue_name, task_name, status, args, meta, finished_at)
        VALUES ('q', :task, CAST(:status AS procrastinate_job_status), CAST(:args AS jsonb), '{"user": "hidden user"}',
                CASE WHEN :status = 'failed' THEN now() END)
        RETURNING id
    """
    with engine.connect() as connection:
        values = {"task": task, "args": args, "status": status}
        return int(connection.execute(sa.text(statement), values).scalar_one())


def _hide_all_of_a_task(task_name: str, value: Any) -> Any:
    return "hidden" if task_name == "shop.pays" else value


def _hide_a_value(task_name: str, value: Any) -> Any:
    return {key: "hidden" if one == 4242 else one for key, one in value.items()} if isinstance(value, dict) else value


@pytest.mark.parametrize("redact", [_hide_all_of_a_task, _hide_a_value])
def test_no_search_tells_what_a_function_of_the_project_hides(serve: Serve, redact: Any) -> None:
    """The function may look at the task and at values, so the name of a key does not tell what it hides."""
    question = {"state": "failed", "q": "args.order:4242"}
    with serve(redact=redact) as (served, client):
        job_id = _insert(served.engine, "shop.pays", '{"order": 4242}')
        found = client.get("jobs", params=question).text
        assert "These arguments are hidden and cannot be searched." in found
        assert "args.order:42 " not in found  # the help
        preview = client.get("operations/new", params={**question, "action": "delete"})
        assert preview.status_code == 400
        assert client.post("operations/start", data={**question, "action": "delete"}).status_code == 400
    with serve(redact=redact, search_arguments=True) as (served, client):
        found = client.get("jobs", params=question).text
        assert f"#{job_id}<" in found
        assert "cannot be searched" not in found


def test_other_arguments_are_searched_if_pages_hide_keys(serve: Serve) -> None:
    with serve(redact=hide_keys("iban")) as (served, client):
        job_id = _insert(served.engine, "shop.pays", '{"order": 4242, "iban": 1}')
        assert f"#{job_id}<" in client.get("jobs", params={"q": "args.order:4242"}).text
        assert "cannot be searched" in client.get("jobs", params={"q": "args.iban:1"}).text
    with serve(search_arguments=False) as (_, client):
        assert "cannot be searched" in client.get("jobs", params={"q": "args.order:4242"}).text


@pytest.mark.parametrize(
    ("task", "access", "is_shown"),
    [
        ("shop.images.resize", Access.everything(), True),
        ("shop.images.resize", Access.names_only(), False),
        (_HIDES, Access.everything(), False),
    ],
)
def test_what_a_job_says_is_hidden_with_its_arguments(serve: Serve, task: str, access: Access, is_shown: bool) -> None:
    """A message about progress, a result and metadata may repeat what the arguments contain."""
    with serve() as (served, client):
        job_id = _insert(served.engine, task, '{"who": "hidden argument"}')
        running_id = _insert(served.engine, task, status="doing")
        with served.engine.connect() as connection:
            insert = "INSERT INTO procrastinate_results (job_id, value) VALUES (:id, CAST(:value AS jsonb))"
            connection.execute(sa.text(insert), {"id": job_id, "value": '"hidden result"'})
            insert = (
                "INSERT INTO procrastinate_job_reports (job_id, attempt, kind, content)"
                " VALUES (:id, 1, 'progress', CAST(:value AS jsonb))"
            )
            report = '{"message": "hidden message", "done": 1, "total": 4}'
            connection.execute(sa.text(insert), {"id": running_id, "value": report})
        served.set_access(access)
        text = client.get(f"jobs/{job_id}").text + client.get(f"jobs/{running_id}").text
        assert 'value="25"' in text
        for words in ("hidden argument", "hidden result", "hidden user", "hidden message"):
            assert (words in text) is is_shown, words


def test_the_refusal_of_a_row_is_shown_only_with_the_right_to_see_errors(serve: Serve) -> None:
    """PostgreSQL's message has the whole row, with its arguments."""
    with serve() as (served, client):
        with served.engine.connect() as connection:
            insert = (
                "INSERT INTO procrastinate_operations (kind, filter, state, reached_id, last_id, error)"
                " VALUES ('retry', '{\"state\": \"failed\"}', 'done', 1, 1, 'job 1: Failing row contains (secret)')"
                " RETURNING id"
            )
            operation_id = connection.exec_driver_sql(insert).scalar_one()
        for access, is_shown in ((Access.read_only(), True), (Access.names_only(), False)):
            served.set_access(access)
            for page in (f"operations/{operation_id}", "operations"):
                text = client.get(page).text
                assert is_shown or "secret" not in text
            assert ("secret" in client.get(f"operations/{operation_id}").text) is is_shown


def _hide_of_arguments(task_name: str, value: dict[str, Any]) -> dict[str, Any]:
    return {key: "hidden" if key == "iban" else one for key, one in value.items()}


def test_a_result_that_the_function_of_the_project_does_not_expect_is_no_error(serve: Serve) -> None:
    with serve(redact=_hide_of_arguments) as (served, client):
        job_id = _insert(served.engine, "shop.pays", '{"order": 4242}')
        with served.engine.connect() as connection:
            insert = "INSERT INTO procrastinate_results (job_id, value) VALUES (:id, CAST('4711' AS jsonb))"
            connection.execute(sa.text(insert), {"id": job_id})
        answer = client.get(f"jobs/{job_id}")
        assert answer.status_code == 200
        assert "4242" in answer.text
        assert "4711" not in answer.text
