"""The admin and the models answer, whatever a row holds and whatever a URL asks."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.db.models import F, Value
from django.test import Client

from procrastinate.adapters.django.fields import LAST_TIME
from procrastinate.contrib.django import app
from procrastinate.contrib.django.models import ProcrastinateEvent, ProcrastinateJob, ProcrastinateResult
from tests.django.shop.tasks import ship

pytestmark = pytest.mark.usefixtures("project")

JOBS = "/admin/procrastinate/procrastinatejob/"
LONG = bool(os.environ.get("PROCRASTINATE_TESTS_LONG"))

TIMES = ("infinity", "-infinity", "20000-01-01", "294276-12-31 23:59:59+00", "4713-01-01 BC", "9999-12-31 23:59:59+00")
ARGUMENTS = {
    "a number of 5,000 digits": """'{"a": 1e5000}'""",
    "a number of 4,300 digits": """'{"a": 1e4299}'""",
    "a number of 5,000 digits after its point": """'{"a": 1e-5000}'""",
    "5,000 levels": "(repeat('[', 5000) || repeat(']', 5000))::jsonb",
    "300 levels": "(repeat('[', 300) || repeat(']', 300))::jsonb",
    "900 levels": "(repeat('[', 900) || repeat(']', 900))::jsonb",
    "an array": "'[1]'",
    "null": "'null'",
    "more than a gigabyte of 4,000 digits": "(SELECT jsonb_agg(1e4000::numeric) FROM generate_series(1, 300000))",
    "a text of more than a gigabyte": "(SELECT jsonb_agg(1e131071::numeric) FROM generate_series(1, 9000))",
}

VALUES = (
    "running", "failed", "a\x00b", "", "0", "-1", "1.5", "1e5", "9" * 20, "9" * 5000, "\u0663", "\u00b2", "%", "'", '"',
    "(", "[", "{", "\\", "null", "None", "True", "x,y", "1,2", "infinity", "20000-01-01", "0001-01-01", "\U0001f600",
    "x" * 9000,
)  # fmt: skip
FIELDS = ("id", "status", "lock", "args", "scheduled_at", "abort_requested", "worker")
"""A column of each type: the lookups and the values that a URL may name depend on the type."""
ALIKE = ("queue_name", "task_name", "priority")
"""Columns whose types have a column above already."""
LOOKUPS = (
    "", "exact", "in", "isnull", "gt", "lte", "range", "contains", "icontains", "iexact", "startswith", "regex",
    "iregex", "year", "date", "time", "week_day", "has_key", "contained_by", "a__b", "nothing",
)  # fmt: skip
CONTROLS = (
    "o",
    "p",
    "q",
    "e",
    "all",
    "_facets",
    "_popup",
    "_to_field",
    "_changelist_filters",
    "drf__status",
    "pk",
    "a\x00b",
)


@pytest.fixture
def admin() -> Client:
    """The browser of a superuser."""
    client = Client()
    client.force_login(User.objects.create_superuser("admin"))
    return client


def _insert(**columns: str) -> int:
    """Write a job with plain SQL."""
    values = {"queue_name": "'default'", "task_name": "'t'", **columns}
    statement = (
        f"INSERT INTO procrastinate_jobs ({', '.join(values)}) VALUES ({', '.join(values.values())}) RETURNING id"  # noqa: S608
    )
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return int(cursor.fetchone()[0])


def _pages(admin: Client, job_id: int) -> tuple[str, str]:
    pages = [admin.get(path) for path in (JOBS, f"{JOBS}{job_id}/change/")]
    assert [page.status_code for page in pages] == [200, 200]
    return pages[0].content.decode(), pages[1].content.decode()


def test_a_secret_is_hidden_also_in_arguments_that_python_cannot_read(admin: Client) -> None:
    job_id = _insert(args="""'{"number": 1e5000, "password": "hunter2"}'""")
    for page in _pages(admin, job_id):
        assert "hunter2" not in page


FORGED = "pay\u202egnp.exe\u200b\x1b[2K\u0085\u2066"


def test_text_of_a_row_cannot_disguise_itself_on_a_page(admin: Client) -> None:
    """Marks that change the direction of writing, and characters that are not drawn, in every column with text."""
    job_id = app.configure_task(FORGED, lock=FORGED, queueing_lock=FORGED, queue=FORGED).defer(**{FORGED: FORGED})
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO procrastinate_results VALUES (%s, to_jsonb(%s::text))", [job_id, FORGED])
        cursor.execute(
            "INSERT INTO procrastinate_errors (job_id, attempt, at, exception_class, message, traceback) "
            "VALUES (%s, 1, now(), %s, %s, %s)",
            [job_id, FORGED, FORGED, FORGED],
        )
    pages = [*_pages(admin, job_id), admin.get(f"{JOBS}{job_id}/history/").content.decode()]
    pages.append(
        admin.post(JOBS, {"action": "cancel", "_selected_action": job_id, "index": 0}, follow=True).content.decode()
    )
    for page in pages:
        assert "\\u202egnp.exe" in page
        visible = re.sub(r'(href|value)="[^"]*"', "", page)  # what a link or a box sends back is the name as it is
        assert not set(FORGED) & set("\u202e\u200b\x1b\u0085\u2066") & set(visible)


def test_long_text_is_cut_on_a_page_with_a_note_of_its_length(admin: Client) -> None:
    long = "x" * 10_000_000
    job_id = app.configure_task("t", lock=None).defer(argument=long)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE procrastinate_jobs SET lock = %s WHERE id = %s", [long[:1000], job_id])
        cursor.execute("INSERT INTO procrastinate_results VALUES (%s, to_jsonb(%s::text))", [job_id, long])
        cursor.execute(
            "INSERT INTO procrastinate_errors (job_id, attempt, at, exception_class, message, traceback) "
            "VALUES (%s, 1, now(), %s, %s, %s)",
            [job_id, long, long, long],
        )
    page = _pages(admin, job_id)[1]
    assert len(page) < 300_000
    assert page.count("(of 10,000,0") == 4  # the argument, the result, and the class and traceback of the error


@pytest.mark.parametrize("time", TIMES)
def test_a_time_that_python_cannot_hold_is_shown_as_postgresql_writes_it(admin: Client, time: str) -> None:
    job_id = _insert(scheduled_at=f"'{time}'", finished_at=f"'{time}'", status="'failed'")
    with connection.cursor() as cursor:
        cursor.execute("UPDATE procrastinate_events SET at = %s::timestamptz WHERE job_id = %s", [time, job_id])
        cursor.execute("SELECT %s::timestamptz::text", [time])
        (text,) = cursor.fetchone()
    for page in _pages(admin, job_id):
        assert text in page


@pytest.mark.parametrize("time", TIMES)
def test_a_time_that_python_cannot_hold_is_read_as_none_or_as_the_last_time_to_be_due(time: str) -> None:
    good = ship.defer(order_id=1)
    bad = _insert(scheduled_at=f"'{time}'")
    jobs = {job.pk: job for job in ProcrastinateJob.objects.all()}
    assert jobs.keys() == {good, bad}
    due = None if time in ("-infinity", "4713-01-01 BC") else LAST_TIME
    assert jobs[bad].scheduled_at == due
    assert list(ProcrastinateJob.objects.filter(pk=bad).values_list("scheduled_at", flat=True)) == [due]
    assert len(ProcrastinateJob.objects.order_by("scheduled_at").values("scheduled_at").distinct()) >= 1
    with connection.cursor() as cursor:
        cursor.execute("UPDATE procrastinate_events SET at = %s::timestamptz", [time])
    assert {event.at for event in ProcrastinateEvent.objects.all()} == {None}


@pytest.mark.parametrize("arguments", ARGUMENTS)
def test_arguments_that_python_cannot_read_fail_no_page(admin: Client, arguments: str) -> None:
    job_id = _insert(args=ARGUMENTS[arguments])
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO procrastinate_results SELECT id, args FROM procrastinate_jobs")
    _pages(admin, job_id)


@pytest.mark.parametrize("column", ["meta", "trace_context"])
def test_a_value_that_no_page_shows_fails_no_page(admin: Client, column: str) -> None:
    _pages(admin, _insert(**{column: ARGUMENTS["a text of more than a gigabyte"]}))


@pytest.mark.parametrize("value", [text for name, text in ARGUMENTS.items() if "gigabyte" not in name])
def test_a_value_that_python_cannot_read_fails_no_query(admin: Client, value: str) -> None:
    good = ship.defer(order_id=1)
    bad = _insert(args=value)
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO procrastinate_results SELECT id, args FROM procrastinate_jobs WHERE id = %s", [bad])
    assert {job.pk for job in ProcrastinateJob.objects.all()} == {good, bad}
    assert ProcrastinateResult.objects.get(pk=bad).value == ProcrastinateJob.objects.get(pk=bad).args
    _pages(admin, bad)


def test_the_list_reads_no_large_arguments(admin: Client) -> None:
    job_id = ship.defer(order_id="x" * 100_000)
    listed, page = _pages(admin, job_id)
    assert "large: open the job" in listed
    assert "x" * 9_000 in page
    assert "... (of 100," in page
    (job,) = admin.get(JOBS).context["cl"].result_list
    assert "args" in job.get_deferred_fields()


def test_an_unknown_word_finds_no_job_and_excludes_none() -> None:
    job_id = ship.defer(order_id=1)
    jobs = ProcrastinateJob.objects
    for lookup in ("exact", "gt", "gte", "lt", "lte", "contains", "iexact"):
        assert not jobs.filter(**{f"status__{lookup}": "running"}).exists()
    assert not jobs.filter(status__in=["running", "nothing"]).exists()
    assert not jobs.filter(status__range=("a", "z")).exists()
    assert jobs.filter(status__in=["running", "todo"]).get().pk == job_id
    assert jobs.exclude(status="running").get().pk == job_id
    assert not jobs.filter(status=Value("running")).exists()
    assert jobs.filter(status__in=[Value("running"), Value("todo"), "doing"]).get().pk == job_id
    assert jobs.filter(status__in=[F("status"), "doing"]).get().pk == job_id
    assert not ProcrastinateEvent.objects.filter(type="running").exists()
    assert not ProcrastinateEvent.objects.filter(job__status="running").exists()


def _names(fields: tuple[str, ...]) -> list[str]:
    return [
        *CONTROLS,
        *(f"{field}__{lookup}".removesuffix("__") for field, lookup in itertools.product(fields, LOOKUPS)),
    ]


def _each_name() -> Iterator[dict[str, str]]:
    """Give each name a value, in turn: every value meets several names."""
    for number, name in enumerate(_names(FIELDS)):
        yield {name: VALUES[number % len(VALUES)]}


def _many_pairs() -> Iterator[dict[str, str]]:
    """Give each name several kinds of values, and some names every value."""
    for number, name in enumerate(_names(FIELDS + ALIKE)):
        for step in (0, 2, 11):
            yield {name: VALUES[(number + step) % len(VALUES)]}
    names = ("status", "status__exact", "status__in", "queue_name", "scheduled_at__gte", *CONTROLS)
    for name, value in itertools.product(names, VALUES):
        yield {name: value}


@pytest.mark.timeout(400)
@pytest.mark.filterwarnings("ignore:DateTimeField .* received a naive datetime:RuntimeWarning")
def test_no_parameter_of_a_url_fails_the_list(admin: Client) -> None:
    ship.configure(lock="l", schedule_in={"hours": 1}).defer(order_id=1)
    admin.raise_request_exception = False
    refused = f"{JOBS}?e=1"
    assert admin.get(refused).status_code == 200
    failed = [
        (asked, response.status_code)
        for asked in (_many_pairs() if LONG else _each_name())
        if (response := admin.get(JOBS, asked)).status_code not in (200, 400)
        and response.headers.get("Location") != refused
    ]
    assert failed == []


def test_a_parameter_that_is_refused_leaves_the_transaction_of_its_request_usable(admin: Client) -> None:
    with transaction.atomic():
        assert admin.get(JOBS, {"lock__regex": "("}).status_code == 302
        assert ProcrastinateJob.objects.count() == 0


@pytest.mark.parametrize("value", VALUES)
def test_no_odd_id_fails_a_page_or_an_action(admin: Client, value: str) -> None:
    job_id = ship.defer(order_id=1)
    admin.raise_request_exception = False
    for path in ("change", "history", "delete"):
        assert admin.get(f"{JOBS}{value.replace(chr(0), '%00')}/{path}/", follow=True).status_code < 500
    for field in ("_selected_action", "index", "action", "select_across"):
        posted: dict[str, Any] = {"action": "cancel", "_selected_action": job_id, "index": 0, field: value}
        assert admin.post(JOBS, posted, follow=True).status_code == 200
    searched = {"action": "abort", "_selected_action": value}
    assert admin.post(f"{JOBS}?q={value[:5]}", searched, follow=True).status_code < 500
    assert app.job_manager.get_job_status(job_id) is not None
