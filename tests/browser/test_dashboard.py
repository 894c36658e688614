"""The dashboard in a real browser: light, dark, on a phone and without JavaScript, in each host."""

from __future__ import annotations

import pathlib

import pytest
import sqlalchemy as sa
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from procrastinate.core import bulk
from procrastinate.dashboard import Access
from tests.browser.pages import MISSING, PAGES, emulate, make_states, visit
from tests.dashboard.hosts import Served

pytestmark = pytest.mark.browser

in_two_hosts = pytest.mark.parametrize("served", ["wsgi", "django_admin"], indirect=True)
"""For what the pages do by themselves: on a page of their own, and inside the admin."""


def _check(browser: Chrome, width: int) -> None:
    """The page needs no sideways scrolling, and the browser complains about nothing of it but a job that is missing."""
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    complaints = [entry["message"] for entry in browser.get_log("browser") if "/queue/" in entry["message"]]
    assert [one for one in complaints if not one.partition(" ")[0].endswith(MISSING)] == []


def test_every_page_fits_the_screen(
    browser: Chrome, served: Served, artifacts: pathlib.Path, request: pytest.FixtureRequest
) -> None:
    visit(browser, served)
    browser.get_log("browser")
    host = request.node.callspec.params["served"]
    pages = PAGES | make_states(served.engine)
    for look in ("light", "dark", "phone"):
        emulate(browser, dark=look == "dark", phone=look == "phone")
        for name, page in pages.items():
            visit(browser, served, page)
            _check(browser, 390 if look == "phone" else 1280)
            browser.save_screenshot(artifacts / f"dashboard-{host}-{name}-{look}.png")


@in_two_hosts
def test_each_cell_of_a_table_names_its_column_on_a_phone(browser: Chrome, served: Served) -> None:
    emulate(browser, phone=True)
    nameless = (
        "return [...document.querySelectorAll('.pq-table:not(.pq-jobs) tbody td')]"
        ".filter((cell) => cell.innerText.trim() && !cell.querySelector('form, details'))"
        ".filter((cell) => getComputedStyle(cell, '::before').content === 'none').map((cell) => cell.outerHTML)"
    )
    for page in (PAGES | make_states(served.engine)).values():
        visit(browser, served, page)
        assert browser.execute_script(nameless) == [], page


def test_the_tiles_of_the_overview_fill_their_rows(
    browser: Chrome, served: Served, artifacts: pathlib.Path, request: pytest.FixtureRequest
) -> None:
    visit(browser, served)
    host = request.node.callspec.params["served"]
    for width in (1440, 768, 390):
        for dark in (False, True):
            emulate(browser, dark=dark, phone=width == 390, width=width)
            look = "dark" if dark else "light"
            browser.save_screenshot(artifacts / f"dashboard-{host}-tiles-{width}-{look}.png")
        whole = browser.find_element(By.CSS_SELECTOR, ".pq-tiles").rect
        rows: dict[float, list[dict[str, float]]] = {}
        for tile in browser.find_elements(By.CSS_SELECTOR, ".pq-tile"):
            rows.setdefault(tile.rect["y"], []).append(tile.rect)
        assert sum(map(len, rows.values())) == 9
        for row in rows.values():
            assert row[0]["x"] == pytest.approx(whole["x"], abs=1)
            assert row[-1]["x"] + row[-1]["width"] == pytest.approx(whole["x"] + whole["width"], abs=1), (width, row)
        numbers = {tile.rect["y"] for tile in browser.find_elements(By.CSS_SELECTOR, ".pq-tile-number")}
        assert len(numbers) == len(rows)
        # No number or word is wider than its tile.
        wider = "return [...document.querySelectorAll('.pq-tile')].filter((one) => one.scrollWidth > one.clientWidth)"
        assert [tile.text for tile in browser.execute_script(wider)] == [], width


@in_two_hosts
def test_a_message_about_an_action_does_not_stay_in_the_address(browser: Chrome, served: Served) -> None:
    visit(browser, served, "jobs?state=failed&done=rerun")
    assert browser.find_elements(By.CSS_SELECTOR, ".pq-done")
    assert browser.current_url.endswith("jobs?state=failed")


@in_two_hosts
def test_names_of_queues_and_all_links_of_the_menu_are_seen_whole(browser: Chrome, served: Served) -> None:
    emulate(browser)
    visit(browser, served, "queues")
    names = browser.find_elements(By.CSS_SELECTOR, ".pq-table tbody th a")
    assert "newsletter" in [name.text for name in names]
    lines = "return arguments[0].getClientRects().length"
    assert [name.text for name in names if browser.execute_script(lines, name) != 1] == []
    hidden = "const menu = document.querySelector('.pq-nav'); return menu.scrollWidth - menu.clientWidth"
    assert browser.execute_script(hidden) <= 0


