"""The parts of the dashboard that need no host: access, origin, search, redaction, times and templates."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import importlib.resources
import inspect
import json
import re
import socket
import threading
import types
import uuid
from typing import Any

import httpx
import pytest

import procrastinate
from procrastinate.core import Counts
from procrastinate.core.inspection import Count, JobSearch, JobState, Minute, Paused, Queues, QueueState
from procrastinate.cron import check_cron
from procrastinate.dashboard import Access, Permission, asgi, formatting, hide_keys, server, wsgi
from procrastinate.dashboard.access import to_access
from procrastinate.dashboard.charts import HEIGHT, minutes_chart
from procrastinate.dashboard.cron_words import describe_cron
from procrastinate.dashboard.drawing import draw
from procrastinate.dashboard.formatting import ago, between, duration, exact, size
from procrastinate.dashboard.messages import Request
from procrastinate.dashboard.origin import refusal
from procrastinate.dashboard.redaction import (
    HIDDEN,
    is_hidden_key,
    redacted_beginning,
    redacted_line,
    redacted_text,
)
from procrastinate.dashboard.rendering import environment
from procrastinate.dashboard.search import read_job_id, read_place, read_question, write_place, write_term
from procrastinate.dashboard.server import Login, protected
from procrastinate.dashboard.views.overview import find_attention
from procrastinate.testing import InMemoryConnector
from procrastinate.workflows.states import Graph, Node
from tests.no_threads import no_threads

NOW = datetime.datetime(2026, 11, 28, 12, 0, tzinfo=datetime.UTC)


def _app() -> procrastinate.App:
    return procrastinate.App(connector=InMemoryConnector())


@pytest.mark.parametrize("make", [wsgi, asgi])
@pytest.mark.parametrize("authorize", [None, True, "everyone"])
def test_no_dashboard_starts_without_a_decision_on_access(make: Any, authorize: object) -> None:
    with pytest.raises(TypeError, match="authorize takes a function"):
        make(_app(), authorize=authorize)
    with pytest.raises(TypeError, match="authorize"):
        make(_app())


def test_an_answer_of_authorize_is_read_in_favour_of_caution() -> None:
    assert to_access(None) == to_access(False) == Access.nothing()
    assert to_access(True) == Access.read_only()
    assert to_access(Access.everything("ada")).user == "ada"
    with pytest.raises(TypeError, match="must return an Access"):
        to_access("yes")


@pytest.mark.parametrize("make", [wsgi, asgi])
@pytest.mark.parametrize("option", ["redact", "on_action"])
def test_no_dashboard_starts_with_a_function_that_it_cannot_call(make: Any, option: str) -> None:
    """A call of an async function would do nothing, and each action would be missing in the project's record."""

    async def is_async(*arguments: Any) -> None: ...

    for function in (is_async, lambda: None, "hide"):
        with pytest.raises(TypeError, match=option):
            make(_app(), authorize=Access.everything(), **{option: function})


def test_only_a_host_that_awaits_takes_an_async_function_for_access() -> None:
    async def decide(request: Any) -> bool:
        return True

    asgi(_app(), authorize=decide)
    with pytest.raises(TypeError, match="authorize must not be async"):
        wsgi(_app(), authorize=decide)
    with pytest.raises(TypeError, match=r"authorize is called with \(request\)"):
        asgi(_app(), authorize=lambda: True)


def test_trusted_origins_are_whole_origins() -> None:
    with pytest.raises(TypeError, match="a list of origins"):
        wsgi(_app(), authorize=Access.everything(), trusted_origins="https://tools.example")
    with pytest.raises(ValueError, match="its scheme"):
        wsgi(_app(), authorize=Access.everything(), trusted_origins=["tools.example"])
    assert refusal(_post(origin="https://tools.example", host="inner"), ["https://Tools.example/"]) is None


def test_a_permission_that_does_not_exist_is_refused() -> None:
    assert Access({"view", "retry"}).may(Permission.RETRY)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="retyr"):
        Access({"view", "retyr"})  # type: ignore[arg-type]


