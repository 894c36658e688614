"""How many jobs the admin's list looks through for a question that no index answers."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from procrastinate.adapters.django.admin import paginator, reach

pytestmark = pytest.mark.usefixtures("project")

JOBS = "/admin/procrastinate/procrastinatejob/"
ENDED = """
INSERT INTO procrastinate_jobs (queue_name, task_name, lock, status, finished_at)
SELECT 'q' || n % 3, CASE n WHEN 1 THEN 'rare' ELSE 'common' END, 'lock ' || n, 'succeeded', now() + n * interval '1 s'
FROM generate_series(1, {}) AS n
"""
WAITING = "INSERT INTO procrastinate_jobs (queue_name, task_name, lock, priority) VALUES ('q0', 'waits', {}, {})"
QUESTIONS: list[dict[str, Any]] = [
    {"status": "todo"},
    {"status": "doing"},
    {"status": "succeeded"},
    {"status": "succeeded", "o": "1"},
    {"status": "aborted"},
    {"task_name": "rare"},
    {"queue_name": "nope"},
    {"status": "succeeded", "task_name": "rare"},
    {"status": "todo", "queue_name": "nope"},
    {"q": "nowhere"},
    {"q": "lock 9999999", "status": "succeeded"},
    {"scheduled_at__isnull": "False"},
]


@pytest.fixture
def admin() -> Client:
    """Return a browser of one who may do anything."""
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    return client


@pytest.fixture
def small_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look through ten jobs."""
    monkeypatch.setattr(reach, "NEWEST", 10)
    monkeypatch.setattr(reach, "FIRST_WAITING", 10)


def execute(statement: str) -> None:
    """Run plain SQL."""
    with connection.cursor() as cursor:
        cursor.execute(statement)


def listed(client: Client, **question: Any) -> list[int]:
    """Return the numbers of the listed jobs."""
    return [job.pk for job in client.get(JOBS, question).context["cl"].result_list]


@pytest.mark.usefixtures("small_reach")
@pytest.mark.parametrize("status", [{}, {"status": "succeeded"}])
def test_a_filter_looks_through_the_newest_jobs_and_through_all_on_request(
    admin: Client, status: dict[str, str]
) -> None:
    execute(ENDED.format(20))
    first = min(listed(admin))
    assert listed(admin, task_name="rare", **status) == []
    assert listed(admin, task_name="rare", reach="all", **status) == [first]
    assert len(listed(admin, task_name="common", **status)) == 10
    assert len(listed(admin, task_name="common", reach="all", **status)) == 19
    assert "the newest 10, or the first" in admin.get(JOBS).content.decode()


@pytest.mark.usefixtures("small_reach")
def test_the_box_for_a_job_in_another_form_looks_through_the_newest_jobs_and_for_an_id(admin: Client) -> None:
    execute(ENDED.format(20))
    first = min(listed(admin))

    def found(term: str) -> list[str]:
        asked = {"term": term, "app_label": "procrastinate", "model_name": "procrastinateevent", "field_name": "job"}
        return [job["id"] for job in admin.get("/admin/autocomplete/", asked).json()["results"]]

    assert found("rare") == []
    assert len(found("common")) == 10
    assert found(str(first)) == [str(first)]
    assert len(found("")) == 20


@pytest.mark.usefixtures("small_reach")
def test_a_filter_of_waiting_jobs_looks_through_those_that_run_first(admin: Client) -> None:
    for n in range(20):
        execute(WAITING.format("NULL", n))
    last = max(listed(admin))
    execute(WAITING.format("'l'", 0))
    assert listed(admin, status="todo") == [last + 1, *range(last, last - 10, -1)]
    assert len(listed(admin, status="todo", reach="all")) == 21


@pytest.mark.usefixtures("small_reach")
def test_a_job_is_found_by_its_number_however_old_it_is(admin: Client) -> None:
    execute(ENDED.format(20))
    first = min(listed(admin))
    assert listed(admin, q=str(first)) == [first]
    assert listed(admin, id__exact=str(first)) == [first]
    assert listed(admin, id__in=f"{first},{first + 1}") == [first + 1, first]


def test_jobs_of_one_ended_status_are_in_the_order_of_their_ends(admin: Client) -> None:
    execute(ENDED.format(3))
    newest_first = listed(admin)
    execute("UPDATE procrastinate_jobs SET finished_at = now() - id * interval '1 s'")
    assert listed(admin, status="succeeded") == newest_first[::-1]
    assert listed(admin, status="succeeded", o="1") == newest_first


def fill() -> None:
    """Make a table of which the list looks through a small part."""
    execute(ENDED.format(30_000))
    for n in range(30):
        execute(WAITING.format("NULL" if n % 2 else f"'l{n}'", n))
    execute("ANALYZE procrastinate_jobs")


@pytest.mark.parametrize("question", QUESTIONS, ids=str)
def test_no_question_reads_the_table_from_end_to_end(
    admin: Client, monkeypatch: pytest.MonkeyPatch, question: dict[str, Any]
) -> None:
    fill()
    monkeypatch.setattr(reach, "NEWEST", 100)
    monkeypatch.setattr(reach, "FIRST_WAITING", 100)
    monkeypatch.setattr(paginator.BoundedPaginator, "limit", 100)
    with CaptureQueriesContext(connection) as queries:
        assert admin.get(JOBS, question).status_code == 200
    asked = [query["sql"] for query in queries if 'FROM "procrastinate_jobs"' in query["sql"]]
    assert len(asked) >= 4
    for statement in asked:
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}")
            (plan,) = cursor.fetchone()
        assert _largest_read(json.loads(plan)[0]["Plan"] if isinstance(plan, str) else plan[0]["Plan"]) < 11_000


def _largest_read(plan: dict[str, Any]) -> int:
    """Return the largest number of rows that one node reads: choices of the filters look at 10,000 numbers."""
    own = plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0) if "Relation Name" in plan else 0
    return max([own * plan["Actual Loops"], *map(_largest_read, plan.get("Plans", []))])
