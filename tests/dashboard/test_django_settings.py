"""The setting ``PROCRASTINATE_DASHBOARD`` of a Django project, behind a real web server."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from django.test.utils import override_settings

from procrastinate.adapters.django.dashboard import options as dashboard_options
from procrastinate.contrib.django.django_connector import DjangoConnector
from procrastinate.dashboard import SECRETS, Access, Permission, hide_keys
from tests import database
from tests.dashboard.hosts import HOSTS

Serve = Callable[..., AbstractContextManager[httpx.Client]]
_ADMIN_OF_JOBS = "/admin/procrastinate/procrastinatejob/"
_CSRF = "django.middleware.csrf.CsrfViewMiddleware"
_FULL = "{'title': 'Staging', 'read_only': True}"
told: list[dict[str, Any]] = []
"""What ``on_action`` was told."""
hide_iban = hide_keys(*SECRETS, "iban")


def hide_a_value(task_name: str, value: Any) -> Any:
    if "text" in value:
        raise ValueError("This value is not one that the function knows")
    return {key: "hidden" if one == 4242 else one for key, one in value.items()}


def authorize(request: Any) -> Any:
    """Decide by the header ``X-Team``, as a proxy in front of the site may set it."""
    pauses = Access.names_only().permissions | {Permission.PAUSE}
    decisions = {
        "support": Access.names_only("support"),
        "on call": Access(pauses, "on call"),
        "operators": Access.everything("operators"),
        "audit": True,
    }
    return decisions.get(request.headers.get("X-Team"))


async def authorize_async(request: Any) -> Access:
    return Access.everything()


class Noting(DjangoConnector):
    """Notes what it runs."""

    def run(self, operation: Any, *args: Any, **kwargs: Any) -> Any:
        noted.append(operation)
        return super().run(operation, *args, **kwargs)


def reader() -> Any:
    made.append(Noting(alias="default"))
    return made[-1]


made: list[Any] = []
"""The connectors that :func:`reader` made."""
noted: list[Any] = []
"""The operations that they ran."""


@pytest.fixture(scope="module")
def engine(django_databases: database.Databases) -> Iterator[sa.Engine]:
    url = django_databases.create_migrated()
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    yield engine
    engine.dispose()
    django_databases.drop(url)


@pytest.fixture(params=["django_admin", "django_urls"])
def serve(request: pytest.FixtureRequest, engine: sa.Engine) -> Serve:
    """Return a function that serves the project with these options of the dashboard."""
    return _serving(request.param, engine)


@pytest.fixture
def serve_urls(engine: sa.Engine) -> Serve:
    """Do as ``serve``, for the pages outside the admin."""
    return _serving("django_urls", engine)


@pytest.fixture
def serve_admin(engine: sa.Engine) -> Serve:
    """Do as ``serve``, for the pages inside the admin."""
    return _serving("django_admin", engine)


def _serving(host: str, engine: sa.Engine) -> Serve:
    @contextlib.contextmanager
    def serve(settings: dict[str, Any] | None = None, **options: Any) -> Iterator[httpx.Client]:
        with (
            override_settings(PROCRASTINATE_DASHBOARD=options, **(settings or {})),
            HOSTS[host](engine.url.render_as_string(hide_password=False), engine) as served,
        ):
            try:
                with served.client() as client:
                    yield client
            finally:
                with engine.connect() as connection:
                    connection.exec_driver_sql("TRUNCATE django_admin_log, auth_user CASCADE")

    return serve


def _post(client: httpx.Client, path: str, headers: dict[str, str] | None = None, **fields: str) -> httpx.Response:
    """Send a form as a browser does, with the token of the admin."""
    client.get("jobs")
    fields["csrfmiddlewaretoken"] = client.cookies.get("csrftoken", "")
    return client.post(path, data=fields, headers=headers)


def _insert(engine: sa.Engine, args: str = "{}", status: str = "todo") -> int:
    statement = """
        INSERT INTO procrastinate_jobs (queue_name, task_name, status, args, finished_at)
        VALUES ('q', 'shop.pays', CAST(:status AS procrastinate_job_status), CAST(:args AS jsonb),
                CASE WHEN :status = 'failed' THEN now() END)
        RETURNING id
    """
    with engine.connect() as connection:
        return int(connection.execute(sa.text(statement), {"args": args, "status": status}).scalar_one())


def _status(engine: sa.Engine, job_id: int) -> str:
    with engine.connect() as connection:
        statement = sa.text("SELECT status::text FROM procrastinate_jobs WHERE id = :id")
        return str(connection.execute(statement, {"id": job_id}).scalar_one())


def test_the_pages_have_the_title_of_the_setting(serve_urls: Serve) -> None:
    with serve_urls(title="Staging <3>") as client:
        assert "Staging &lt;3&gt;" in client.get("").text
    with serve_urls() as client:
        assert "Staging" not in client.get("").text


def test_a_read_only_dashboard_offers_and_accepts_no_action(serve: Serve, engine: sa.Engine) -> None:
    job_id = _insert(engine)
    with serve(read_only=True) as client:
        assert f"{job_id}/cancel" not in client.get(f"jobs/{job_id}").text
        refused = _post(client, f"jobs/{job_id}/cancel")
        assert refused.status_code == 403
        assert "This dashboard is read-only" in refused.text
    assert _status(engine, job_id) == "todo"
    with serve() as client:
        assert f"{job_id}/cancel" in client.get(f"jobs/{job_id}").text
        assert _post(client, f"jobs/{job_id}/cancel").status_code == 303
    assert _status(engine, job_id) == "cancelled"


@pytest.mark.parametrize("redact", [hide_iban, f"{__name__}.hide_iban"], ids=["function", "dotted path"])
def test_keys_of_the_project_are_hidden_on_the_pages_and_in_the_admin(
    serve_admin: Serve, engine: sa.Engine, redact: Any
) -> None:
    job_id = _insert(engine, '{"iban": "DE8318", "order": 4711}')
    pages = (f"jobs/{job_id}", "jobs?state=ready", f"{_ADMIN_OF_JOBS}{job_id}/change/", _ADMIN_OF_JOBS)
    with serve_admin(redact=redact) as client:
        address = client.base_url
        for page in pages:
            text = client.get(address.join(page)).text
            assert "4711" in text, page
            assert "DE8318" not in text, page
        assert "cannot be searched" in client.get("jobs", params={"q": "args.iban:DE8318"}).text
        assert f"{job_id}/change" in client.get(address.join(f"{_ADMIN_OF_JOBS}?q=order%3D4711")).text
        assert f"{job_id}/change" not in client.get(address.join(f"{_ADMIN_OF_JOBS}?q=iban%3DDE8318")).text
    with serve_admin() as client:
        for page in pages:
            assert "DE8318" in client.get(address.copy_with(port=client.base_url.port).join(page)).text, page


@pytest.mark.parametrize("args", ['{"order": 4242}', '{"a": 1, "order": 4242, "text": "%s"}' % ("x" * 100)])
def test_a_function_that_looks_at_values_hides_them_in_the_admin_too(
    serve_admin: Serve, engine: sa.Engine, args: str
) -> None:
    """The list of the admin reads the beginning of long arguments only, and the function may fail at a value."""
    job_id = _insert(engine, args)
    with serve_admin(redact=hide_a_value) as client:
        address = client.base_url
        for page in (_ADMIN_OF_JOBS, f"{_ADMIN_OF_JOBS}{job_id}/change/"):
            answer = client.get(address.join(page))
            assert answer.status_code == 200
            assert "4242" not in answer.text, page
        assert f"{job_id}/change" not in client.get(address.join(f"{_ADMIN_OF_JOBS}?q=order%3D4242")).text
    with serve_admin(redact=hide_a_value, search_arguments=True) as client:
        assert f"{job_id}/change" in client.get(client.base_url.join(f"{_ADMIN_OF_JOBS}?q=order%3D4242")).text


def test_search_in_arguments_can_be_switched_off(serve: Serve, engine: sa.Engine) -> None:
    _insert(engine, '{"order": 4242}')
    with serve(search_arguments=False) as client:
        assert "cannot be searched" in client.get("jobs", params={"q": "args.order:4242"}).text
    with serve() as client:
        assert "cannot be searched" not in client.get("jobs", params={"q": "args.order:4242"}).text


def test_a_function_of_the_project_decides_who_may_see_and_do_what(serve_urls: Serve, engine: sa.Engine) -> None:
    """Django's permissions of the user do not matter then, and no user needs to log in to Django."""
    job_id = _insert(engine, '{"order": 4242}')
    with serve_urls(authorize=f"{__name__}.authorize") as client:
        assert client.get("").status_code == 403
        client.cookies.clear()
        anonymous = client.get("")
        assert anonymous.status_code == 302
        assert "login" in anonymous.headers["location"]
        client.headers["X-Team"] = "support"
        assert "shop.pays" in client.get(f"jobs/{job_id}").text
        assert "4242" not in client.get(f"jobs/{job_id}").text
        client.headers["X-Team"] = "on call"
        _post(client, f"jobs/{job_id}/cancel")
        assert _post(client, "queues/resume", queue="q").status_code == 303
        client.headers["X-Team"] = "audit"
        assert "4242" in client.get(f"jobs/{job_id}").text
        _post(client, f"jobs/{job_id}/cancel")
        assert _status(engine, job_id) == "todo"
        client.headers["X-Team"] = "operators"
        _post(client, f"jobs/{job_id}/cancel")
        assert _status(engine, job_id) == "cancelled"