def test_an_asynchronous_authorize_of_a_synchronous_host_is_refused_without_a_warning_of_python() -> None:
    async def authorize() -> Access:
        return Access.everything()

    decision = authorize()
    with pytest.raises(TypeError, match="must return an Access, a bool or None, not coroutine"):
        to_access(decision)
    assert inspect.getcoroutinestate(decision) == inspect.CORO_CLOSED


def test_a_visitor_who_may_not_look_may_not_act() -> None:
    access = Access(frozenset({Permission.DELETE}))
    assert not access.may(Permission.DELETE)
    assert not Access.read_only().may(Permission.RETRY)
    assert not Access.everything().without_changes().may(Permission.RETRY)


def test_the_name_of_a_visitor_is_text() -> None:
    """It is stored with a pause and an operation. The object of a visitor was an error only then."""
    key = uuid.uuid4()
    users: list[Any] = ["ada", 42, key, None]
    assert [Access.everything(user).user for user in users] == ["ada", "42", str(key), ""]
    with pytest.raises(TypeError, match="not SimpleNamespace: give its name"):
        Access.read_only(types.SimpleNamespace(name="ada", password="hidden"))  # type: ignore[arg-type]


def _post(**headers: str) -> Request:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Request(method="POST", path="jobs/1/cancel", headers=named, access=Access.everything())


@pytest.mark.parametrize(
    ("headers", "is_refused"),
    [
        ({"sec_fetch_site": "same-origin"}, False),
        ({"sec_fetch_site": "same-site"}, True),
        ({"sec_fetch_site": "cross-site", "origin": "https://a.example", "host": "a.example"}, True),
        ({"origin": "https://a.example", "host": "a.example"}, False),
        ({"origin": "https://a.example:8000", "host": "a.example"}, True),
        ({"origin": "null", "host": "a.example"}, True),
        ({"origin": "null"}, True),
        ({"origin": "https://[a", "host": "a.example"}, True),
        ({"origin": "https://tools.example", "host": "inner"}, False),
        ({"host": "a.example"}, True),
        ({}, True),
    ],
)
def test_a_change_must_come_from_the_page_itself(headers: dict[str, str], is_refused: bool) -> None:
    assert (refusal(_post(**headers), ["https://tools.example"]) is not None) == is_refused


@pytest.mark.parametrize(
    ("text", "search"),
    [
        ("", JobSearch()),
        ("task:shop.send queue:mail", JobSearch(task="shop.send", queue="mail")),
        ("lock:'a b' worker:-7", JobSearch(lock="a b", worker_id=-7)),
        ("args.order:42", JobSearch(args='{"order": 42}')),
        ("args.user.name:ada args.user.is:true", JobSearch(args='{"user": {"name": "ada", "is": true}}')),
        ("error:TimeoutError invoice", JobSearch(error="TimeoutError", word="invoice")),
        ("args.a:NaN args.b:-Infinity args.c:1e999", JobSearch(args='{"a": "NaN", "b": "-Infinity", "c": "1e999"}')),
        (r"""args.a:'"\ud800"'""", JobSearch(args=json.dumps({"a": r'"\ud800"'}))),
        ("'open quotation", JobSearch(word="'open")),
        ("http://x", JobSearch(word="http://x")),
        ("args.name:NaN args.size:1e400", JobSearch(args='{"name": "NaN", "size": "1e400"}')),
        (r"""args.name:'"\ud800"'""", JobSearch(args=json.dumps({"name": r'"\ud800"'}))),
    ],
)
def test_the_search_box_is_read(text: str, search: JobSearch) -> None:
    assert read_question(text, None).search == search


