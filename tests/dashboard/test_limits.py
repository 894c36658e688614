"""The pages of limits: who has the slots, what is in line, and when the next job may start."""

from __future__ import annotations

import datetime
import html
import logging
import re
import urllib.parse
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

import procrastinate
from procrastinate.core import inspection
from procrastinate.dashboard import Access
from procrastinate.dashboard.access import Permission
from procrastinate.dashboard.dashboard import Dashboard
from procrastinate.dashboard.messages import Request, Response

ODD = 'two words" & \u202e<b>\n\x1b'


@pytest.fixture
def app(database_url: str) -> Iterator[procrastinate.App]:
    with procrastinate.App(connector=database_url).open() as app:
        yield app


def _customer(arguments: dict[str, str]) -> str:
    return arguments["customer"]


def _defer_and_start(app: procrastinate.App, limit: procrastinate.Limit, *, jobs: int, started: int) -> None:
    """Let a real worker's operations admit and claim jobs of a limit."""

    @app.task(name="call", limit=limit)
    def call(customer: str) -> None: ...

    app.limits.set(limit.name, concurrency=limit.concurrency, allow_undefined=True)
    for number in range(jobs):
        call.defer(customer="ada" if number < jobs - 1 else "bob")
    app.inspect.run(_start, started)


def _start(connection: sa.Connection, number: int) -> None:
    """Give slots to jobs in line, and claim some of them, as a worker does."""
    from procrastinate import core

    core.admit_jobs(connection)
    connection.execute(
        sa.text(
            "UPDATE procrastinate_jobs SET status = 'doing' WHERE id IN "
            "(SELECT id FROM procrastinate_jobs WHERE readiness = 1 ORDER BY id LIMIT :number)"
        ),
        {"number": number},
    )


def _get(app: procrastinate.App, path: str, **parameters: str) -> Response:
    query = urllib.parse.urlencode(parameters)
    return Dashboard(app).handle(Request(method="GET", path=path, query=query, access=Access.everything()))


def _text(response: Response) -> str:
    """Return what a page says, without its tags."""
    main = response.body.decode().partition("<main")[2]
    return " ".join(html.unescape(re.sub("<[^>]+>", " ", main)).split())


def _post(app: procrastinate.App, path: str, access: Access | None = None, **form: str) -> Response:
    return Dashboard(app).handle(
        Request(
            method="POST",
            path=path,
            body=urllib.parse.urlencode(form).encode(),
            headers={"sec-fetch-site": "same-origin"},
            access=access or Access.everything("ada"),
        )
    )


def test_a_limit_a_key_and_its_jobs_are_counted(app: procrastinate.App) -> None:
    limit = procrastinate.Limit("api", by=_customer, concurrency=2)
    _defer_and_start(app, limit, jobs=5, started=1)
    (state,) = app.inspect.run(inspection.load_limits).limits
    assert (state.name, state.concurrency, state.is_set, state.is_defined) == ("api", 2, True, True)
    assert [str(one) for one in (state.jobs.held, state.jobs.running, state.jobs.in_line)] == ["3", "1", "2"]
    found = app.inspect.run(inspection.load_limit, "api")
    assert found is not None
    assert [(one.key, str(one.jobs.held), str(one.jobs.in_line)) for one in found.keys] == [
        ("ada", "2", "2"),
        ("bob", "1", "0"),
    ]
    key = app.inspect.run(inspection.load_limit_key, "api", "ada")
    assert [one.job.id for one in key.holders] == [1, 2]
    assert [one.job.id for one in key.line] == [3, 4]
    assert key.next_start is None


def test_the_pages_lead_from_a_waiting_job_to_the_holders_of_its_slots(app: procrastinate.App) -> None:
    _defer_and_start(app, procrastinate.Limit("api", by=_customer, concurrency=1), jobs=3, started=1)
    page = _get(app, "jobs/2").body.decode()
    (why, *_) = re.findall(r'<a href="([^"]+)">Who has its slots', page)
    parts = urllib.parse.urlsplit(html.unescape(why))
    assert parts.path == "../limits"
    shown = _text(_get(app, "limits", **dict(urllib.parse.parse_qsl(parts.query))))
    assert "Slots taken 1 of 1" in shown
    assert "Next start when a slot is free" in shown
    assert "#1" in shown.partition("Jobs with a slot")[2].partition("Jobs in line")[0]
    assert "#2" in shown.partition("Jobs in line")[2]


def test_a_key_whose_rate_is_used_up_tells_its_next_start(app: procrastinate.App, connection: sa.Connection) -> None:
    app.limits.set("api", rate=procrastinate.Rate(1, per=3600), allow_undefined=True)
    start = "INSERT INTO procrastinate_starts (limit_name, limit_key, at) VALUES ('api', '', now())"
    connection.exec_driver_sql(start)
    details = app.inspect.run(inspection.load_limit_key, "api", "")
    assert details.next_start is not None
    assert datetime.timedelta(minutes=59) < details.next_start - details.now <= datetime.timedelta(hours=1)
    assert "for a rate or because a job held the key off" in _text(_get(app, "limits", name="api", key=""))
    assert "1 per 1 h" in _text(_get(app, "limits"))


