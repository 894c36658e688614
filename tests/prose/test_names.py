"""Each name of a test is a sentence that stands alone in a list of failures."""

from __future__ import annotations

import pytest

from tests.prose import names


def test_no_name_of_a_test_goes_on_from_the_test_before_it() -> None:
    found = list(names.names_of_tests())
    assert len(found) > 1000
    assert [(file, name) for file, name in found if names.goes_on(name)] == []


@pytest.mark.parametrize(
    "name", ["test_and_not_twice", "test_it_listens", "test_unless_told", "test_nor", "test_its_repr"]
)
def test_a_name_that_begins_with_a_word_that_goes_on_is_found(name: str) -> None:
    assert names.goes_on(name)


@pytest.mark.parametrize("name", ["test_items_are_counted", "test_an_order", "test_android", "test_oracle"])
def test_a_name_whose_first_word_only_looks_alike_is_left_alone(name: str) -> None:
    assert not names.goes_on(name)