@in_two_hosts
def test_the_menu_of_a_phone_shows_the_entry_of_the_page(browser: Chrome, served: Served) -> None:
    """The menu has more entries than fit. A part of the next one says so."""
    emulate(browser, phone=True)
    for page in ("", "tasks", "workers", "system"):
        visit(browser, served, page)
        entry = browser.find_element(By.CSS_SELECTOR, ".pq-nav [aria-current]").rect
        assert entry["x"] >= -1
        assert entry["x"] + entry["width"] <= 391
    visit(browser, served)
    sixth = browser.find_elements(By.CSS_SELECTOR, ".pq-nav a")[5].rect
    assert sixth["x"] < 375 or served.is_embedded


@in_two_hosts
def test_the_states_of_a_phone_show_the_chosen_one(browser: Chrome, served: Served) -> None:
    emulate(browser, phone=True)
    for page in ("jobs", "jobs?state=failed", "jobs?state=aborted", "workflows?state=cancelled"):
        visit(browser, served, page)
        chosen = browser.find_element(By.CSS_SELECTOR, ".pq-tabs [aria-current]").rect
        assert chosen["x"] >= -1
        assert chosen["x"] + chosen["width"] <= 391


@in_two_hosts
def test_a_drawing_that_is_wider_than_a_phone_scrolls_in_its_box(browser: Chrome, served: Served) -> None:
    emulate(browser, phone=True)
    visit(browser, served, "workflows/1")
    box = browser.find_element(By.CSS_SELECTOR, ".pq-drawing")
    boxes = browser.find_elements(By.CSS_SELECTOR, ".pq-drawing .pq-box")
    assert max(one.rect["x"] + one.rect["width"] for one in boxes) > 390
    browser.execute_script("arguments[0].scrollLeft = 10000", box)
    edge = browser.execute_script("const box = arguments[0].getBoundingClientRect(); return box.right", box)
    shown = "return arguments[0].getBoundingClientRect().right"
    assert max(browser.execute_script(shown, one) for one in boxes) <= edge
    browser.execute_script("arguments[0].scrollLeft = 0", box)
    left = "return arguments[0].getBoundingClientRect().left"
    assert min(browser.execute_script(left, one) for one in boxes) >= browser.execute_script(left, box)


def test_every_page_and_an_action_work_without_javascript(
    browser: Chrome, served: Served, artifacts: pathlib.Path, request: pytest.FixtureRequest
) -> None:
    visit(browser, served)
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    for page in (PAGES | make_states(served.engine)).values():
        visit(browser, served, page)
        assert browser.find_element(By.CSS_SELECTOR, ".pq-main").text
    visit(browser, served, "jobs/17")
    host = request.node.callspec.params["served"]
    browser.save_screenshot(artifacts / f"dashboard-{host}-job-without-javascript.png")
    browser.find_element(By.CSS_SELECTOR, "form[action$='/retry'] button").click()
    assert browser.find_element(By.CSS_SELECTOR, ".pq-done").text == "The job waits again."
    assert _status(served, 17) == "todo"


@in_two_hosts
def test_a_page_shows_what_happens_without_a_reload(browser: Chrome, served: Served) -> None:
    visit(browser, served, "jobs?state=ready&q=queue:live")
    browser.execute_script(
        "const choice = document.querySelector('[data-refresh]');"
        "choice.value = '2'; choice.dispatchEvent(new Event('change'));"
    )
    assert "No job matches" in browser.find_element(By.ID, "jobs").text
    with served.engine.connect() as connection:
        connection.exec_driver_sql("INSERT INTO procrastinate_jobs (queue_name, task_name) VALUES ('live', 'a.b')")
    WebDriverWait(browser, 20, ignored_exceptions=[StaleElementReferenceException]).until(
        lambda _: "a.b" in browser.find_element(By.ID, "jobs").text
    )


@in_two_hosts
def test_an_action_asks_before_it_cancels(browser: Chrome, served: Served) -> None:
    with served.engine.connect() as connection:
        statement = "SELECT id FROM procrastinate_jobs WHERE status = 'todo' AND queue_name = 'mail' LIMIT 1"
        job_id = connection.exec_driver_sql(statement).scalar_one()
    visit(browser, served, f"jobs/{job_id}")
    button = (By.CSS_SELECTOR, "form[action$='/cancel'] button")
    browser.find_element(*button).click()
    browser.switch_to.alert.dismiss()
    assert _status(served, job_id) == "todo"
    browser.find_element(*button).click()
    browser.switch_to.alert.accept()
    WebDriverWait(browser, 20).until(lambda _: browser.find_elements(By.CSS_SELECTOR, ".pq-done"))
    assert _status(served, job_id) == "cancelled"