@pytest.mark.parametrize("value", ["mail", "a b", "it's", '"quoted"', "a:b", "<script>", "\\", "", "-7", "ä\u202e"])
def test_what_a_link_writes_the_search_box_reads(value: str) -> None:
    read = read_question(write_term("queue", value), "ready").search
    assert read == (JobSearch(state=JobState.READY, queue=value) if value else read)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("task:", "Nothing stands after task:"),
        ("queue:''", "Nothing stands after queue:"),
        ("lock: mail", "Nothing stands after lock:"),
        ("worker:", "Nothing stands after worker:"),
        ("args.order:", "Nothing stands after args.order:"),
        ("''", "A word is empty."),
        ("queue:a queue:b", "queue can have one value. Left out: queue:b"),
        ("args.a:1 args.a:2", "args.a can have one value. Left out: args.a:2"),
        ("args.a:1 args.a.b:2", "args.a.b can have one value. Left out: args.a.b:2"),
        ("args.a.b:2 args.a:1", "args.a can have one value. Left out: args.a:1"),
        ("args.a.b.c.d.e.f:1", "An argument can be searched 5 names deep. Left out: args.a.b.c.d.e.f:1"),
        (f"task:{'a' * 995} queue:mail", "A search has at most 1,000 characters."),
    ],
)
def test_a_search_says_which_part_it_leaves_out(text: str, problem: str) -> None:
    """Without that part, an action on all jobs that match would change others."""
    assert read_question(text, "failed").problem == problem


@pytest.mark.parametrize(
    ("text", "job_id"),
    [
        ("12", 12),
        ("#12", 12),
        ("-1", None),
        ("12a", None),
        ("\u0661\u0662", None),
        ("9" * 19, None),
        ("9" * 5000, None),
    ],
)
def test_an_id_is_read_from_plain_digits(text: str, job_id: int | None) -> None:
    assert read_job_id(text) == job_id


def test_a_place_that_was_changed_by_hand_is_ignored() -> None:
    assert read_place(write_place(("1", "2"))) == ("1", "2")
    for text in (None, "", "x", "[]", "[1]", '{"a": 1}', "[" * 5000, '["1", "2", "3", "4", "5"]'):
        assert read_place(text) is None


def test_values_of_secret_keys_are_hidden_at_any_depth() -> None:
    text = '{"user": {"API-Key": "x1", "name": "ada"}, "list": [{"password_hash": [1]}], "author": "b"}'
    shown = redacted_text(hide_keys(), "t", text)
    assert "x1" not in shown
    assert '"ada"' in shown
    assert '"author": "b"' in shown
    assert redacted_line(hide_keys("name"), "t", '{"name": "ada", "a": 1}') == 'name="••••••", a=1'


@pytest.mark.parametrize("text", ["{", "[" * 100_000, "1" * 5000])
def test_arguments_that_cannot_be_read_are_not_shown(text: str) -> None:
    assert text not in redacted_line(hide_keys(), "t", text)
    assert text not in redacted_text(hide_keys(), "t", text)


def test_no_duration_is_a_dash() -> None:
    assert (duration(None), duration(90.0)) == ("\N{EN DASH}", "1 min 30 s")


def test_times_are_relative_or_in_utc() -> None:
    later = NOW + datetime.timedelta(hours=2)
    assert (ago(NOW, later), ago(later, NOW), ago(NOW, NOW)) == ("2 h ago", "in 2 h", "now")
    assert between(NOW, later) == "2 h"
    assert exact(later.astimezone(datetime.timezone(datetime.timedelta(hours=9)))) == "2026-11-28 14:00:00 UTC"
    assert [size(number) for number in (999, 1500, 123_456, 10**12)] == ["999 B", "1.5 kB", "123 kB", "1.0 TB"]


def test_a_chart_fits_its_height_and_shows_a_single_failure() -> None:
    minutes = [Minute(at=NOW, succeeded=100_000, failed=1, other=0), Minute(at=NOW, succeeded=0, failed=0, other=0)]
    chart = minutes_chart(minutes)
    ok, bad = chart.bars[0].parts
    assert chart.top >= 100_001
    assert bad.height >= 2
    assert 0 <= bad.y <= ok.y <= HEIGHT
    assert chart.bars[1].parts == ()
    assert minutes_chart([]).is_empty


