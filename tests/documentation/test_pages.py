"""Every block of every page is tried, or listed with the test that tries it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from docs.search_words import WORDS, with_entries
from tests.documentation.blocks import ROOT, blocks_of, commands_of, pages
from tests.documentation.elsewhere import PROVED_ELSEWHERE
from tests.documentation.instead import INSTEAD
from tests.documentation.reader import Reader, is_for_a_reader
from tests.documentation.test_alembic_page import PAGE as ALEMBIC
from tests.documentation.test_testing_page import PAGES as TESTING
from tests.documentation.test_tutorials import DEPLOYED, TOGETHER, TUTORIALS
from tests.documentation.test_view_page import PAGE as VIEW
from tests.documentation.test_worker_in_fastapi_page import PAGE as WORKER_IN_FASTAPI

pytestmark = pytest.mark.timeout(300)

MOVING = "docs/moving-in.md"
"""Its tests are in tests/moving."""
WITH_TESTS_OF_THEIR_OWN = {
    ALEMBIC,
    *TESTING,
    MOVING,
    VIEW,
    WORKER_IN_FASTAPI,
    *TUTORIALS,
    *TOGETHER,
    *DEPLOYED.values(),
}
OTHERS = [
    page
    for page in pages()
    if page not in WITH_TESTS_OF_THEIR_OWN and any(is_for_a_reader(block) for block in blocks_of(page))
]


@pytest.mark.parametrize("page", OTHERS)
def test_a_page_works_as_it_says(page: str, new_reader: Callable[[str], Reader]) -> None:
    new_reader(page).follow(page)


@pytest.mark.parametrize("page", pages())
def test_a_page_has_no_more_than_15_000_characters(page: str) -> None:
    """A longer one is searched, and not read."""
    assert len((ROOT / page).read_text()) <= 15_000


@pytest.mark.parametrize("page", WORDS)
def test_the_words_of_the_search_stand_under_headings_that_exist(page: str) -> None:
    text = (ROOT / "docs" / f"{page}.md").read_text()
    assert with_entries(page, text).count("```{index}") == len(WORDS[page])


def test_pages_with_tests_of_their_own_are_there() -> None:
    assert set(pages()) >= WITH_TESTS_OF_THEIR_OWN


def test_what_is_proved_elsewhere_is_still_there() -> None:
    for listed in PROVED_ELSEWHERE:
        assert any(listed.is_about(block) for block in blocks_of(listed.page)), listed
        assert (ROOT / listed.test).exists(), listed


def test_what_is_not_run_is_still_in_the_pages() -> None:
    blocks = [block for page in pages() for block in blocks_of(page) if block.language == "console"]
    commands = [command.text for block in blocks for command in commands_of(block)]
    for instead in INSTEAD:
        assert any(instead.is_about(command) for command in commands), instead
