"""What becomes of actions and links if the project or the data is odd."""

from __future__ import annotations

import functools
import html
import logging
import re
from typing import Any

import pytest
import sqlalchemy as sa

from procrastinate import core
from procrastinate.dashboard.views import workflows
from tests.dashboard import sample
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


def _fail(entry: dict[str, Any]) -> None:
    raise RuntimeError("the project's own table is locked")


def test_a_function_of_the_project_that_fails_stops_no_action(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """The change is made already, and of several selected jobs all are changed."""
    with serve(on_action=_fail) as (served, client):
        ids = [_insert(served.engine, queue_name="q", task_name="t") for _ in range(3)]
        answer = client.post("jobs/selected", data={"action": "cancel", "job": [str(one) for one in ids]})
        assert answer.status_code == 303
        assert "done=selected" in answer.headers["location"]
        with served.engine.connect() as connection:
            statement = "SELECT count(*) FROM procrastinate_jobs WHERE status = 'cancelled'"
            assert connection.exec_driver_sql(statement).scalar_one() == 3
    failures = [one for one in caplog.records if one.__dict__.get("action") == "on_action_failed"]
    assert [one.levelno for one in failures] == [logging.ERROR] * 3
    assert failures[0].exc_info is not None


def test_a_large_workflow_is_cancelled_in_several_requests(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request works for about a second, here for none."""
    monkeypatch.setattr(core, "cancel_steps", functools.partial(core.cancel_steps, limit=100))
    monkeypatch.setattr(workflows, "WORK_FOR", 0.0)
    with serve() as (served, client):
        workflow_id = sample.add_workflow(served.engine, "catalogue")
        messages = []
        for _ in range(10):
            text = client.post(f"workflows/{workflow_id}/cancel", follow_redirects=True).text
            messages.append("Cancel again" in text)
            if not messages[-1]:
                break
        assert messages == [True, True, True, False]
        assert "The steps that waited are cancelled." in text
        with served.engine.connect() as connection:
            statement = (
                "SELECT count(*) FROM procrastinate_jobs WHERE status = 'todo' AND task_name = 'shop.catalogue.work'"
            )
            assert connection.exec_driver_sql(statement).scalar_one() == 0


@pytest.mark.parametrize(("timeout", "silence", "is_lost"), [(5.0, 20, True), (600.0, 60, False)])
def test_a_worker_is_lost_after_its_own_time(serve: Serve, timeout: float, silence: int, is_lost: bool) -> None:
    with serve() as (served, client):
        terms = core.WorkerTerms(heartbeat_interval=1.0, stalled_timeout=timeout)
        with served.engine.connect() as connection:
            worker_id = core.register_worker(connection, terms)
            statement = "UPDATE procrastinate_workers SET last_heartbeat = now() - :silence * interval '1 s'"
            connection.execute(sa.text(statement), {"silence": silence})
        job_id = _insert(served.engine, queue_name="q", task_name="t", status="doing", worker_id=worker_id)
        page = client.get(f"jobs/{job_id}").text
        assert ("worker lost" in page) == is_lost
        assert (f"jobs/{job_id}/retry" in page) == is_lost


_LOCKED_CHANGES: dict[str, tuple[str, dict[str, str]]] = {
    "jobs/1/cancel": ("SELECT FROM procrastinate_jobs FOR UPDATE", {}),
    "jobs/selected": ("SELECT FROM procrastinate_jobs FOR UPDATE", {"action": "cancel", "job": "1"}),
    "queues/pause": ("LOCK TABLE procrastinate_paused_queues IN SHARE MODE", {"queue": "q"}),
    "queues/resume": ("LOCK TABLE procrastinate_paused_queues IN SHARE MODE", {"queue": "q"}),
    "limits/set": ("LOCK TABLE procrastinate_limits IN SHARE MODE", {"limit": "l", "total": "2"}),
    "limits/reset": ("LOCK TABLE procrastinate_limits IN SHARE MODE", {"limit": "l"}),
    "workflows/1/cancel": ("SELECT FROM procrastinate_workflows FOR UPDATE", {}),
    "workflows/1/retry": ("SELECT FROM procrastinate_workflows FOR UPDATE", {}),
    "operations/1/cancel": ("SELECT FROM procrastinate_operations FOR UPDATE", {}),
}
"""The lock that another session has, and the form, by the address of an action."""


@pytest.mark.parametrize("path", sorted(_LOCKED_CHANGES))
def test_an_action_does_not_wait_for_a_lock_of_another_session(serve: Serve, path: str) -> None:
    """A visitor who has given up would see the change come later, and each request would keep a thread."""
    lock, form = _LOCKED_CHANGES[path]
    with serve() as (served, client):
        assert _insert(served.engine, queue_name="q", task_name="t") == 1
        with served.engine.connect() as connection:
            for statement in (
                "INSERT INTO procrastinate_limits (name, concurrency) VALUES ('l', 1)",
                "INSERT INTO procrastinate_workflows (root_id, kind, name, if_failed) "
                "VALUES (1, 'workflow', 'w', 'hold')",
                "INSERT INTO procrastinate_operations (kind, filter) VALUES ('cancel', '{\"state\": \"ready\"}')",
            ):
                connection.exec_driver_sql(statement)
        with served.engine.connect().execution_options(isolation_level="READ COMMITTED") as other, other.begin():
            other.exec_driver_sql(lock)
            answer = client.post(path, data=form)
        assert answer.status_code == 303
        assert "done=failed_locked" in answer.headers["location"]
        assert answer.next_request is not None
        assert "Another session holds a lock" in client.send(answer.next_request).text