def test_each_step_is_drawn_below_what_it_waits_for_and_rows_are_short() -> None:
    nodes = tuple(
        Node(key=f"s{number}", name="step", is_group=False, counts=Counts(waiting_for_steps=1), job_ids=(number,))
        for number in range(14)
    )
    edges = [("s0", f"s{number}") for number in range(1, 13)] + [(f"s{number}", "s13") for number in range(1, 13)]
    drawing = draw(Graph(id=1, name="wide", nodes=nodes, edges=(*edges, ("s0", "s13"))))
    assert drawing is not None
    heights = {box.node.key: box.y for box in drawing.boxes}
    assert all(heights[parent] < heights[child] for parent, child in edges)
    assert drawing.width < 1100
    assert len(drawing.curves) == len(edges) + 1
    assert len({(box.x, box.y) for box in drawing.boxes}) == 14


def test_commands_in_advice_are_code_and_names_of_rows_are_text() -> None:
    shown = environment().from_string("{{ text|advice }}")
    assert shown.render(text="Ask `procrastinate why 7`") == "Ask <code>procrastinate why 7</code>"
    assert shown.render(text="`<b>` or <i>") == "<code>&lt;b&gt;</code> or &lt;i&gt;"
    assert shown.render(text="the queue 'a`b'") == "the queue &#39;a`b&#39;"


def test_the_lines_of_a_message_are_lines_and_not_marks() -> None:
    message = "1 problem:\n  no paper\x1b"
    assert formatting.message(message) == "1 problem: no paper\\x1b"
    assert formatting.lines(message) == "1 problem:\n  no paper\\x1b"
    assert "characters are left out" in formatting.lines("x" * 2_000, 1_000)


def test_no_template_marks_text_as_safe() -> None:
    folder = importlib.resources.files("procrastinate.dashboard").joinpath("templates")
    templates = [path for path in folder.iterdir() if path.name.endswith(".html")]
    assert len(templates) > 10
    for template in templates:
        text = template.read_text()
        assert not re.search(r"\|\s*safe\b|autoescape|Markup|\sstyle=|<style|\son\w+=", text), template.name


def test_a_login_needs_name_and_password() -> None:
    both = {"PROCRASTINATE_DASHBOARD_USER": "ada", "PROCRASTINATE_DASHBOARD_PASSWORD": "pass:word"}
    login = Login.from_environment(both)
    assert login is not None
    assert login.matches("Basic YWRhOnBhc3M6d29yZA==")
    for header in ("", "Basic", "Basic x", "Bearer YWRhOnBhc3M6d29yZA==", "Basic YWRhOnBhc3M6d29yZQ==", "Basic \xe9"):
        assert not login.matches(header)
    assert Login.from_environment({}) is None
    for name in both:
        with pytest.raises(ValueError, match="Set both"):
            Login.from_environment({name: "x"})


@pytest.mark.parametrize("end", ["\n", "\r\n", " "], ids=["newline", "windows", "space"])
def test_a_login_from_a_file_of_secrets_has_no_line_end(end: str) -> None:
    login = Login.from_environment(
        {"PROCRASTINATE_DASHBOARD_USER": f"ada{end}", "PROCRASTINATE_DASHBOARD_PASSWORD": f"pass:word{end}"}
    )
    assert login == Login("ada", "pass:word")


def test_a_login_in_quotes_is_refused_without_its_value() -> None:
    with pytest.raises(ValueError, match="PASSWORD begins and ends with quotes") as refused:
        Login.from_environment({"PROCRASTINATE_DASHBOARD_USER": "ada", "PROCRASTINATE_DASHBOARD_PASSWORD": '"hidden"'})
    assert "hidden" not in str(refused.value)


def test_the_server_of_the_command_line_serves_no_other_machine_without_a_login() -> None:
    with pytest.raises(ValueError, match=r"Other machines can reach 0\.0\.0\.0"):
        protected(_app(), "0.0.0.0", None)
    protected(_app(), "0.0.0.0", Login("ada", "x"))


