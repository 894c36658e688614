"""Every page of the dashboard can be used by people with disabilities, as far as axe-core can tell."""

from __future__ import annotations

import pathlib
from typing import Any

import pytest
from selenium.webdriver import Chrome

from tests.browser.pages import PAGES, emulate, make_states, visit
from tests.dashboard.hosts import Served
from tests.missing import find_file, missing

pytestmark = pytest.mark.browser

_AXE = pathlib.Path(__file__).parents[2] / "node_modules" / "axe-core" / "axe.min.js"
_REQUIRED = "PROCRASTINATE_REQUIRE_AXE"
_RUN = """
    const done = arguments[arguments.length - 1];
    axe.run(arguments[0], arguments[1]).then((result) => done({
        passes: result.passes.length,
        violations: result.violations
            .filter((one) => ['serious', 'critical'].includes(one.impact))
            .map((one) => one.id + ': ' + one.nodes.map((node) => node.html).slice(0, 3).join(' ')),
    }));
"""
_LOOKS: dict[str, dict[str, Any]] = {
    "light": {},
    "dark": {"runOnly": ["color-contrast", "link-in-text-block"]},
    "phone": {"runOnly": ["color-contrast", "scrollable-region-focusable", "target-size"]},
}
"""The rules of each look: all, those whose result depends on colours, and those whose result depends on the width."""


@pytest.fixture(scope="session")
def axe() -> str:
    """Return the script of axe-core."""
    path = find_file(str(_AXE))
    if path is None:
        missing("axe-core is not installed: npm install --no-save axe-core", _REQUIRED)
    return pathlib.Path(path).read_text()


def _violations(browser: Chrome, served: Served, look: str) -> list[str]:
    """Return the serious violations of the page. The admin around an embedded page is not this project's."""
    emulate(browser, dark=look == "dark", phone=look == "phone")
    found = browser.execute_async_script(_RUN, ".pq" if served.is_embedded else "html", _LOOKS[look])
    assert found["passes"] > 0
    return [f"{look}: {one}" for one in found["violations"]]


def test_no_page_is_hard_to_use_for_people_with_disabilities(browser: Chrome, served: Served, axe: str) -> None:
    """In light, in dark and on a phone, in each host."""
    visit(browser, served)
    found = {}
    for name, page in (PAGES | make_states(served.engine)).items():
        visit(browser, served, page)
        browser.execute_cdp_cmd("Runtime.evaluate", {"expression": axe})
        if violations := [one for look in _LOOKS for one in _violations(browser, served, look)]:
            found[name] = violations
    assert found == {}
