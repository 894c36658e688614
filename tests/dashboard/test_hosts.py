"""What every host of the dashboard does alike, behind a real web server."""

from __future__ import annotations

import html
import re
import urllib.parse
from collections.abc import Iterator

import httpx
import psycopg
import pytest
import sqlalchemy as sa

from procrastinate.core.channels import ANY_QUEUE_CHANNEL, parse_notification
from procrastinate.dashboard import Access
from procrastinate.dashboard.search import write_term
from tests.dashboard import sample
from tests.dashboard.hosts import Served

PAGES = (
    "",
    "jobs",
    "jobs?state=failed",
    "workflows",
    "workflows/1",
    "queues",
    "tasks",
    "failures",
    "locks",
    "limits",
    "limits?name=%3Cscript%3Ealert(1)%3C/script%3E",
    "limits?name=%3Cscript%3Ealert(1)%3C/script%3E&key=%3Cscript%3Ealert(1)%3C/script%3E",
    "periodic",
    "workers",
    "operations",
    "doctor",
    "system",
)
_LINK = re.compile(r'(?:href|src|action)="([^"]*)"')
_ACTION = re.compile(
    r"/(jobs/(selected|\d+/\w+)|workflows/\d+/\w+|queues/(pause|resume)|limits/(set|reset)|periodic/run)$"
)
"""Addresses that forms are sent to."""


in_two_hosts = pytest.mark.parametrize("served", ["wsgi", "django_admin"], indirect=True)
"""For what the pages do by themselves: on a page of their own, and inside the admin."""


@pytest.fixture
def client(served: Served) -> Iterator[httpx.Client]:
    """A browser of a visitor who may do everything."""
    served.set_access(Access.everything("ada"))
    with served.client() as client:
        yield client


def _defer(served: Served, **columns: str) -> int:
    values = {"queue_name": "'q'", "task_name": "'t'", **columns}
    names, expressions = ", ".join(values), ", ".join(values.values())
    with served.engine.connect() as connection:
        statement = f"INSERT INTO procrastinate_jobs ({names}) VALUES ({expressions}) RETURNING id"  # noqa: S608
        return int(connection.exec_driver_sql(statement).scalar_one())


def _status(served: Served, job_id: int) -> str | None:
    with served.engine.connect() as connection:
        statement = sa.text("SELECT status::text FROM procrastinate_jobs WHERE id = :id")
        return connection.execute(statement, {"id": job_id}).scalar_one_or_none()


def _token(client: httpx.Client, path: str) -> dict[str, str]:
    """Return the hidden fields that the host wants in a form."""
    found = re.search(r'name="(csrf\w*)" value="([^"]+)"', client.get(path).text)
    return {found[1]: found[2]} if found else {}


@pytest.mark.parametrize("page", PAGES)
def test_each_page_is_shown(client: httpx.Client, page: str) -> None:
    answer = client.get(page)
    assert answer.status_code == 200
    assert 'role="alert"' not in answer.text
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("page", PAGES)
def test_no_text_of_a_row_becomes_html(client: httpx.Client, page: str) -> None:
    text = client.get(page).text
    assert "<script>alert" not in text
    assert not set(text) & {"\u202e", "\x1b", "\x07"}


@in_two_hosts
@pytest.mark.parametrize("quote", ["'", '"'])
def test_a_name_with_quotes_adds_no_attribute(client: httpx.Client, served: Served, quote: str) -> None:
    """The name stands in texts and in attributes."""
    name = f"x{quote} onmouseover={quote}alert(2)"
    names = ("queue_name", "task_name", "lock", "queueing_lock")
    job_id = _defer(served, **dict.fromkeys(names, f"$${name}$$"))
    worker = "procrastinate_workers WHERE id = 123456"
    with served.engine.connect() as connection:
        insert = "INSERT INTO procrastinate_workers (id, last_heartbeat, name, hostname) VALUES (123456, now(), :n, :n)"
        connection.execute(sa.text(insert), {"n": name})
        pages = ("jobs", "queues", "tasks", "locks", "workers", "", "doctor", f"jobs/{job_id}", f"jobs?q=queue:{name}")
        texts = {page: client.get(page).text for page in pages}
        connection.exec_driver_sql(f"DELETE FROM {worker}")  # noqa: S608
        connection.exec_driver_sql(f"DELETE FROM procrastinate_jobs WHERE id = {job_id}")  # noqa: S608
    for page, text in texts.items():
        assert f"{quote} onmouseover={quote}alert" not in text, page
    escaped = f"{quote} onmouseover={quote}alert(2)".replace("'", "&#39;").replace('"', "&#34;")
    for page in ("jobs", "queues", "tasks", "workers", f"jobs/{job_id}"):
        assert escaped in texts[page], page