def test_in_the_admin_the_function_decides_once_the_user_has_logged_in(serve_admin: Serve, engine: sa.Engine) -> None:
    job_id = _insert(engine, '{"order": 4242}')
    with serve_admin(authorize=authorize) as client:
        assert client.get("").status_code == 403
        client.headers["X-Team"] = "support"
        assert "shop.pays" in client.get(f"jobs/{job_id}").text
        assert "4242" not in client.get(f"jobs/{job_id}").text
        client.cookies.clear()
        assert "/login/" in client.get("").headers["location"]


def test_an_access_holds_for_all_visitors(serve_urls: Serve, engine: sa.Engine) -> None:
    with serve_urls(authorize=Access.names_only()) as client:
        client.cookies.clear()
        assert client.get("").status_code == 200


def test_the_function_of_the_project_is_told_of_each_action(serve: Serve, engine: sa.Engine) -> None:
    """The log of the admin has it too."""
    job_id = _insert(engine)
    told.clear()
    with serve(on_action=told.append) as client:
        _post(client, f"jobs/{job_id}/cancel")
        with engine.connect() as connection:
            logged = connection.exec_driver_sql("SELECT object_repr FROM django_admin_log").scalars().all()
    assert [(one["action"], one["user"], one["jobs"]) for one in told] == [("cancel", "ada", [job_id])]
    assert logged == [f"job {job_id}"]