@pytest.mark.parametrize(
    ("host", "status"),
    [("localhost:8080", "404"), ("127.0.0.1", "404"), ("[::1]:80", "404"), ("evil.example:8080", "403"), ("", "403")],
)
def test_the_server_of_the_command_line_answers_under_the_names_of_this_machine(host: str, status: str) -> None:
    answered: list[str] = []
    application = protected(_app(), "127.0.0.1", None)
    environ: dict[str, Any] = {"REQUEST_METHOD": "GET", "PATH_INFO": "/nothing", "HTTP_HOST": host}
    application(environ, lambda reason, headers: answered.append(reason[:3]))
    assert answered == [status]


def test_the_server_of_the_command_line_asks_for_the_login() -> None:
    answered: list[str] = []
    application = protected(_app(), "0.0.0.0", Login("ada", "x"))
    environ: dict[str, Any] = {"REQUEST_METHOD": "GET", "PATH_INFO": "/nothing", "HTTP_HOST": "a.example"}
    for header in ("", "Basic \xe9", "\xe9", "Basic YWRhOng="):
        application({**environ, "HTTP_AUTHORIZATION": header}, lambda reason, _: answered.append(reason[:3]))
    assert answered == ["401", "401", "401", "404"]


def test_connections_that_ask_nothing_keep_the_server_of_the_command_line_from_no_request() -> None:
    """Browsers and proxies open connections ahead. Each one has a thread, and there are sixteen."""
    with contextlib.ExitStack() as ends:
        listening = ends.enter_context(server.make(protected(_app(), "127.0.0.1", None), "127.0.0.1", 0))
        ends.callback(listening.shutdown)
        threading.Thread(target=listening.serve_forever, args=(0.05,), daemon=True).start()
        address = ("127.0.0.1", listening.server_port)
        for number in range(40):
            idle = ends.enter_context(socket.create_connection(address, timeout=20))
            if number % 2:
                idle.sendall(b"GET /noth")
        answer = httpx.get(f"http://127.0.0.1:{listening.server_port}/nothing", timeout=20)
    assert answer.status_code == 404


def test_requests_for_which_no_thread_can_start_leave_the_server_its_threads() -> None:
    """The system limits threads, here by their memory. After sixteen such requests the server answered nothing."""
    with contextlib.ExitStack() as ends:
        listening = ends.enter_context(server.make(protected(_app(), "127.0.0.1", None), "127.0.0.1", 0))
        ends.callback(listening.shutdown)
        threading.Thread(target=listening.serve_forever, args=(0.05,), daemon=True).start()
        url = f"http://127.0.0.1:{listening.server_port}/nothing"
        with no_threads():
            for _ in range(20):
                with pytest.raises(httpx.TransportError):
                    httpx.get(url, timeout=20)
        assert httpx.get(url, timeout=20).status_code == 404


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("* * * * *", "every minute"),
        ("*/10 * * * *", "every 10 minutes"),
        ("*/7 * * * *", None),
        ("0 * * * *", "every hour"),
        ("@hourly", "every hour"),
        ("30 */6 * * *", "every 6 hours, 30 min past"),
        ("5 4 * * *", "every day at 04:05"),
        ("@weekly", "every Sunday at 00:00"),
        ("0 4 * * 1-5", "Monday to Friday at 04:00"),
        ("0 4 * * mon,WED,7", "every Monday, Wednesday and Sunday at 04:00"),
        ("*/15 * * * 1", "every 15 minutes, every Monday"),
        ("0 0 1 * *", "on day 1 of each month at 00:00"),
        ("0 0 29 2 *", "each year on 29 February at 00:00"),
        ("0 0 1 * 1", None),
        ("0 9-17 * * *", None),
        ("* * * * * 30", None),
        ("0 0 L * *", None),
        ("0 0 * * 1#2", None),
    ],
)
def test_a_common_schedule_is_told_in_words(expression: str, words: str | None) -> None:
    check_cron(expression)
    assert describe_cron(expression) == words