@pytest.mark.parametrize("page", [*PAGES, "jobs/17"])
def test_pages_have_no_inline_script_and_no_inline_style(client: httpx.Client, served: Served, page: str) -> None:
    text = client.get(page).text
    if served.is_embedded:
        text = text[text.index('<div class="pq') : text.index("</main>")]
    assert not re.search(r"<script(?![^>]*src=)|<style|\sstyle=|\son\w+=", text)


def test_all_links_of_all_pages_lead_somewhere(client: httpx.Client, served: Served) -> None:
    """Links are followed from the address of the page, as a browser does."""
    followed = set()
    for page in (*PAGES, "jobs/17"):
        for link in _LINK.findall(client.get(page).text):
            address = urllib.parse.urljoin(f"{served.url}{page}", link.replace("&amp;", "&").replace("&#39;", "'"))
            address = address.partition("#")[0]
            is_page = address.startswith(served.url) and not _ACTION.search(address)
            if is_page and address not in followed and len(followed) < 150:
                followed.add(address)
                assert client.get(address).status_code in (200, 303), address
    assert len(followed) > 60


def test_static_files_are_kept_for_good(client: httpx.Client, served: Served) -> None:
    links = re.findall(r'"([^"]*static/[0-9a-f]{16}/dashboard\.\w+)"', client.get("jobs").text)
    assert len(links) == 2
    for link in links:
        answer = client.get(urllib.parse.urljoin(f"{served.url}jobs", link))
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]
        assert answer.headers["content-type"].split(";")[0] in ("text/css", "text/javascript")
    assert client.get("static/0000000000000000/dashboard.css").status_code == 404


def test_a_content_policy_forbids_everything_from_elsewhere(client: httpx.Client, served: Served) -> None:
    policy = client.get("").headers.get("content-security-policy")
    assert (policy is None) == served.is_embedded
    if policy is not None:
        assert policy.startswith("default-src 'none'")
        assert "unsafe" not in policy


def test_an_address_with_a_slash_at_its_end_leads_to_the_page(client: httpx.Client) -> None:
    assert client.get("jobs/", follow_redirects=True).status_code == 200
    assert client.get("jobs/17/", follow_redirects=True).status_code == 200


@pytest.mark.parametrize("path", ["nothing", "jobs/x", "jobs/999999999", "workflows/99", "jobs/17/arguments/more"])
def test_an_unknown_address_is_not_found(client: httpx.Client, served: Served, path: str) -> None:
    assert client.get(f"{served.url}{path}").status_code == 404


@pytest.mark.parametrize(
    "query",
    [
        "state=nonsense",
        "after=nonsense",
        'after=["1","2","3"]',
        'state=failed&after=["x","y"]',
        'state=succeeded&after=["2026","99999999999999999999999"]',
        "q=%00",
        "q=args.a:1e999999",
        "q=args.a.b.c.d.e.f.g:1",
        "q=%27%22%3B--",
        "q=worker:99999999999999999999",
        "q=" + "x" * 5000,
    ],
)
def test_any_address_gets_an_answer(client: httpx.Client, query: str) -> None:
    assert client.get(f"jobs?{query}").status_code == 200


def test_a_job_id_in_the_search_leads_to_the_job(client: httpx.Client) -> None:
    answer = client.get("jobs?q=17", follow_redirects=True)
    assert answer.url.path.endswith("/jobs/17")
    assert "ReadTimeout" in answer.text


