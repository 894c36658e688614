"""Pages of the dashboard in a browser."""

from __future__ import annotations

import urllib.parse

import sqlalchemy as sa
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By

from procrastinate.core import bulk
from procrastinate.core.inspection import JobSearch, JobState
from tests.dashboard.hosts import Served
from tests.dashboard.sample import LIMIT, LIMITED_JOBS

PAGES = {
    "overview": "", "jobs": "jobs", "failed": "jobs?state=failed", "job": "jobs/17",
    "workflows": "workflows", "workflow": "workflows/1", "queues": "queues",
    "tasks": "tasks", "failures": "failures", "locks": "locks", "limits": "limits", "periodic": "periodic",
    "workers": "workers", "operations": "operations", "preview": "operations/new?action=retry&state=failed",
    "system": "system", "doctor": "doctor",
}  # fmt: skip

MISSING = "jobs/999999999"
"""The page of a job that does not exist. Its status is 404."""


def visit(browser: Chrome, served: Served, page: str = "") -> None:
    """Open a page. The first time, give the browser the cookies of the visitor."""
    if served.cookies and not browser.get_cookies():
        parts = urllib.parse.urlsplit(served.url)
        browser.get(f"{parts.scheme}://{parts.netloc}/queue/static/none")
        for name, value in served.cookies.items():
            browser.add_cookie({"name": name, "value": value, "path": "/"})
    browser.get(f"{served.url}{page}")
    browser.find_element(By.CSS_SELECTOR, ".pq-main")


def emulate(browser: Chrome, *, dark: bool = False, phone: bool = False, width: int = 1280) -> None:
    """Let the browser have another screen, a phone or one of a width. Colours change at once."""
    size = {"width": 390, "height": 844, "deviceScaleFactor": 2} if phone else {"width": width, "height": 900}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"deviceScaleFactor": 1, **size, "mobile": phone})
    scheme = "dark" if dark else "light"
    features = [
        {"name": "prefers-color-scheme", "value": scheme},
        {"name": "prefers-reduced-motion", "value": "reduce"},
    ]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def make_states(engine: sa.Engine) -> dict[str, str]:
    """Make a job that tells of its run, a job that waits and an operation, and return their pages."""
    with engine.connect() as connection:
        defer = "INSERT INTO procrastinate_jobs (queue_name, task_name, status, worker_id) VALUES ('mail', 'a.b'"
        running = connection.exec_driver_sql(f"{defer}, 'doing', -7001) RETURNING id").scalar_one()
        waiting = connection.exec_driver_sql(f"{defer}, 'todo', NULL) RETURNING id").scalar_one()
        for kind, content in (
            ("progress", '{"done": 1, "total": 4, "message": "of four"}'),
            ("stack", '{"text": "File \\"shop.py\\", line 1, in pay\\n    wait()\\n"}'),
            ("log", '{"lines": [[1.5, "WARNING", "shop", "slow"]], "left_out": 3}'),
        ):
            connection.execute(
                sa.text(
                    "INSERT INTO procrastinate_job_reports (job_id, attempt, kind, content) "
                    "VALUES (:id, 1, :kind, CAST(:content AS jsonb))"
                ),
                {"id": running, "kind": kind, "content": content},
            )
        for key in ("customer 7", "customer 8"):
            for number in (8, 1):
                connection.exec_driver_sql(LIMITED_JOBS.format(name="'api'", key=f"'{key}'", number=number))
        connection.exec_driver_sql(LIMIT.format(name="'api'"))
        connection.exec_driver_sql("UPDATE procrastinate_limits SET set_concurrency = 3")
        operation = bulk.start_bulk_operation(connection, "retry", JobSearch(state=JobState.FAILED), expected=9)
    return {
        "running": f"jobs/{running}",
        "waiting": f"jobs/{waiting}",
        "missing": MISSING,
        "limit": "limits?name=api",
        "limit-key": "limits?name=api&key=customer+7",
        "operation": f"operations/{operation}",
    }