def test_a_text_that_was_cut_ends_before_the_first_hidden_value() -> None:
    """Text in a string that looks like a key hides nothing."""
    cut = '{"note": "\\"password\\": no", "api_key": {"value": "hunt'
    assert redacted_beginning(hide_keys(), "a", cut) == '{"note": "\\"password\\": no", "api_key": •••••• …'
    assert redacted_beginning(hide_keys(), "a", '{"order": "hunt') == '{"order": "hunt'


def test_a_paused_queue_with_jobs_needs_attention() -> None:
    """Its jobs count as ready, and no worker starts them. A paused queue without jobs is left out."""
    now = datetime.datetime.now(datetime.UTC)
    long_ago = now - datetime.timedelta(hours=1)
    pause = Paused(since=now, until=None, by=None, reason=None)
    none, one = Count(number=0, is_more=False), Count(number=1, is_more=False)
    common = {"scheduled": none, "blocked": none, "limited": none, "waiting_for_steps": none, "running": none}
    full = QueueState(name="mail", ready=one, oldest_ready_at=long_ago, pause=pause, served_by=1, slots=1, **common)
    empty = dataclasses.replace(full, name="empty", ready=none, oldest_ready_at=None)
    queues = Queues(now=now, queues=(full, empty), is_more=False, silent_on_queues=0)
    texts = [found.text for found in find_attention(None, queues)]
    assert texts == ["The queue mail is paused, and jobs wait in it: 1 job."]
    parked = dataclasses.replace(full, ready=none, oldest_ready_at=None, blocked=one)
    texts = [found.text for found in find_attention(None, dataclasses.replace(queues, queues=(parked,)))]
    assert texts == ["The queue mail is paused, and jobs wait in it: 1 job."]


def test_the_rest_of_a_progress_bar_has_a_colour_of_the_theme() -> None:
    """The browser's own is white, also in the dark."""
    css = importlib.resources.files("procrastinate.dashboard").joinpath("static/dashboard.css").read_text()
    assert ".pq-progress::-webkit-progress-bar { background: var(--line); }" in css
    rule = next(line for line in css.splitlines() if line.startswith(".pq-progress {"))
    assert "appearance: none" in rule
    assert "background: var(--line)" in rule


def _hide_ibans(task_name: str, value: dict[str, Any]) -> dict[str, Any]:
    """Hide a key of arguments, as a function that expects no other value does."""
    return {key: "hidden" if key == "iban" else one for key, one in value.items()}


def _make_a_set(task_name: str, value: Any) -> Any:
    return {1, 2}


@pytest.mark.parametrize(("redact", "text"), [(_hide_ibans, "42"), (_hide_ibans, "[1]"), (_make_a_set, "{}")])
def test_a_value_that_the_function_of_the_project_fails_for_is_hidden(redact: Any, text: str) -> None:
    """A result may be a number. The pages show it as hidden, with all else."""
    for show in (redacted_text, redacted_line, redacted_beginning):
        assert show(redact, "t", text) == HIDDEN
    assert is_hidden_key(lambda task_name, value: value["order"], "t", "name")


def test_threads_that_cannot_be_started_take_no_place_of_the_server(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The system refuses twenty of them, and the server has sixteen places."""
    start, refused = threading.Thread.start, []

    def refuse(thread: threading.Thread) -> None:
        if "process_request" in thread.name and len(refused) < 20:
            refused.append(thread)
            raise RuntimeError("can't start new thread")
        start(thread)

    with contextlib.ExitStack() as ends:
        listening = ends.enter_context(server.make(protected(_app(), "127.0.0.1", None), "127.0.0.1", 0))
        ends.callback(listening.shutdown)
        threading.Thread(target=listening.serve_forever, args=(0.05,), daemon=True).start()
        monkeypatch.setattr(threading.Thread, "start", refuse)
        url = f"http://127.0.0.1:{listening.server_port}/nothing"
        for _ in range(20):
            with pytest.raises(httpx.TransportError):
                httpx.get(url, timeout=20)
        assert httpx.get(url, timeout=20).status_code == 404
    assert "can't start new thread" in capsys.readouterr().err