def test_each_traceback_of_the_sample_ends_with_the_error_of_its_row(served: Served) -> None:
    with served.engine.connect() as connection:
        statement = "SELECT exception_class, message, traceback FROM procrastinate_errors WHERE worker_id = -7001"
        rows = connection.exec_driver_sql(statement).all()
    assert len({row.exception_class for row in rows}) == 3
    assert [row for row in rows if row.traceback.splitlines()[-1] != f"{row.exception_class}: {row.message}"] == []


def test_a_search_finds_jobs_by_their_arguments(client: httpx.Client) -> None:
    text = client.get("jobs?q=args.order:1017").text
    assert "#17<" in text
    assert "#18<" not in text


def test_secrets_in_arguments_are_hidden_and_cannot_be_searched(client: httpx.Client) -> None:
    assert "secret 17" not in client.get("jobs/17").text
    assert "secret 17" not in client.get("jobs/17/arguments").text
    assert "secret 17" not in client.get("jobs?q=args.order:1017").text
    assert "cannot be searched" in client.get('jobs?q=args.api_token:"secret 17"').text


def test_large_arguments_are_downloaded(client: httpx.Client, served: Served) -> None:
    with served.engine.connect() as connection:
        job_id = connection.exec_driver_sql("SELECT id FROM procrastinate_jobs WHERE queue_name = 'large'").scalar_one()
    assert "Download" in client.get(f"jobs/{job_id}").text
    answer = client.get(f"jobs/{job_id}/arguments")
    assert answer.headers["content-disposition"].startswith("attachment")
    assert len(answer.content) > 10_000_000


@pytest.mark.parametrize(
    ("action", "columns", "status"),
    [
        ("retry", {"status": "'failed'"}, "todo"),
        ("cancel", {}, "cancelled"),
        ("abort", {"status": "'doing'", "worker_id": "-7001"}, "doing"),
        ("run_now", {"scheduled_at": "now() + interval '1 day'"}, "todo"),
        ("delete", {"status": "'succeeded'"}, None),
    ],
)
def test_an_action_changes_the_job(
    client: httpx.Client, served: Served, action: str, columns: dict[str, str], status: str | None
) -> None:
    job_id = _defer(served, **columns)
    answer = client.post(f"jobs/{job_id}/{action}", data=_token(client, f"jobs/{job_id}"), follow_redirects=True)
    assert answer.status_code == 200
    assert 'class="pq-done"' in answer.text
    assert _status(served, job_id) == status


@pytest.mark.parametrize("served", ["flask", "django_admin", "django_urls"], indirect=True)
def test_a_form_may_come_as_multipart_to_a_framework_that_reads_it(client: httpx.Client, served: Served) -> None:
    """Test clients send forms so. A protection of the framework has read the body before."""
    job_id = _defer(served, status="'failed'")
    fields = _token(client, "jobs") | {"job": str(job_id), "action": "retry"}
    answer = client.post("jobs/selected", files={name: (None, value) for name, value in fields.items()})
    assert answer.status_code == 303
    assert _status(served, job_id) == "todo"


@pytest.mark.parametrize("served", ["wsgi", "asgi", "fastapi"], indirect=True)
def test_a_multipart_form_changes_nothing_elsewhere(client: httpx.Client, served: Served) -> None:
    job_id = _defer(served, status="'failed'")
    fields = {"job": (None, str(job_id)), "action": (None, "retry")}
    answer = client.post("jobs/selected", files=fields, follow_redirects=True)
    assert answer.status_code < 500
    assert 'class="pq-done"' not in answer.text
    assert _status(served, job_id) == "failed"


@in_two_hosts
def test_the_worker_of_a_job_is_asked_for_its_stack(client: httpx.Client, served: Served) -> None:
    job_id = _defer(served, status="'doing'", worker_id="-7001")
    waiting = _defer(served)
    token = _token(client, f"jobs/{job_id}")
    url = served.engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url, autocommit=True) as heard:
        heard.execute(f'LISTEN "{ANY_QUEUE_CHANNEL}"')
        assert f'jobs/{job_id}/stack"' in client.get(f"jobs/{job_id}").text
        assert "is asked where the job is" in _posted(client, f"jobs/{job_id}/stack", token)
        assert "Nothing changed" in _posted(client, f"jobs/{waiting}/stack", token)
        payloads = [parse_notification(one.payload) for one in heard.notifies(timeout=1, stop_after=2)]
    assert payloads == [{"type": "abort_job_requested", "job_id": job_id, "stack": True}]
    assert _status(served, job_id) == "doing"


