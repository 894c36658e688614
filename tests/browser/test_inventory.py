"""The inventory of the demo's shop: a workflow, and the page that shows its progress."""

from __future__ import annotations

import httpx
import pytest

from tests.browser.conftest import Shop

pytestmark = pytest.mark.browser


def test_the_page_of_an_inventory_shows_its_progress(shop: Shop) -> None:
    with httpx.Client(base_url=shop.url, follow_redirects=True) as visitor:
        answer = visitor.post("/inventory/")
        page = str(answer.url)
        assert "Running: 0 of 41 steps succeeded" in answer.text
        assert 'http-equiv="refresh"' in answer.text
        shop.run_worker()
        text = visitor.get(page).text
        assert "Succeeded: 41 of 41 steps succeeded" in text
        assert "<td>shelves</td><td>succeeded</td><td>40 of 40</td>" in text
        assert "refresh" not in text
        assert visitor.get("/inventory/999/").status_code == 404