def test_a_key_that_is_held_off_tells_its_next_start(app: procrastinate.App, connection: sa.Connection) -> None:
    _defer_and_start(app, procrastinate.Limit("api", by=_customer, concurrency=1), jobs=3, started=1)
    held = "INSERT INTO procrastinate_hold_offs VALUES ('api', 'ada', now() + interval '10 min')"
    connection.exec_driver_sql(held)
    details = app.inspect.run(inspection.load_limit_key, "api", "ada")
    assert details.next_start is not None
    found = app.inspect.run(inspection.load_limit, "api")
    assert found is not None
    opens_at = found.keys[0].opens_at
    assert opens_at is not None
    assert abs(opens_at - details.next_start) < datetime.timedelta(seconds=1)
    assert found.keys[1].opens_at is None


def test_a_limit_that_no_worker_has_defined_is_named(app: procrastinate.App, connection: sa.Connection) -> None:
    connection.exec_driver_sql(
        "INSERT INTO procrastinate_jobs (queue_name, task_name, limit_name, limit_key, readiness, scheduled_at) "
        "VALUES ('q', 't', 'lost', '', 3, now())"
    )
    assert "not defined" in _text(_get(app, "limits"))
    assert "none: no worker has defined the limit" in _text(_get(app, "limits", name="lost", key=""))
    assert _get(app, "limits", name="no such limit").status == 404


def test_keys_are_shown_by_the_page(app: procrastinate.App, connection: sa.Connection) -> None:
    connection.exec_driver_sql(
        "INSERT INTO procrastinate_jobs (queue_name, task_name, limit_name, limit_key, readiness, scheduled_at) "
        "SELECT 'q', 't', 'many', CASE n WHEN 1 THEN '' ELSE 'key ' || 100 + n END, 3, now() "
        "FROM generate_series(1, 60) AS n"
    )
    seen: list[str] = []
    after: str | None = None
    while True:
        found = app.inspect.run(inspection.load_limit, "many", after=after)
        assert found is not None
        seen += [one.key for one in found.keys]
        after = found.next_key
        if after is None:
            break
        assert "Next page" in _text(_get(app, "limits", name="many"))
    assert seen == ["", *(f"key {100 + number}" for number in range(2, 61))]


def test_odd_names_and_keys_are_text_and_lead_to_their_pages(app: procrastinate.App, connection: sa.Connection) -> None:
    connection.execute(
        sa.text(
            "INSERT INTO procrastinate_jobs (queue_name, task_name, limit_name, limit_key, readiness, scheduled_at) "
            "VALUES ('q', 't', :odd, :odd, 3, now())"
        ),
        {"odd": ODD},
    )
    page, parameters = "limits", {}
    for _ in range(3):
        body = _get(app, page, **parameters).body.decode()
        assert "<b>" not in body
        assert not set(body) & {"\u202e", "\x1b"}
        links = [html.unescape(one) for one in re.findall(r'href="(\./limits\?name=[^"]+)"', body)]
        parameters = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(links[-1]).query))
        assert parameters["name"] == ODD
    assert "Jobs in line" in _text(_get(app, "limits", of=urllib.parse.quote(ODD), key=ODD))
    response = _post(app, "limits/set", limit=urllib.parse.quote(ODD), concurrency="3")
    assert dict(response.headers)["Location"].endswith("&done=set_limit")
    assert app.limits.list()[0].concurrency == 3


def test_numbers_are_set_and_reset_and_recorded(app: procrastinate.App, caplog: pytest.LogCaptureFixture) -> None:
    app.limits.set("api", total=9, allow_undefined=True)
    with caplog.at_level(logging.INFO, logger="procrastinate.dashboard"):
        set_ = _post(app, "limits/set", limit="api", concurrency="3", total="")
    assert dict(set_.headers)["Location"] == "../limits?name=api&done=set_limit"
    assert "set_limit limit api by ada: set_limit" in caplog.text.replace("'", "")
    (stored,) = app.limits.list()
    assert (stored.concurrency, stored.total) == (3, 9)
    reset = _post(app, "limits/reset", limit="api")
    assert dict(reset.headers)["Location"] == "../limits?name=api&done=reset_limit"
    (stored,) = app.limits.list()
    assert (stored.concurrency, stored.total) == (None, None)


@pytest.mark.parametrize(
    "form",
    [
        {"concurrency": "0"},
        {"concurrency": "-1"},
        {"concurrency": "1.5"},
        {"concurrency": "\u0663"},
        {"concurrency": "2", "total": "x"},
        {"concurrency": "2147483648"},
        {"total": " "},
        {},
    ],
)
def test_no_other_number_is_set(app: procrastinate.App, form: dict[str, str]) -> None:
    app.limits.set("api", total=9, allow_undefined=True)
    assert _post(app, "limits/set", limit="api", **form).status == 400
    (stored,) = app.limits.list()
    assert (stored.concurrency, stored.total) == (None, 9)


def test_a_limit_that_does_not_exist_is_not_made(app: procrastinate.App) -> None:
    assert _post(app, "limits/set", limit="typo", concurrency="3").status == 404
    assert dict(_post(app, "limits/reset", limit="typo").headers)["Location"].endswith("done=limit_unchanged")
    assert app.limits.list() == []


@pytest.mark.parametrize("path", ["limits/set", "limits/reset"])
def test_a_visitor_without_the_right_sets_no_number(app: procrastinate.App, path: str) -> None:
    app.limits.set("api", total=9, allow_undefined=True)
    permissions = frozenset(Permission) - {Permission.LIMIT}
    assert _post(app, path, Access(permissions), limit="api", total="1").status == 403
    assert app.limits.list()[0].total == 9
    page = Dashboard(app).handle(Request(method="GET", path="limits", query="name=api", access=Access(permissions)))
    assert b'method="post"' not in page.body