@in_two_hosts
def test_a_visitor_who_may_only_look_sees_no_stack(client: httpx.Client, served: Served) -> None:
    job_id = _defer(served, status="'doing'", worker_id="-7001")
    with served.engine.connect() as connection:
        columns = "(job_id, attempt, kind, content)"
        statement = f"INSERT INTO procrastinate_job_reports {columns} VALUES (:id, 1, 'stack', CAST(:content AS jsonb))"  # noqa: S608
        connection.execute(sa.text(statement), {"id": job_id, "content": '{"text": "in pay()"}'})
    assert "in pay()" in client.get(f"jobs/{job_id}").text
    token = _token(client, f"jobs/{job_id}")
    served.set_access(Access.read_only())
    assert "in pay()" not in client.get(f"jobs/{job_id}").text
    assert client.post(f"jobs/{job_id}/stack", data=token).status_code == 403


def _posted(client: httpx.Client, path: str, token: dict[str, str]) -> str:
    return client.post(path, data=token, follow_redirects=True).text


def test_a_job_that_waits_says_why(client: httpx.Client, served: Served) -> None:
    job_id = _defer(served, queue_name="'why <b>'")
    with served.engine.connect() as connection:
        connection.exec_driver_sql("INSERT INTO procrastinate_paused_queues (queue_name) VALUES ('why <b>')")
    text = client.get(f"jobs/{job_id}").text
    assert "Why it does not run" in text
    assert "paused" in text[text.index("Why it does not run") :]
    checks = text[text.index("What was checked") :]
    assert "Is its queue paused: <strong>found</strong> <code>queue-paused</code>" in checks
    assert ": not the reason" in checks
    assert "Where it may be" in client.get("jobs/999999999").text


def test_a_unique_job_shows_its_key(client: httpx.Client, served: Served) -> None:
    job_id = _defer(served)
    with served.engine.connect() as connection:
        connection.exec_driver_sql(
            "INSERT INTO procrastinate_uniques (key, job_id, until, taken_at, start_by) "  # noqa: S608
            f"VALUES ('a <b> key', {job_id}, 'start', now(), now())"
        )
    text = client.get(f"jobs/{job_id}").text
    assert "a &lt;b&gt; key" in text
    assert "held until the job starts" in text
    assert "not delayed beyond" in text


@in_two_hosts
def test_the_page_of_locks_tells_for_how_long_the_holder_runs(client: httpx.Client) -> None:
    row = client.get("locks").text.partition("gallery 12")[2].partition("</tr>")[0]
    assert re.search(r'data-label="Runs for">\d+ (s|min)\b', row)


@in_two_hosts
def test_a_workflow_is_drawn_cancelled_and_retried(client: httpx.Client, served: Served) -> None:
    workflow_id = sample.add_workflow(served.engine, "catalogue")
    page = f"workflows/{workflow_id}"
    text = client.get(page).text
    drawn = re.findall(r"<title>([^<]*)</title>", text)[1:]
    assert {"check the images: failed", "pages of catalogue: running", "publish catalogue: waiting for steps"} <= set(
        drawn
    )
    assert "130 of 400, running" in text
    assert drawn[-1] == "on failure: tell_the_shop: waiting for steps"
    assert '<th scope="row">on failure: tell_the_shop</th>' in text
    assert "approved: waiting for signal" in drawn
    signals = client.get("jobs?q=task:builtin:procrastinate.builtin_tasks.wait_for_signal").text
    assert {"waiting for signal"} == set(re.findall(r"</svg>(waiting for \w+)</span>", signals))
    for action, message in (("cancel", "The steps that waited are cancelled."), ("retry", "run again.")):
        answer = client.post(f"{page}/{action}", data=_token(client, page), follow_redirects=True)
        assert message in answer.text
    assert _count(served, workflow_id, "status IN ('cancelled', 'failed')") == 0
    job_id = _count(served, workflow_id, "status = 'doing'", "max(procrastinate_jobs.id)")
    assert f'workflows/{workflow_id}"' in client.get(f"jobs/{job_id}").text


