"""Pages of the dashboard in a browser."""

from __future__ import annotations

import urllib.parse

from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By

from tests.dashboard.hosts import Served

PAGES = {
    "overview": "", "jobs": "jobs", "failed": "jobs?state=failed", "job": "jobs/17",
    "workflows": "workflows", "workflow": "workflows/1", "queues": "queues",
    "tasks": "tasks", "failures": "failures", "locks": "locks", "periodic": "periodic", "workers": "workers",
    "operations": "operations", "preview": "operations/new?action=retry&state=failed", "system": "system",
    "doctor": "doctor",
}  # fmt: skip


def visit(browser: Chrome, served: Served, page: str = "") -> None:
    """Open a page. The first time, give the browser the cookies of the visitor."""
    if served.cookies and not browser.get_cookies():
        parts = urllib.parse.urlsplit(served.url)
        browser.get(f"{parts.scheme}://{parts.netloc}/queue/static/none")
        for name, value in served.cookies.items():
            browser.add_cookie({"name": name, "value": value, "path": "/"})
    browser.get(f"{served.url}{page}")
    browser.find_element(By.CSS_SELECTOR, ".pq-main")


def emulate(browser: Chrome, *, dark: bool = False, phone: bool = False) -> None:
    """Let the browser have another screen. Colours change at once."""
    size = {"width": 390, "height": 844, "deviceScaleFactor": 2} if phone else {"width": 1280, "height": 900}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"deviceScaleFactor": 1, **size, "mobile": phone})
    scheme = "dark" if dark else "light"
    features = [
        {"name": "prefers-color-scheme", "value": scheme},
        {"name": "prefers-reduced-motion", "value": "reduce"},
    ]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
