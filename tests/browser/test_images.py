"""The pictures of the dashboard in the documentation. ``make images`` writes them into ``docs/images``."""

from __future__ import annotations

import os
import pathlib
import struct

import pytest
import sqlalchemy as sa
from selenium.webdriver import Chrome

from procrastinate.dashboard import Access
from tests.browser.pages import emulate, visit
from tests.dashboard import sample
from tests.dashboard.hosts import HOSTS

pytestmark = pytest.mark.browser

_IMAGES = pathlib.Path(__file__).parents[2] / "docs" / "images"
_PICTURES = {
    "dashboard-overview.png": ("", False),
    "dashboard-overview-dark.png": ("", True),
    "dashboard-job.png": ("jobs/17", False),
    "dashboard-why.png": ("jobs/1706", False),
}
"""The page of each picture, and whether it is dark."""


def _size(picture: pathlib.Path) -> tuple[int, int]:
    """Return width and height of a PNG."""
    width, height = struct.unpack(">II", picture.read_bytes()[16:24])
    return width, height


def test_the_pictures_of_the_documentation_are_taken_from_the_sample(
    browser: Chrome, database_url: str, tmp_path: pathlib.Path
) -> None:
    folder = _IMAGES if "PROCRASTINATE_TESTS_IMAGES" in os.environ else tmp_path
    engine = sa.create_engine(database_url, isolation_level="AUTOCOMMIT")
    sample.fill(engine)
    with HOSTS["wsgi"](database_url, engine) as served:
        browser.execute_cdp_cmd("Emulation.setScrollbarsHidden", {"hidden": True})
        served.set_access(Access.everything("ada"))
        for name, (page, is_dark) in _PICTURES.items():
            emulate(browser, dark=is_dark)
            visit(browser, served, page)
            browser.save_screenshot(folder / name)
    engine.dispose()
    assert {_size(folder / name) for name in _PICTURES} == {(1280, 900)}


def test_every_picture_of_the_dashboard_in_the_documentation_is_one_of_these() -> None:
    assert {path.name for path in _IMAGES.glob("dashboard-*.png")} == set(_PICTURES)
    assert {_size(path) for path in _IMAGES.glob("dashboard-*.png")} == {(1280, 900)}