@in_two_hosts
def test_the_jobs_that_wait_for_steps_are_narrowed_to_signals(client: httpx.Client) -> None:
    words = r"</svg>(waiting for \w+)</span>"
    everything = client.get("jobs?state=waiting_for_steps").text
    (link,) = re.findall(r'<a href="([^"]+)">Only signals that were not sent</a>', everything)
    signals = client.get(html.unescape(link)).text
    assert set(re.findall(words, signals)) == {"waiting for signal"}
    assert "Only signals" not in signals
    assert "Only signals" not in client.get("jobs?state=scheduled").text


@in_two_hosts
def test_a_visitor_who_may_only_look_cancels_no_workflow(client: httpx.Client, served: Served) -> None:
    workflow_id = sample.add_workflow(served.engine, "catalogue")
    page = f"workflows/{workflow_id}"
    token = _token(client, page)
    served.set_access(Access.read_only())
    assert "<button" not in client.get(page).text.partition('id="drawing"')[0].partition('id="title"')[2]
    assert client.post(f"{page}/cancel", data=token).status_code == 403
    assert _count(served, workflow_id, "status = 'cancelled'") == 0


def _count(served: Served, workflow_id: int, where: str, what: str = "count(*)") -> int:
    statement = f"""
        SELECT {what} FROM procrastinate_jobs JOIN procrastinate_workflows ON procrastinate_workflows.id = workflow_id
        WHERE root_id = :id AND {where}
    """  # noqa: S608
    with served.engine.connect() as connection:
        return int(connection.execute(sa.text(statement), {"id": workflow_id}).scalar_one())


def test_a_queue_is_paused_and_resumed(client: httpx.Client, served: Served) -> None:
    name = "a queue: 'x' <b>"
    form = {"queue": urllib.parse.quote(name), "reason": "repair <i>", "minutes": "60", **_token(client, "queues")}
    text = client.post("queues/pause", data=form, follow_redirects=True).text
    assert "The queue is paused" in text
    assert "repair &lt;i&gt;" in text
    with served.engine.connect() as connection:
        columns = "paused_until - now() BETWEEN '59 min' AND '61 min', paused_by"
        statement = f"SELECT {columns} FROM procrastinate_paused_queues WHERE queue_name = :name"  # noqa: S608
        row = connection.execute(sa.text(statement), {"name": name}).one()
        assert tuple(row) == (True, "ada")
    assert "The queue is open again" in client.post("queues/resume", data=form, follow_redirects=True).text
    assert client.post("queues/pause", data={**form, "queue": ""}).status_code == 400
    served.set_access(Access.read_only())
    assert client.post("queues/pause", data=form).status_code == 403


def test_a_periodic_task_runs_now(client: httpx.Client, served: Served) -> None:
    page = client.get("periodic").text
    assert ">every " in page  # the schedule in words
    named = re.search(r'name="task" value="([^"]*)"><input type="hidden" name="periodic_id" value="([^"]*)"', page)
    assert named is not None
    form = {"task": named[1], "periodic_id": named[2], **_token(client, "periodic")}
    assert "A job of the task waits now" in client.post("periodic/run", data=form, follow_redirects=True).text
    with served.engine.connect() as connection:
        statement = (
            "SELECT CAST(status AS text), abs(CAST(args->>'timestamp' AS int) - extract(epoch FROM now())) < 60 "
            "FROM procrastinate_jobs WHERE task_name = :task ORDER BY id DESC LIMIT 1"
        )
        assert tuple(connection.execute(sa.text(statement), {"task": named[1]}).one()) == ("todo", True)
    assert client.post("periodic/run", data={**form, "periodic_id": "unknown"}).status_code == 404
    served.set_access(Access.read_only())
    assert client.post("periodic/run", data=form).status_code == 403
    assert "Run now" not in client.get("periodic").text


