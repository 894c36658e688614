"""What pages hide from a visitor, and what a search must not tell of it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from procrastinate.dashboard import hide_keys
from tests.dashboard.hosts import Served, wsgi_host

Serve = Callable[..., AbstractContextManager[tuple[Served, httpx.Client]]]


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