@in_two_hosts
def test_an_operation_goes_on_while_its_page_is_open(browser: Chrome, served: Served) -> None:
    with served.engine.connect() as connection:
        connection.exec_driver_sql(
            "INSERT INTO procrastinate_jobs (queue_name, task_name, status) "
            "SELECT 'many', 'm', 'failed' FROM generate_series(1, 3000)"
        )
    visit(browser, served, "operations/new?action=retry&state=failed&q=queue:many")
    browser.find_element(By.NAME, "typed").send_keys("retry")
    browser.find_element(By.CSS_SELECTOR, "form[action$='operations/start'] button").click()
    # The page replaces the element, perhaps between the search for it and the reading of its text.
    wait = WebDriverWait(browser, 60, ignored_exceptions=[StaleElementReferenceException])
    wait.until(lambda _: "100 % of the jobs" in browser.find_element(By.ID, "operation").text)
    assert "3,000" in browser.find_element(By.ID, "operation").text


@pytest.mark.parametrize("served", ["wsgi"], indirect=True)
def test_an_operation_that_is_refused_says_so_until_the_page_is_left(
    browser: Chrome, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page goes on to refresh itself."""
    monkeypatch.setattr(bulk, "CHANGED_AT_ONCE", 1)
    served.set_access(Access.everything())
    with served.engine.connect() as connection:
        connection.exec_driver_sql(
            "INSERT INTO procrastinate_jobs (queue_name, task_name, status) "
            "SELECT 'slow', 'm', 'failed' FROM generate_series(1, 900)"
        )
    visit(browser, served, "operations/new?action=retry&state=failed&q=queue:slow")
    browser.find_element(By.CSS_SELECTOR, "form[action$='operations/start'] button").click()
    wait = WebDriverWait(browser, 20, ignored_exceptions=[StaleElementReferenceException])
    wait.until(lambda _: browser.find_elements(By.CSS_SELECTOR, "form[data-continue]"))
    browser.execute_script(_REFUSE_POSTS)
    wait.until(lambda _: "stopped" in browser.find_element(By.CSS_SELECTOR, "[data-status]").text)
    before = browser.execute_script("return window.refreshes")
    for number in (1, 2):  # the second one begins when the page has shown the first one
        browser.find_element(By.TAG_NAME, "body").send_keys("r")
        wait.until(lambda _, number=number: browser.execute_script("return window.refreshes") >= before + number)
    assert "stopped" in browser.find_element(By.CSS_SELECTOR, "[data-status]").text
    with served.engine.connect() as connection:
        connection.exec_driver_sql("UPDATE procrastinate_operations SET state = 'cancelled' WHERE state = 'running'")
        connection.exec_driver_sql("DELETE FROM procrastinate_jobs WHERE queue_name = 'slow'")


_REFUSE_POSTS = """
    const real = window.fetch;
    window.refreshes = 0;
    window.fetch = async (address, options) => {
      if (options?.method === "POST") return new Response("", { status: 403 });
      const answer = await real(address, options);
      window.refreshes += 1;
      return answer;
    };
"""
"""What a proxy does whose login has ended: it refuses actions and goes on to show pages."""


@in_two_hosts
def test_keys_lead_to_the_search_and_along_the_jobs(browser: Chrome, served: Served) -> None:
    served.set_access(Access.everything())
    visit(browser, served, "jobs?state=failed")
    body = browser.find_element(By.TAG_NAME, "body")
    rows = browser.find_elements(By.CSS_SELECTOR, "tr[id^='job-']")
    first, second = (row.get_attribute("id") for row in rows[:2])
    for key, row in (("j", first), ("j", second), ("k", first)):
        body.send_keys(key)
        assert browser.switch_to.active_element == browser.find_element(By.CSS_SELECTOR, f"#{row} a")
        body = browser.switch_to.active_element
    body.send_keys("x")
    assert browser.find_element(By.CSS_SELECTOR, f"#{first} input").is_selected()
    body.send_keys("/")
    assert browser.switch_to.active_element == browser.find_element(By.ID, "pq-find")


def _status(served: Served, job_id: int) -> str:
    with served.engine.connect() as connection:
        statement = sa.text("SELECT status::text FROM procrastinate_jobs WHERE id = :id")
        return str(connection.execute(statement, {"id": job_id}).scalar_one())