def test_a_job_that_has_ended_runs_again_as_a_new_job(client: httpx.Client, served: Served) -> None:
    job_id = _defer(served, status="'succeeded'", args="""'{"a": 1}'""", lock="'again'")
    client.post(f"jobs/{job_id}/rerun", data=_token(client, f"jobs/{job_id}"))
    with served.engine.connect() as connection:
        statement = "SELECT status::text, args FROM procrastinate_jobs WHERE lock = 'again' ORDER BY id"
        assert connection.exec_driver_sql(statement).all() == [("succeeded", {"a": 1}), ("todo", {"a": 1})]


def test_an_action_comes_too_late_for_a_job_in_another_state(client: httpx.Client, served: Served) -> None:
    job_id = _defer(served)
    token = _token(client, f"jobs/{job_id}")
    client.post(f"jobs/{job_id}/cancel", data=token)
    answer = client.post(f"jobs/{job_id}/cancel", data=token, follow_redirects=True)
    assert "Nothing changed" in answer.text


def test_selected_jobs_are_changed_together(client: httpx.Client, served: Served) -> None:
    ids = [_defer(served, status="'failed'") for _ in range(3)]
    form = {"action": "retry", "job": [str(one) for one in ids[:2]], **_token(client, "jobs?state=failed")}
    answer = client.post("jobs/selected", data=form, follow_redirects=True)
    assert "The selected jobs were changed" in answer.text
    assert [_status(served, one) for one in ids] == ["todo", "todo", "failed"]


def test_all_jobs_that_match_are_changed(client: httpx.Client, served: Served) -> None:
    """First the page says how many they are."""
    ids = [_defer(served, status="'failed'", task_name="'bulk.task'") for _ in range(3)]
    assert "operations/new?action=retry" in client.get("jobs?state=failed&q=task:bulk.task").text
    page = client.get("operations/new?action=retry&state=failed&q=task:bulk.task")
    assert "<strong>3</strong>" in page.text
    form = {"action": "retry", "state": "failed", "q": "task:bulk.task", **_token(client, "jobs?state=failed")}
    answer = client.post("operations/start", data=form, follow_redirects=True)
    assert re.search(r"/operations/\d+$", answer.url.path)
    assert "100 % of the jobs examined" in answer.text
    assert "task bulk.task" in answer.text
    assert {_status(served, one) for one in ids} == {"todo"}
    assert f'operations/{answer.url.path.rpartition("/")[2]}"' in client.get("operations").text


def test_an_operation_on_more_than_a_thousand_jobs_must_be_typed(client: httpx.Client, served: Served) -> None:
    with served.engine.connect() as connection:
        connection.exec_driver_sql(
            "INSERT INTO procrastinate_jobs (queue_name, task_name) SELECT 'many', 'm' FROM generate_series(1, 1001)"
        )
    form = {"action": "cancel", "state": "ready", "q": "queue:many", **_token(client, "jobs?state=failed")}
    assert client.post("operations/start", data=form).status_code == 400
    answer = client.post("operations/start", data={**form, "typed": "cancel"}, follow_redirects=True)
    while "data-continue" in answer.text:
        answer = client.post(f"{answer.url}/continue", data=form, follow_redirects=True)
    with served.engine.connect() as connection:
        statement = "SELECT status::text, count(*) FROM procrastinate_jobs WHERE queue_name = 'many' GROUP BY 1"
        assert connection.exec_driver_sql(statement).all() == [("cancelled", 1001)]


def test_an_operation_on_the_jobs_of_worker_0_changes_those_of_no_other_worker(
    client: httpx.Client, served: Served
) -> None:
    """A program that left a job behind had no worker, and the page of workers lists its jobs as those of worker 0."""
    with served.engine.connect() as connection:
        before = connection.exec_driver_sql("SELECT count(*) FROM procrastinate_jobs WHERE abort_requested").scalar()
    form = {"action": "abort", "state": "running", "q": "worker:0", **_token(client, "jobs?state=failed")}
    answer = client.post("operations/start", data=form, follow_redirects=True)
    assert "worker 0" in answer.text
    with served.engine.connect() as connection:
        after = connection.exec_driver_sql("SELECT count(*) FROM procrastinate_jobs WHERE abort_requested").scalar()
    assert after == before


