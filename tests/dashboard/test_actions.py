"""What becomes of actions and links if the project or the data is odd."""

from __future__ import annotations

import html
import re

import pytest
import sqlalchemy as sa

from tests.dashboard.test_hidden import Serve, serve

__all__ = ["serve"]


def _insert(engine: sa.Engine, **values: object) -> int:
    names, places = ", ".join(values), ", ".join(f":{name}" for name in values)
    statement = f"INSERT INTO procrastinate_jobs ({names}) VALUES ({places}) RETURNING id"  # noqa: S608
    with engine.connect() as connection:
        return int(connection.execute(sa.text(statement), values).scalar_one())


@pytest.mark.parametrize("queue", ["a queue: 'x' <b>", 'the "mail" queue', "mail"])
def test_the_panel_of_a_queue_that_waits_leads_to_its_jobs(serve: Serve, queue: str) -> None:
    with serve() as (served, client):
        job_id = _insert(served.engine, queue_name=queue, task_name="t")
        _insert(served.engine, queue_name="another", task_name="t")
        with served.engine.connect() as connection:
            statement = "UPDATE procrastinate_events SET at = at - interval '1 hour' WHERE job_id = :id"
            connection.execute(sa.text(statement), {"id": job_id})
        panel = next(
            one
            for one in re.findall(r'<a href="([^"]*)"', client.get("").text)
            if "state=ready" in one and "&amp;q" in one
        )
        page = client.get(html.unescape(panel)).text
        assert f"#{job_id}<" in page
        assert page.count("data-row") == 1