def test_the_dashboard_uses_a_connector_of_its_own(serve: Serve, engine: sa.Engine) -> None:
    """It is made once in each process."""
    made.clear()
    noted.clear()
    dashboard_options._make_once.cache_clear()
    with serve(connector=f"{__name__}.reader") as client:
        for _ in range(2):
            assert client.get("jobs").status_code == 200
        once = len(noted)
    assert len(made) == 1
    assert once >= 2
    with serve() as client:
        assert client.get("jobs").status_code == 200
    assert len(noted) == once


@pytest.mark.parametrize(
    ("trusted", "origin", "is_accepted"),
    [
        ([], "https://tools.example.com", False),
        (["https://tools.example.com"], "https://tools.example.com", True),
        (["https://tools.example.com"], "http://tools.example.com", False),
        (["https://tools.example.com"], "https://a.tools.example.com", False),
        (["https://*.example.com"], "https://tools.example.com", True),
        (["https://*.example.com"], "https://a.tools.example.com:8443", False),
        (["https://*.example.com:8443"], "https://a.tools.example.com:8443", True),
        (["https://*.example.com"], "http://tools.example.com", False),
        (["https://*.example.com"], "https://badexample.com", False),
        (["https://*.example.com"], "https://tools.example.com.evil.org", False),
        (["https://*.example.com"], "https://[", False),
        (["https://*.example.com"], "null", False),
    ],
)
@pytest.mark.parametrize("middleware", [[], [_CSRF]], ids=["alone", "with Django's check"])
def test_actions_may_come_from_the_trusted_origins_of_django(
    serve_urls: Serve, engine: sa.Engine, trusted: list[str], origin: str, is_accepted: bool, middleware: list[str]
) -> None:
    """The dashboard accepts what Django's own check accepts, and refuses the rest without it."""
    from tests.django.project.settings import MIDDLEWARE

    job_id = _insert(engine)
    settings = {"CSRF_TRUSTED_ORIGINS": trusted, "MIDDLEWARE": [*MIDDLEWARE, *middleware]}
    with serve_urls(settings) as client:
        found = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', client.get(f"jobs/{job_id}").text)
        assert found is not None
        headers = {"Origin": origin, "Sec-Fetch-Site": "cross-site"}
        answer = client.post(f"jobs/{job_id}/cancel", data={"csrfmiddlewaretoken": found[1]}, headers=headers)
        assert answer.status_code == (303 if is_accepted else 403)
    assert _status(engine, job_id) == ("cancelled" if is_accepted else "todo")


@pytest.mark.parametrize("heeds_proxy", [True, False])
def test_the_host_that_a_proxy_tells_is_that_of_the_site_if_django_heeds_it(
    serve_urls: Serve, engine: sa.Engine, heeds_proxy: bool
) -> None:
    """Browsers send no Sec-Fetch-Site to a site without TLS."""
    job_id = _insert(engine)
    with serve_urls({"USE_X_FORWARDED_HOST": heeds_proxy}) as client:
        del client.headers["Sec-Fetch-Site"]
        headers = {"Origin": "http://tools.example.com", "X-Forwarded-Host": "tools.example.com"}
        assert _post(client, f"jobs/{job_id}/cancel", headers).status_code == (303 if heeds_proxy else 403)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"readonly": True}, "unknown option 'readonly'. Valid options: title, authorize, read_only"),
        ({"authorize": authorize_async}, "authorize must return an Access, a bool or None, not coroutine"),
    ],
)
def test_no_page_is_shown_while_the_setting_is_wrong(
    serve_urls: Serve, caplog: pytest.LogCaptureFixture, options: dict[str, Any], message: str
) -> None:
    with serve_urls(**options) as client:
        assert client.get("").status_code == 500
    assert message in caplog.text