def test_an_operation_on_a_search_with_an_empty_part_is_refused(client: httpx.Client, served: Served) -> None:
    job_id = _defer(served, status="'failed'")
    for empty in ("task:", "queue:''", "''"):
        assert (
            client.get("operations/new", params={"action": "delete", "state": "failed", "q": empty}).status_code == 400
        )
        form = {"action": "delete", "state": "failed", "q": empty, **_token(client, "jobs?state=failed")}
        assert client.post("operations/start", data=form).status_code == 400
    assert _status(served, job_id) == "failed"


def test_the_preview_hands_the_search_on_as_it_is(client: httpx.Client, served: Served) -> None:
    queue, task = "a <b> 'x' " + "q" * 100, "t" * 125
    job_id = _defer(served, status="'failed'", queue_name=f"$${queue}$$", task_name=f"'{task}'")
    search = f"{write_term('queue', queue)} {write_term('task', task)}"
    page = client.get("operations/new", params={"action": "retry", "state": "failed", "q": search}).text
    handed = re.search(r'<input type="hidden" name="q" value="([^"]*)"', page)
    assert handed is not None
    form = {"action": "retry", "state": "failed", "q": html.unescape(handed[1]), **_token(client, "jobs?state=failed")}
    assert client.post("operations/start", data=form).status_code in (302, 303)
    assert _status(served, job_id) == "todo"


def test_a_visitor_without_the_right_starts_no_operation(client: httpx.Client, served: Served) -> None:
    form = {"action": "delete", "state": "failed", **_token(client, "jobs?state=failed")}
    served.set_access(Access.read_only())
    assert client.get("operations/new?action=delete&state=failed").status_code == 403
    assert client.post("operations/start", data=form).status_code == 403
    assert client.get("operations").status_code == 200


def test_a_get_changes_nothing(client: httpx.Client, served: Served) -> None:
    job_id = _defer(served)
    assert client.get(f"jobs/{job_id}/cancel").status_code == 405
    assert _status(served, job_id) == "todo"


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {"Sec-Fetch-Site": "", "Origin": "https://evil.example"},
        {"Origin": "null", "Sec-Fetch-Site": "cross-site"},
    ],
)
def test_a_request_from_another_site_changes_nothing(
    client: httpx.Client, served: Served, headers: dict[str, str]
) -> None:
    job_id = _defer(served)
    answer = client.post(f"jobs/{job_id}/cancel", data=_token(client, f"jobs/{job_id}"), headers=headers)
    assert answer.status_code == 403
    assert _status(served, job_id) == "todo"


def test_an_old_browser_says_its_origin(served: Served, client: httpx.Client) -> None:
    job_id = _defer(served)
    form = _token(client, f"jobs/{job_id}")
    del client.headers["Sec-Fetch-Site"]
    assert client.post(f"jobs/{job_id}/cancel", data=form).status_code == 403
    origin = urllib.parse.urlsplit(served.url)
    headers = {"Origin": f"{origin.scheme}://{origin.netloc}"}
    assert client.post(f"jobs/{job_id}/cancel", data=form, headers=headers).status_code in (302, 303)
    assert _status(served, job_id) == "cancelled"


def test_a_visitor_without_access_sees_nothing(client: httpx.Client, served: Served) -> None:
    served.set_access(Access.nothing())
    for page in (*PAGES, "jobs/17"):
        answer = client.get(page)
        assert answer.status_code == 403, page
        assert "shop." not in answer.text


def test_a_visitor_who_may_only_look_changes_nothing(client: httpx.Client, served: Served) -> None:
    """The right is checked at the action, whatever buttons a page has."""
    job_id = _defer(served)
    token = _token(client, f"jobs/{job_id}")
    served.set_access(Access.read_only("bob"))
    page = client.get(f"jobs/{job_id}")
    assert page.status_code == 200
    assert f"jobs/{job_id}/cancel" not in page.text
    for path, form in ((f"jobs/{job_id}/cancel", {}), ("jobs/selected", {"action": "cancel", "job": str(job_id)})):
        assert client.post(path, data={**token, **form}).status_code == 403
    assert _status(served, job_id) == "todo"


