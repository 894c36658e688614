"""The admin, as a person uses it."""

from __future__ import annotations

import pathlib
import urllib.parse
import urllib.request

import pytest
import sqlalchemy as sa
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.select import Select

from tests.browser.conftest import Shop

pytestmark = pytest.mark.browser

_JOBS = "/admin/procrastinate/procrastinatejob/"


def test_a_failed_job_is_found_opened_and_retried(browser: Chrome, shop: Shop, artifacts: pathlib.Path) -> None:
    """Filter by status, search by task, open the job, retry it: then the database has it waiting again."""
    _place_order(shop)
    shop.run_worker()
    job_id = _defer_unknown_task(shop)
    shop.run_worker()

    _log_in(browser, shop)
    browser.get(f"{shop.url}{_JOBS}")
    browser.find_element(By.ID, "result_list")
    browser.save_screenshot(artifacts / "admin-jobs.png")

    browser.find_element(By.CSS_SELECTOR, "#changelist-filter a[href*='failed']").click()
    assert _rows(browser) == 1
    search = browser.find_element(By.ID, "searchbar")
    search.send_keys("no_such_task")
    search.submit()
    assert _rows(browser) == 1

    browser.find_element(By.CSS_SELECTOR, "#result_list tbody th a").click()
    page = browser.find_element(By.ID, "content").text
    assert "no_such_task" in page
    assert "<b>bold</b>" in page, "arguments are shown as text, not as HTML"
    assert "deferred" in page.lower()
    browser.save_screenshot(artifacts / "admin-job.png")

    browser.get(f"{shop.url}{_JOBS}?status__exact=failed")
    browser.find_element(By.CSS_SELECTOR, f"input.action-select[value='{job_id}']").click()
    Select(browser.find_element(By.NAME, "action")).select_by_value("retry")
    browser.find_element(By.CSS_SELECTOR, "button[name='index']").click()
    browser.find_element(By.CSS_SELECTOR, ".messagelist")
    assert _status(shop, job_id) == "todo"


def test_the_job_list_fits_a_phone_in_the_dark(browser: Chrome, shop: Shop, artifacts: pathlib.Path) -> None:
    """Nothing is cut off sideways that cannot be reached."""
    _place_order(shop)
    _log_in(browser, shop)
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
    )
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    )
    browser.get(f"{shop.url}{_JOBS}")
    browser.find_element(By.CSS_SELECTOR, "#result_list tbody th a").click()
    browser.find_element(By.ID, "content")
    browser.save_screenshot(artifacts / "admin-job-phone.png")
    width = browser.execute_script("return document.documentElement.scrollWidth")
    assert width <= 390


def _place_order(shop: Shop) -> None:
    form = urllib.parse.urlencode({"customer": "Ada", "amount": "10"}).encode()
    with urllib.request.urlopen(f"{shop.url}/orders/", data=form) as response:
        assert response.status == 200


def _defer_unknown_task(shop: Shop) -> int:
    with shop.engine.begin() as connection:
        job_id: int = connection.execute(
            sa.text(
                "INSERT INTO procrastinate_jobs (queue_name, task_name, args) "
                "VALUES ('default', 'no_such_task', CAST(:args AS jsonb)) RETURNING id"
            ),
            {"args": '{"note": "<b>bold</b>"}'},
        ).scalar_one()
    return job_id


def _log_in(browser: Chrome, shop: Shop) -> None:
    browser.get(f"{shop.url}/admin/")
    browser.find_element(By.NAME, "username").send_keys("admin")
    password = browser.find_element(By.NAME, "password")
    password.send_keys("admin")
    password.submit()
    browser.find_element(By.ID, "user-tools")


def _rows(browser: Chrome) -> int:
    return len(browser.find_elements(By.CSS_SELECTOR, "#result_list tbody tr"))


def _status(shop: Shop, job_id: int) -> str:
    with shop.engine.connect() as connection:
        statement = sa.text("SELECT status::text FROM procrastinate_jobs WHERE id = :id")
        return str(connection.execute(statement, {"id": job_id}).scalar_one())
