"""The admin lists jobs quickly, and changes them only through actions."""

from __future__ import annotations

import re
import sys
import urllib.parse
from typing import Any

import pytest
from django.contrib.admin import AdminSite, site
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext, override_settings
from django.urls import path

from procrastinate.adapters.django.admin import ProcrastinateJobAdmin
from procrastinate.adapters.django.admin.paginator import BoundedPaginator
from procrastinate.contrib.django import app
from procrastinate.contrib.django.models import ProcrastinateJob, ProcrastinateOperation
from procrastinate.core import FinishedJob, NewError, Status, fetch_jobs, finish_jobs, promote_jobs, register_worker
from tests.django.shop.tasks import fail, ship, ship_async

pytestmark = pytest.mark.usefixtures("project")

JOBS = "/admin/procrastinate/procrastinatejob/"

ops = AdminSite(name="ops")
ops.register(ProcrastinateJob, ProcrastinateJobAdmin)
urlpatterns = [path("admin/", site.urls), path("ops/", ops.urls)]
"""A project with two sites of the admin."""


@pytest.fixture
def admin() -> Client:
    """Return a test client of a superuser."""
    return _client(User.objects.create_superuser("admin"))


def _client(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def _staff(*permissions: str) -> Client:
    user = User.objects.create_user("staff", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    return _client(user)


def _listed(client: Client, query: str = "") -> list[int]:
    response = client.get(f"{JOBS}?{query}")
    assert response.status_code == 200, response.status_code
    return [job.pk for job in response.context["cl"].result_list]


def _set_status(job_id: int, status: Status) -> None:
    with override_settings(PROCRASTINATE_READONLY_MODELS=False):
        ProcrastinateJob.objects.filter(pk=job_id).update(status=status.value)


def _act(client: Client, action: str, *job_ids: int, **data: Any) -> list[str]:
    """Run an action, and return its messages."""
    posted = {"action": action, "_selected_action": job_ids, "index": 0, **data}
    response = client.post(JOBS, posted, follow=True)
    return [str(message) for message in response.context["messages"]]


def _status(job_id: int) -> str:
    return ProcrastinateJob.objects.get(pk=job_id).status


def test_the_list_shows_the_newest_first(admin: Client) -> None:
    """The list shows one page."""
    ids = [ship.defer(order_id=number) for number in range(3)]
    assert _listed(admin) == ids[::-1]


def test_the_list_takes_as_many_queries_for_many_jobs_as_for_one(admin: Client) -> None:
    """No query is made per row."""
    counts = []
    for batch in (1, 30):
        ship.batch_defer(*({"order_id": number} for number in range(batch)))
        with CaptureQueriesContext(connection) as queries:
            _listed(admin)
        counts.append(len(queries))
    assert counts[0] == counts[1]


def test_filters(admin: Client) -> None:
    """Jobs are filtered by status, queue, task and time."""
    first, second, third = ship.defer(order_id=1), ship_async.defer(order_id=1), fail.defer()
    _set_status(third, Status.FAILED)
    assert _listed(admin, "status__exact=failed") == [third]
    assert _listed(admin, "queue_name=async") == [second]
    assert _listed(admin, f"task_name={ship.name}") == [first]
    assert _listed(admin, "scheduled_at__isnull=False") == []


def test_the_list_has_the_words_of_the_dashboard_for_steps_that_wait(admin: Client) -> None:
    wf = app.workflow("order")
    wf.add(ship, order_id=1, after=[wf.add_signal("endless"), wf.add_signal("timed", timeout=3600)])
    wf.defer()
    app.run_worker(wait=False, listen_notify=False)
    ship.configure(schedule_in={"hours": 1}).defer(order_id=2)
    starts = re.findall(r'<td class="field-start[^>]*>(due|[\w ]*)', admin.get(JOBS).content.decode())
    assert starts == ["due", "waiting for steps", "waiting for signal", "waiting for signal"]


def test_filters_offer_what_is_declared_and_what_is_in_the_table(admin: Client) -> None:
    """A declared queue may have no jobs yet, and a queue in the table may not be declared."""
    ship.configure(queue="elsewhere").defer(order_id=1)
    content = admin.get(JOBS).content.decode()
    assert {"async", "default", "elsewhere"} <= set(re.findall(r"\?queue_name=(\w+)", content))
    assert "?task_name=shop.ship_async" in content


@pytest.mark.parametrize("words", ["ship", "night", "customer-7", "only once"])
def test_search(admin: Client, words: str) -> None:
    """The search matches parts of the task, the queue, the lock and the queueing lock."""
    fail.defer()
    found = ship.configure(queue="nightly", lock="customer-7", queueing_lock="ship only once").defer(order_id=1)
    assert _listed(admin, f"q={words}") == [found]


def test_search_by_number(admin: Client) -> None:
    """A number finds the job with that id, or else jobs with the number in a name."""
    first, second = ship.defer(order_id=1), ship.configure(lock="customer-77").defer(order_id=1)
    assert _listed(admin, f"q={first}") == [first]
    assert _listed(admin, "q=77") == [second]
    assert _listed(admin, "q=" + "9" * 30) == []


def test_what_is_beyond_the_bound_is_not_counted(admin: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page shows that the count is incomplete."""
    ship.batch_defer(*({"order_id": number} for number in range(12)))
    monkeypatch.setattr(BoundedPaginator, "limit", 10)
    response = admin.get(JOBS)
    assert response.context["cl"].result_count == 10
    assert "There are more than 10" in response.content.decode()
    assert "More than 10 jobs." in response.content.decode()
    assert "10 results" not in response.content.decode()
    monkeypatch.setattr(BoundedPaginator, "limit", 12)
    assert "There are more than" not in admin.get(JOBS).content.decode()


def test_the_page_of_a_job_shows_its_events_and_arguments(admin: Client) -> None:
    """The page escapes them."""
    job_id = ship.configure(schedule_in={"hours": 1}).defer(order_id="<script>alert(1)</script>")
    content = admin.get(f"{JOBS}{job_id}/change/").content.decode()
    assert "&lt;script&gt;alert(1)" in content
    assert "<script>alert(1)" not in content
    assert re.findall(r"<li><strong>(\w+)</strong>", content) == ["scheduled", "deferred"]
    assert "<script>alert(1)" not in admin.get(JOBS).content.decode()


def test_every_text_of_a_job_is_escaped(admin: Client) -> None:
    """This holds for the list, its filters, the job's page and messages of actions."""
    bad = "<script>alert(1)</script>"
    job_id = app.configure_task(bad, lock=bad, queueing_lock=bad, queue=bad).defer(**{bad: bad})
    pages = [admin.get(JOBS), admin.get(f"{JOBS}{job_id}/change/"), admin.get(JOBS, {"q": bad, "queue_name": bad})]
    pages.append(admin.post(JOBS, {"action": "cancel", "_selected_action": job_id, "index": 0}, follow=True))
    pages.append(admin.get(f"{JOBS}{job_id}/history/"))
    for page in pages:
        assert page.status_code == 200
        assert bad not in page.content.decode()
        assert "&lt;script&gt;" in page.content.decode()


def test_arguments_that_are_no_object(admin: Client) -> None:
    """The list also shows a job whose arguments a user's SQL set to a JSON array."""
    job_id = ship.defer(order_id=1)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE procrastinate_jobs SET args = '[1, 2]'")
    assert _listed(admin) == [job_id]


def test_nothing_can_be_added_changed_or_deleted(admin: Client) -> None:
    """This holds for a superuser, for a forged form, and with a router that refuses writes."""
    job_id = ship.defer(order_id=1)
    with override_settings(DATABASE_ROUTERS=["procrastinate.contrib.django.ProcrastinateReadOnlyRouter"]):
        for path in ("add/", f"{job_id}/delete/"):
            assert admin.get(JOBS + path).status_code == 403
            assert admin.post(JOBS + path, {"post": "yes"}).status_code == 403
        assert admin.post(f"{JOBS}{job_id}/change/", {"priority": 3}).status_code == 403
    _act(admin, "delete_selected", job_id)
    assert _status(job_id) == "todo"


def test_retry(admin: Client) -> None:
    """Failed and running jobs can be retried."""
    failed, doing, todo = (ship.defer(order_id=number) for number in range(3))
    _set_status(failed, Status.FAILED)
    _set_status(doing, Status.DOING)
    assert _act(admin, "retry", failed, doing, todo) == [
        "2 jobs were returned to the queue.",
        "1 job was skipped: its status is not failed or doing.",
    ]
    assert (_status(failed), _status(doing)) == ("todo", "todo")


def test_cancel(admin: Client) -> None:
    """Waiting jobs can be cancelled."""
    todo, doing = ship.defer(order_id=1), ship.defer(order_id=2)
    _set_status(doing, Status.DOING)
    assert _act(admin, "cancel", todo, doing) == [
        "1 job was cancelled.",
        "1 job was skipped: its status is not todo.",
    ]
    assert (_status(todo), _status(doing)) == ("cancelled", "doing")


def test_abort(admin: Client) -> None:
    """Waiting jobs are cancelled, and running jobs get an abort request."""
    todo, doing = ship.defer(order_id=1), ship.defer(order_id=2)
    _set_status(doing, Status.DOING)
    assert _act(admin, "abort", todo, doing) == ["2 jobs were cancelled or asked to stop."]
    assert (_status(todo), _status(doing)) == ("cancelled", "doing")
    assert ProcrastinateJob.objects.get(pk=doing).abort_requested


def test_an_action_passes_over_jobs_whose_rows_another_session_has_locked(admin: Client) -> None:
    """A person waits for the answer, and a request keeps a thread of the server."""
    locked, free = ship.defer(order_id=1), ship.defer(order_id=2)
    other = connection.copy()
    try:
        other.set_autocommit(False)
        with other.cursor() as cursor:
            cursor.execute("SELECT FROM procrastinate_jobs WHERE id = %s FOR UPDATE", [locked])
        assert _act(admin, "cancel", locked, free) == [
            "1 job was cancelled.",
            "1 job was skipped: another session has locked its row. Repeat the action later.",
        ]
        other.rollback()
    finally:
        other.close()
    assert (_status(locked), _status(free)) == ("todo", "cancelled")


def test_an_action_must_be_posted_and_with_the_token(admin: Client) -> None:
    """Neither a link nor a form on another site changes a job."""
    job_id = ship.defer(order_id=1)
    asked = {"action": "cancel", "_selected_action": job_id, "index": 0, "_from_job_page": job_id}
    admin.get(JOBS, asked)
    admin.get(f"{JOBS}{job_id}/change/", asked)
    assert _status(job_id) == "todo"
    elsewhere = Client(enforce_csrf_checks=True)
    elsewhere.force_login(User.objects.get())
    assert elsewhere.post(JOBS, asked).status_code == 403
    assert _status(job_id) == "todo"


def test_actions_are_logged(admin: Client) -> None:
    """The job's history in the admin shows them."""
    job_id = ship.defer(order_id=1)
    _act(admin, "cancel", job_id)
    entry = LogEntry.objects.get()
    assert (entry.object_id, entry.user.username, entry.get_change_message()) == (
        str(job_id),
        "admin",
        "Cancel: cancelled.",
    )
    assert admin.get(f"{JOBS}{job_id}/history/").status_code == 200


def _post_on_dashboard(admin: Client, path: str, form: dict[str, str]) -> None:
    """Send a form of the dashboard, as a browser does."""
    response = admin.post(f"{JOBS}dashboard/{path}", form, headers={"Sec-Fetch-Site": "same-origin"})
    assert response.status_code == 303


def _logged() -> list[tuple[str, str, str, str, str]]:
    """Return the entries of the admin's log: the model, the id, the shown text, the change and the user."""
    return [
        (
            entry.content_type.model.removeprefix("procrastinate"),
            entry.object_id,
            entry.object_repr,
            entry.get_change_message(),
            entry.user.username,
        )
        for entry in LogEntry.objects.order_by("id")
    ]


def test_pauses_and_resumes_on_the_dashboard_are_logged(admin: Client) -> None:
    """Whatever an action changes is in the log, also if that is no job."""
    form = {"queue": "mail", "reason": "The provider limits us"}
    _post_on_dashboard(admin, "queues/pause", form)
    assert [(pause.queue, pause.by) for pause in app.queues.list()] == [("mail", "admin")]
    _post_on_dashboard(admin, "queues/resume", form)
    assert _logged() == [
        ("pausedqueue", "mail", "queue mail", "pause on the dashboard", "admin"),
        ("pausedqueue", "mail", "queue mail", "resume on the dashboard", "admin"),
    ]
    assert b"queue mail" in admin.get("/admin/").content


def test_a_pause_of_a_queue_with_any_name_is_logged(admin: Client) -> None:
    name = "\x1b\u202e<b>" * 25
    _post_on_dashboard(admin, "queues/pause", {"queue": urllib.parse.quote(name)})
    ((model, object_id, shown, *_),) = _logged()
    assert (model, object_id) == ("pausedqueue", name)
    assert shown.isprintable()
    assert "<b>\\x1b" not in admin.get("/admin/").content.decode()


def test_actions_on_a_workflow_and_on_many_jobs_are_logged(admin: Client) -> None:
    wf = app.workflow("order")
    wf.add(ship, order_id=1)
    workflow_id = wf.defer()
    # There is no workflow after the first: nothing changes, and nothing is logged.
    for id_ in (workflow_id, workflow_id + 1):
        _post_on_dashboard(admin, f"workflows/{id_}/cancel", {})
    ship.defer(order_id=2)
    _post_on_dashboard(admin, "operations/start", {"action": "cancel", "state": "ready"})
    operation_id = ProcrastinateOperation.objects.get().pk
    with connection.cursor() as cursor:
        cursor.execute("UPDATE procrastinate_operations SET state = 'pending'")
    _post_on_dashboard(admin, f"operations/{operation_id}/cancel", {})
    assert _logged() == [
        (
            "workflow",
            str(workflow_id),
            f"workflow {workflow_id}",
            "workflow_cancel on the dashboard",
            "admin",
        ),
        (
            "operation",
            str(operation_id),
            f"operation {operation_id}",
            "bulk_cancel on the dashboard",
            "admin",
        ),
        (
            "operation",
            str(operation_id),
            f"operation {operation_id}",
            "operation_cancel on the dashboard",
            "admin",
        ),
    ]


@override_settings(USE_THOUSAND_SEPARATOR=True, LANGUAGE_CODE="en")
def test_the_page_of_a_job_posts_its_id_without_separators(admin: Client) -> None:
    with connection.cursor() as cursor:
        cursor.execute("ALTER SEQUENCE procrastinate_jobs_id_seq RESTART 1234567")
    job_id = ship.defer(order_id=1)
    page = admin.get(f"{JOBS}{job_id}/change/").content.decode()
    assert re.findall(r'name="_selected_action" value="([^"]*)"', page) == ["1234567"]


@override_settings(ROOT_URLCONF=__name__)
def test_an_action_on_the_page_of_a_job_returns_to_the_same_site(admin: Client) -> None:
    job_id = ship.defer(order_id=1)
    asked = {"action": "cancel", "_selected_action": job_id, "index": 0, "_from_job_page": job_id}
    response = admin.post("/ops/procrastinate/procrastinatejob/", asked)
    assert response.headers["Location"] == f"/ops/procrastinate/procrastinatejob/{job_id}/change/"
    dashboard = admin.get("/ops/procrastinate/procrastinatejob/dashboard/").content.decode()
    assert 'href="/ops/"' in dashboard
    assert 'href="/admin/' not in dashboard


def test_the_page_of_a_job_offers_what_its_status_allows(admin: Client) -> None:
    """After the action, the browser returns to the page."""
    job_id = ship.defer(order_id=1)
    page = f"{JOBS}{job_id}/change/"
    assert re.findall(r'name="action" value="(\w+)"', admin.get(page).content.decode()) == ["cancel", "abort"]
    response = admin.post(JOBS, {"action": "cancel", "_selected_action": job_id, "index": 0, "_from_job_page": job_id})
    assert response.headers["Location"] == page
    assert re.findall(r'name="action" value="(\w+)"', admin.get(page).content.decode()) == ["run_again"]
    _act(admin, "run_again", job_id)
    assert [job.status for job in ProcrastinateJob.objects.order_by("id")] == ["cancelled", "todo"]


def test_the_list_answers_which_job_had_an_argument(admin: Client) -> None:
    """A number may be stored as a number or as text."""
    as_number, as_text = ship.defer(order_id=42), ship.defer(order_id="42")
    ship.defer(order_id=4242)
    assert _listed(admin, "q=order_id=42") == [as_text, as_number]
    assert len(_listed(admin, "q=order_id+%3D+4242")) == 1
    assert _listed(admin, "q=customer.name=ada") == []


def test_the_list_tells_times_with_their_zone_and_why_a_job_failed(admin: Client) -> None:
    fail.defer()
    app.run_worker(wait=False, listen_notify=False)
    text = admin.get(JOBS).content.decode()
    assert "procrastinate-error" in text
    assert re.search(r"<time [^>]*><span>\d{4}-\d\d-\d\d</span> <span>\d\d:\d\d:\d\d CES?T</span></time>", text)
    assert re.search(r"<td class=\"field-took[^>]*>\d+ ms</td>", text)


def test_who_may_view_cannot_act() -> None:
    """Actions need the permission to change jobs."""
    job_id = ship.defer(order_id=1)
    viewer = _staff("view_procrastinatejob")
    assert _listed(viewer) == [job_id]
    assert "procrastinate-actions" not in viewer.get(f"{JOBS}{job_id}/change/").content.decode()
    _act(viewer, "cancel", job_id)
    assert _status(job_id) == "todo"


def test_who_may_change_can_act() -> None:
    """The permission does not allow changing a job's values."""
    job_id = ship.defer(order_id=1)
    operator = _staff("change_procrastinatejob")
    assert operator.post(f"{JOBS}{job_id}/change/", {"priority": 3}).status_code == 403
    assert _act(operator, "cancel", job_id) == ["1 job was cancelled."]


def test_who_may_nothing_sees_nothing() -> None:
    """Staff users without a permission see nothing."""
    assert _staff().get(JOBS).status_code == 403


def test_a_job_that_is_gone(admin: Client) -> None:
    """The admin answers like Django for a missing object."""
    response = admin.get(f"{JOBS}12345/change/", follow=True)
    (message,) = response.context["messages"]
    assert "12345" in str(message)


def test_the_app_that_acts_is_the_projects(admin: Client) -> None:
    """Actions use the project's app with its connector."""
    job_id = ship.defer(order_id=1)
    _act(admin, "cancel", job_id)
    assert app.job_manager.get_job_status(job_id) is Status.CANCELLED


def test_the_page_of_a_job_shows_what_it_returned_and_what_went_wrong(admin: Client) -> None:
    """The page escapes these texts."""
    job_id = ship.defer(order_id=1)
    error = NewError(exception_class="shop.Oops", message="<b>", traceback="Traceback\n  <script>alert(1)</script>")
    worker_id = app.connector.run(register_worker)
    for outcome in (
        FinishedJob(id=job_id, attempts=0, status=Status.FAILED, error=error),
        FinishedJob(id=job_id, attempts=1, status=Status.SUCCEEDED, result='{"parcel": "<i>7</i>"}'),
    ):
        app.connector.run(fetch_jobs, worker_id=worker_id, limit=1)
        assert app.connector.run(finish_jobs, [outcome], worker_id=worker_id) == {job_id}
        page = admin.get(f"{JOBS}{job_id}/change/").content.decode()
        if outcome.status is Status.FAILED:
            assert "&quot;parcel&quot;" not in page
            app.job_manager.retry_job_by_id(job_id)
            app.connector.run(promote_jobs)
    assert "&quot;parcel&quot;: &quot;&lt;i&gt;7&lt;/i&gt;&quot;" in page
    assert "Attempt 1: shop.Oops" in page
    assert f"on worker {worker_id}" in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<script>alert" not in page


def test_the_page_of_a_job_without_errors_shows_none(admin: Client) -> None:
    page = admin.get(f"{JOBS}{ship.defer(order_id=1)}/change/").content.decode()
    assert "procrastinate-errors" not in page


def test_values_of_secret_keys_are_hidden_in_the_list_and_on_the_page(admin: Client) -> None:
    """As on the dashboard, also if the list cuts the arguments after the secret."""
    short = app.configure_task("none.such", task_kwargs={"password": "hunter2"}, allow_unknown=True).defer()
    app.configure_task("none.such", task_kwargs={"password": "hunter2", "text": "x" * 200}, allow_unknown=True).defer()
    for url in (JOBS, f"{JOBS}{short}/change/"):
        page = admin.get(url, follow=True).content.decode()
        assert "password" in page
        assert "hunter2" not in page


@pytest.mark.parametrize("task_name", ["shop.sign_in", "shop.log_in"], ids=["by its name", "by an alias"])
def test_arguments_of_a_task_that_hides_them_are_neither_shown_nor_searched(admin: Client, task_name: str) -> None:
    job_id = app.configure_task("shop.sign_in", task_kwargs={"name": "adalovelace"}).defer()
    with connection.cursor() as cursor:
        cursor.execute("UPDATE procrastinate_jobs SET task_name = %s", [task_name])
        insert = "INSERT INTO procrastinate_results (job_id, value) VALUES (%s, '\"adalovelace\"')"
        cursor.execute(insert, [job_id])
    for url in (JOBS, f"{JOBS}{job_id}/change/"):
        page = admin.get(url, follow=True).content.decode()
        assert task_name.rpartition(".")[2] in page
        assert "adalovelace" not in page
    assert _listed(admin, "q=name%3Dadalovelace") == []


def test_without_jinja2_the_list_names_the_extra(admin: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """The button of the dashboard is missing then."""
    assert "procrastinate-no-dashboard" not in admin.get(JOBS).content.decode()
    monkeypatch.setitem(sys.modules, "jinja2", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "Install the extra" in admin.get(JOBS).content.decode()


def test_hidden_values_cannot_be_searched(admin: Client) -> None:
    """The answer would tell them."""
    job_id = app.configure_task(
        "none.such", task_kwargs={"password": "hunter2", "order": 5}, allow_unknown=True
    ).defer()
    assert _listed(admin, "q=order%3D5") == [job_id]
    assert _listed(admin, "q=password%3Dhunter2") == []