@pytest.mark.parametrize(
    "name", ["x%0d%0aSet-Cookie:%20a=b", "%0a", "%E2%82%AC", "%FF", "%C3%A9 a", "javascript:alert(1)"]
)
@pytest.mark.parametrize("query", ["", "?q=%0d%0aSet-Cookie:%20a=b", "?q=\u20ac"])
def test_an_address_adds_no_header_to_the_answer(client: httpx.Client, name: str, query: str) -> None:
    for path in (f"{name}/", f"jobs/{name}/", name):
        answer = client.get(f"{client.base_url}{path}{query}")
        assert answer.status_code < 500, path
        assert "a" not in answer.cookies
        location = answer.headers.get("location", "")
        assert location.isascii()
        assert urllib.parse.urljoin(str(answer.url), location).startswith(str(client.base_url))


def test_the_link_to_the_same_page_names_no_scheme(client: httpx.Client) -> None:
    """A browser without scripts shows it."""
    text = client.get(f"{client.base_url}javascript:alert(1)?q=<b>").text
    assert re.search(r'<noscript><a href="\./javascript%3Aalert%281%29\?q=', text)
    assert '<noscript><a href="./jobs?state=failed">' in client.get("jobs?state=failed").text


def test_a_head_request_has_no_body(client: httpx.Client) -> None:
    answer = client.head("jobs")
    assert (answer.status_code, answer.content) == (200, b"")


def test_a_very_long_form_is_refused(client: httpx.Client, served: Served) -> None:
    job_id = _defer(served)
    form = {**_token(client, f"jobs/{job_id}"), "filling": "x" * 1_100_000}
    assert client.post(f"jobs/{job_id}/cancel", data=form).status_code in (400, 403, 413)
    assert _status(served, job_id) == "todo"


def test_what_a_job_and_its_deferrer_say_is_text_on_its_page(client: httpx.Client, served: Served) -> None:
    said = r"<script>alert(1)</script>\u202e\u001b[31m"
    hostile = f"""'{{"message": "{said}", "done": 1, "total": 4}}'::jsonb"""
    job_id = _defer(served, meta=hostile, status="'failed'", attempts="1")
    with served.engine.connect() as connection:
        statement = "INSERT INTO procrastinate_job_reports (job_id, attempt, kind, content) VALUES"
        connection.exec_driver_sql(f"{statement} ({job_id}, 1, 'progress', {hostile})")
        stack = f"""'{{"text": "in hostile() {said}"}}'::jsonb"""
        connection.exec_driver_sql(f"{statement} ({job_id}, 1, 'stack', {stack})")
        lines = f"""'{{"lines": [[1.5, "{said}", "{said}", "{said}\\n{said}"]], "left_out": 3}}'::jsonb"""
        connection.exec_driver_sql(f"{statement} ({job_id}, 1, 'log', {lines})")
    text = client.get(f"jobs/{job_id}").text
    assert 'value="25"' in text
    assert text.count("in hostile()") == 1
    assert "3 earlier lines are left out" in text
    assert "1970-01-01 00:00:01.500 UTC" in text
    assert text.count("&lt;script&gt;alert(1)") == 7
    assert "<script>alert" not in text
    assert not set(text) & {"\u202e", "\x1b"}


def test_the_queue_of_the_built_in_tasks_is_shown_while_it_has_jobs_and_named(
    client: httpx.Client, served: Served
) -> None:
    assert all("builtin" not in client.get(page).text for page in ("", "queues"))
    job_id = _defer(served, queue_name="'builtin'", priority="100")
    for page in ("", "queues"):
        assert "of Procrastinate's own tasks" in client.get(page).text
    with served.engine.connect() as connection:
        connection.exec_driver_sql(f"DELETE FROM procrastinate_jobs WHERE id = {job_id}")  # noqa: S608
