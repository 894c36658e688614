"""The search of the site finds the answer to a question under the words that people type. It needs `make docs`."""

from __future__ import annotations

import dataclasses
import functools
import http.server
import pathlib
import threading
import urllib.parse
from collections.abc import Iterator
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.support.wait import WebDriverWait

from tests.missing import is_bare, missing

pytestmark = pytest.mark.browser

_SITE = pathlib.Path(__file__).parents[2] / "build" / "site"
_REQUIRED = "PROCRASTINATE_REQUIRE_SITE"
_FIRST = 5
"""The number of results that a reader looks at. Each shows its page and the sentence around the words."""


@dataclasses.dataclass(frozen=True)
class Wish:
    """What a reader wants, the pages that tell how, and what different readers type."""

    name: str
    pages: str
    words: str


WISHES = [
    Wish(
        "two queues with different concurrency",
        "howto/queues concepts deployment",
        "concurrency per queue | how do I run two queues with different concurrency | "
        "separate worker for slow queue | queues with different number of workers | fast and slow queue",
    ),
    Wish(
        "how many jobs wait",
        "howto/waiting watching metrics-and-traces",
        "queue length | how many jobs are waiting | count pending jobs | jobs in queue | number of jobs per queue",
    ),
    Wish(
        "why a job does not run",
        "why howto/waiting",
        "job stuck | why is my job not running | job stays todo | job never runs | jobs not picked up by worker",
    ),
    Wish(
        "pause a queue",
        "watching howto/queues operations",
        "pause queue | how to pause a queue | stop queue temporarily | pausing | disable a queue",
    ),
    Wish(
        "retry all failed jobs of a task",
        "howto/waiting watching",
        "retry failed jobs | how do I retry all failed jobs of a task | requeue failed | "
        "restart failed jobs | bulk retry",
    ),
    Wish(
        "delete old jobs every night",
        "deployment",
        "delete old jobs | cleanup finished jobs every night | retention | remove old jobs | purge",
    ),
    Wish(
        "ten a second, or three at once",
        "limits",
        "rate limit | at most 3 jobs at once | throttle 10 per second | max concurrency | rate limiting api calls | "
        "at most 3 at once | rate limit 10 per second",
    ),
    Wish(
        "chain tasks",
        "workflows",
        "chain tasks | run one task after another | pipeline | job dependencies | run job after other job finished",
    ),
    Wish(
        "know when a thousand jobs are done",
        "workflows",
        "batch callback | know when 1000 jobs are done | chord | wait for all jobs | callback when finished | "
        "callback when all jobs finished",
    ),
    Wish(
        "progress for a web user",
        "howto/progress",
        "progress bar | show progress of a job to the user | task progress percent | progress | update progress",
    ),
    Wish(
        "trace a request to its job",
        "metrics-and-traces howto/errors-and-traces",
        "opentelemetry | trace a request to its job | tracing spans | distributed tracing | request id in job | "
        "request id correlation",
    ),
    Wish(
        "metrics for Prometheus",
        "metrics-and-traces",
        "prometheus | how to export metrics to grafana | monitoring alerts | metrics | grafana dashboard",
    ),
    Wish(
        "errors in Sentry",
        "howto/errors-and-traces",
        "sentry | report exceptions to sentry | error tracking | sentry sdk | send errors to sentry",
    ),
    Wish(
        "systemd, Docker, Kubernetes",
        "tutorial-deployment deployment",
        "systemd | deploy worker with docker | kubernetes liveness probe | docker compose | deploy to kubernetes",
    ),
    Wish(
        "reload on changes",
        "howto/development command",
        "autoreload | reload worker when code changes | watchfiles | hot reload | restart worker on file change",
    ),
    Wish(
        "a worker inside FastAPI",
        "howto/worker-in-fastapi standalone",
        "fastapi lifespan worker | run a worker inside fastapi | embed worker in web process | "
        "worker in lifespan | fastapi background worker same process | "
        "run worker in same process as web app",
    ),
    Wish(
        "schedules at run time",
        "howto/schedules",
        "dynamic schedule | add periodic task at runtime | cron in database | user defined schedules | "
        "create cron job from code at runtime",
    ),
    Wish(
        "test a view that defers",
        "howto/test-a-view testing testing-sqlalchemy",
        "test a view | test view | pytest fixture | unit test | assert job was deferred",
    ),
    Wish(
        "move from Celery",
        "from-celery howto/celery-in-django-and-flask",
        "celery | migrate from celery | apply_async | celery migration | differences to celery",
    ),
    Wish(
        "move from 3.x with data",
        "moving-in differences",
        "upgrade 3.x | migrate from procrastinate 3 with existing jobs | upgrade from version 3 | upgrading | "
        "migrate database from 3",
    ),
    Wish(
        "behind PgBouncer",
        "database",
        "pgbouncer | does it work with pgbouncer | connection pooler transaction mode | "
        "pgbouncer transaction pooling | behind a pooler",
    ),
    Wish(
        "several databases",
        "howto/tenants scaling-out database",
        "multiple databases | use several databases | second database django | more than one database | two databases",
    ),
    Wish(
        "several tenants",
        "howto/tenants limits sessions",
        "multi-tenant | multi tenancy | tenant fairness | saas customers | schema per tenant",
    ),
    Wish(
        "no tenant starves the others",
        "many-tenants howto/tenants limits",
        "slow tenant starves others | noisy neighbour | fair queue per customer | one customer blocks all others",
    ),
    Wish(
        "wait when a service is overloaded",
        "limits",
        "retry after 429 | circuit breaker | too many requests | api is down | hold off",
    ),
    Wish(
        "read what a job logged",
        "howto/job-logs",
        "kept logs | log output of a job | logs of one job | see what a job printed",
    ),
    Wish(
        "check an installation",
        "doctor",
        "doctor | check configuration | diagnose problems | check before deploy",
    ),
    Wish(
        "encrypt arguments",
        "howto/encrypt",
        "encrypt | encrypt job arguments | sensitive data gdpr | encryption | secrets in job arguments",
    ),
    Wish(
        "upgrade PostgreSQL",
        "operations database",
        "pg_upgrade | upgrade postgresql version | postgres major upgrade | upgrading postgres | postgresql 17 upgrade "
        "| upgrade postgresql major version",
    ),
    Wish(
        "logs as JSON",
        "howto/logs metrics-and-traces",
        "json logs | log as json | structured logging structlog | logging json formatter | structured logs",
    ),
]


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def site() -> Iterator[str]:
    """Serve the site that `make docs` has built."""
    if is_bare() or not (_SITE / "searchindex.js").exists():
        missing("the site is not built: make docs", _REQUIRED)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(_SITE)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("wish", WISHES, ids=lambda wish: wish.name)
def test_a_reader_finds_the_answer_under_the_words_that_come_to_mind(
    site: str, browser: webdriver.Chrome, wish: Wish
) -> None:
    browser.implicitly_wait(0)
    lost = [
        f"{words!r} finds {found}"
        for words in wish.words.split(" | ")
        if not set(found := search(browser, site, words)[:_FIRST]) & set(wish.pages.split())
    ]
    assert lost == []


def search(browser: webdriver.Chrome, site: str, words: str) -> list[str]:
    """Return the pages that the search lists, the first ones first."""
    browser.get(f"{site}/search.html?q={urllib.parse.quote(words)}")
    WebDriverWait(browser, 30, poll_frequency=0.05).until(_has_listed_all)
    links = browser.execute_script(
        "return [...document.querySelectorAll('ul.search > li > a')].map(link => link.getAttribute('href'))"
    )
    return [urllib.parse.urlsplit(link).path.removesuffix(".html") for link in links]


def _has_listed_all(browser: webdriver.Chrome) -> bool:
    """The summary changes when the last result is listed."""
    summary: str = browser.execute_script("return document.querySelector('.search-summary')?.textContent ?? ''")
    return bool(summary) and "Searching" not in summary
