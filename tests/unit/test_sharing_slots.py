"""How the free slots of a limit are divided among its keys."""

from __future__ import annotations

import pytest

from procrastinate.core.rates import RateTerms
from procrastinate.core.share import HEAVIEST, KeyState, LimitTerms, share_out


def keys(**held: int) -> list[KeyState]:
    return [KeyState(key=key, held=number) for key, number in held.items()]


@pytest.mark.parametrize(
    ("terms", "held", "at_most", "shares"),
    [
        (LimitTerms(concurrency=2), {"a": 0, "b": 1, "c": 2, "d": 5}, 100, {"a": 2, "b": 1}),
        (LimitTerms(total=4), {"a": 0, "b": 0}, 100, {"a": 2, "b": 2}),
        (LimitTerms(total=5), {"big": 3, "small": 0}, 100, {"small": 2}),
        (LimitTerms(total=3), {"a": 3, "b": 0}, 100, {}),
        (LimitTerms(total=2), {"a": 5}, 100, {}),
        (LimitTerms(concurrency=1, total=2), {"a": 0, "b": 0, "c": 0}, 100, {"a": 1, "b": 1}),
        (LimitTerms(concurrency=10), {"a": 0, "b": 0}, 3, {"a": 2, "b": 1}),
        (LimitTerms(concurrency=1), {}, 100, {}),
    ],
)
def test_each_slot_goes_to_the_key_that_has_the_fewest(
    terms: LimitTerms, held: dict[str, int], at_most: int, shares: dict[str, int]
) -> None:
    assert share_out(terms, keys(**held), held_in_all=sum(held.values()), at_most=at_most).by_key == shares


def test_a_key_gets_no_more_than_the_room_of_its_rates() -> None:
    found = [KeyState(key="a", held=0, room=1), KeyState(key="b", held=2, room=-1), KeyState(key="c", held=3)]
    assert share_out(LimitTerms(), found, held_in_all=5, at_most=4).by_key == {"a": 1, "c": 3}


def test_a_heavy_job_whose_turn_it_is_is_not_passed_by_the_keys_that_have_more() -> None:
    found = [KeyState(key="heavy", held=0, weight=3), KeyState(key="light", held=1)]
    shares = share_out(LimitTerms(total=4), found, held_in_all=2, at_most=100)
    assert (shares.by_key, shares.awaited) == ({}, 3)
    shares = share_out(LimitTerms(total=4), found, held_in_all=1, at_most=100)
    assert (shares.by_key, shares.awaited) == ({"heavy": 3}, 1)


def test_a_heavy_job_that_waits_for_its_own_key_does_not_hold_up_the_others() -> None:
    found = [KeyState(key="heavy", held=0, weight=3, room=2), KeyState(key="light", held=1)]
    assert share_out(LimitTerms(total=5), found, held_in_all=3, at_most=100).by_key == {"light": 2}


def test_the_smallest_number_of_a_limit_is_its_largest_weight() -> None:
    assert LimitTerms(concurrency=5, total=9, rates=(RateTerms(7, 1), RateTerms(3, 9)), capacity=1).heaviest == 3
    assert LimitTerms(is_fair=True, capacity=4).heaviest == HEAVIEST
