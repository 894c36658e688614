"""What a defer does about taken queueing locks and unique keys, without a database."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from procrastinate import core, exceptions
from procrastinate.core.tries import Tries
from procrastinate.types import OnConflict
from tests.database import new_job

UNIQUE = core.UniqueJob(job=new_job(), unique=core.UniqueKey(key="k", until="end"))


def _answer(tries: Tries[list[int]], *answers: Any) -> tuple[list[int], list[Callable[..., Any]]]:
    """Return the ids and the operations, each of which gives the next answer."""
    ran = [next(tries).operation]
    try:
        for answer in answers:
            ran.append(tries.send(answer).operation)
    except StopIteration as end:
        return end.value, ran
    raise AssertionError(f"{ran} were not all")


@pytest.mark.parametrize(
    ("on_conflict", "for_one", "for_two"),
    [
        ("raise", core.defer_job, core.defer_jobs_or_none),
        ("skip", core.defer_job_or_skip, core.defer_jobs_or_skip),
        ("replace", core.defer_jobs_or_replace, core.defer_jobs_or_replace),
    ],
)
def test_the_operation_depends_on_the_conflict_and_the_number(
    on_conflict: OnConflict, for_one: Any, for_two: Any
) -> None:
    one, two = [new_job(queueing_lock="q")], [new_job(queueing_lock="q"), new_job()]
    given = [7] if for_one is core.defer_jobs_or_replace else 7
    assert _answer(core.tries_to_defer(one, on_conflict), given) == ([7], [for_one])
    assert _answer(core.tries_to_defer(two, on_conflict), [7, 8]) == ([7, 8], [for_two])


@pytest.mark.parametrize("on_conflict", ["raise", "skip", "replace"])
def test_jobs_without_a_queueing_lock_are_only_inserted(on_conflict: OnConflict) -> None:
    assert _answer(core.tries_to_defer([new_job()], on_conflict), 7) == ([7], [core.defer_job])
    assert _answer(core.tries_to_defer([new_job()] * 2, on_conflict), [7, 8]) == ([7, 8], [core.defer_jobs])


def test_the_only_queueing_lock_is_named_without_a_look() -> None:
    with pytest.raises(exceptions.AlreadyEnqueued, match="the queueing lock 'q'"):
        _answer(core.tries_to_defer([new_job(queueing_lock="q")], "raise"), None)


def test_a_taken_lock_of_several_is_looked_up() -> None:
    tries = core.tries_to_defer([new_job(queueing_lock="q"), new_job(queueing_lock="r")], "raise")
    with pytest.raises(exceptions.AlreadyEnqueued, match="the queueing lock 'r'"):
        _answer(tries, None, "r")


def test_a_unique_job_gets_a_savepoint_only_if_it_needs_one() -> None:
    done = core.UniqueDefer(ids=(7,))
    assert _answer(core.tries_to_defer_unique([UNIQUE], "raise"), done) == ([7], [core.defer_unique_job])
    unsafe = core.UniqueDefer(needs_savepoint=True)
    both = [core.defer_unique_job, core.defer_unique_jobs]
    assert _answer(core.tries_to_defer_unique([UNIQUE], "raise"), unsafe, done) == ([7], both)


def test_a_held_key_is_named() -> None:
    held = core.UniqueDefer(taken=core.TakenKey(key="k", job_id=3, until="end"))
    with pytest.raises(exceptions.AlreadyEnqueued, match="Job 3 holds the unique key") as caught:
        _answer(core.tries_to_defer_unique([UNIQUE], "raise"), held)
    assert caught.value.job_id == 3
