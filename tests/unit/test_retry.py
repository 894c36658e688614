"""Retry strategies decide if, when and in which queue a job runs again."""

from __future__ import annotations

import asyncio
import datetime
import random
import warnings
from typing import Any

import pytest

from procrastinate import exceptions
from procrastinate._checks.times import UTC_MAX, utcnow
from procrastinate.app import App
from procrastinate.jobs import Job
from procrastinate.retry import BaseRetryStrategy, RetryDecision, RetryStrategy, get_retry_strategy
from tests.unit.recording import make_job

ERROR = ValueError("Nope")


def seconds(strategy: BaseRetryStrategy, attempts: int) -> float | None:
    """Return the seconds that the strategy waits after `attempts` earlier runs."""
    decision = strategy.get_retry_decision(exception=ERROR, job=make_job(attempts=attempts))
    assert decision is not None
    return decision.seconds


@pytest.mark.parametrize(
    ("options", "waits"),
    [
        ({}, [0, 0, 0]),
        ({"wait": 5}, [5, 5, 5]),
        ({"linear_wait": 3}, [0, 3, 6]),
        ({"exponential_wait": 4}, [4, 16, 64]),
        ({"wait": 5, "linear_wait": 3, "exponential_wait": 2}, [7, 12, 19]),
    ],
)
def test_the_wait_grows_with_the_attempts(options: dict[str, Any], waits: list[int]) -> None:
    assert [seconds(RetryStrategy(**options), attempts) for attempts in range(3)] == waits


def test_after_max_attempts_there_is_no_retry() -> None:
    strategy = RetryStrategy(max_attempts=2)
    decisions = [
        strategy.get_retry_decision(exception=ERROR, job=make_job(attempts=attempts)) is not None
        for attempts in range(4)
    ]
    assert decisions == [True, True, False, False]


def test_without_max_attempts_it_goes_on() -> None:
    assert seconds(RetryStrategy(), attempts=1_000_000) == 0


@pytest.mark.parametrize(
    ("error", "retried"), [(ValueError(), True), (UnicodeError(), True), (KeyError(), False), (SystemExit(), False)]
)
def test_only_some_exceptions_are_retried(error: BaseException, retried: bool) -> None:
    strategy = RetryStrategy(retry_exceptions={ValueError})
    assert (strategy.get_retry_decision(exception=error, job=make_job()) is not None) is retried


@pytest.mark.parametrize("error", [SystemExit(), KeyboardInterrupt(), asyncio.CancelledError()])
def test_every_exception_is_retried_by_default(error: BaseException) -> None:
    assert RetryStrategy().get_retry_decision(exception=error, job=make_job()) is not None


@pytest.mark.parametrize(
    ("options", "attempts"),
    [
        ({"exponential_wait": 10}, 400),
        ({"exponential_wait": 2.5}, 10_000),
        ({"linear_wait": 10**9}, 10**6),
        ({"wait": 10**20}, 0),
    ],
)
def test_a_wait_that_overflows_is_the_end_of_time_and_not_a_lost_job(options: dict[str, Any], attempts: int) -> None:
    decision = RetryStrategy(**options).get_retry_decision(exception=ERROR, job=make_job(attempts=attempts))
    assert decision is not None
    assert decision.retry_at == UTC_MAX
    assert (decision.fixed_retry_at, decision.seconds) == (UTC_MAX, None)


@pytest.mark.parametrize(
    ("options", "waits"),
    [
        ({"wait": 5, "max_wait": 3}, [3, 3, 3]),
        ({"exponential_wait": 4, "max_wait": 20}, [4, 16, 20]),
        ({"linear_wait": 3, "max_wait": 4.5}, [0, 3, 4.5]),
        ({"exponential_wait": 4, "max_wait": 0}, [0, 0, 0]),
    ],
)
def test_max_wait_bounds_the_wait(options: dict[str, Any], waits: list[float]) -> None:
    assert [seconds(RetryStrategy(**options), attempts) for attempts in range(3)] == waits


@pytest.mark.parametrize("base", [10, 2.5], ids=["a whole number", "a float"])
@pytest.mark.parametrize("jitter", [0, 0.5])
def test_max_wait_bounds_a_wait_that_overflows(base: Any, jitter: float) -> None:
    strategy = RetryStrategy(exponential_wait=base, max_wait=60, jitter=jitter, uniform=lambda low, high: high)
    assert seconds(strategy, attempts=10_000) == 60


def test_jitter_spreads_the_wait_around_what_it_would_be() -> None:
    ends: list[tuple[float, float]] = []

    def uniform(low: float, high: float) -> float:
        ends.append((low, high))
        return 9.0

    assert seconds(RetryStrategy(wait=8, jitter=0.25, uniform=uniform), attempts=0) == 9
    assert ends == [(6, 10)]


def test_jitter_stays_under_max_wait_and_does_not_gather_there() -> None:
    strategy = RetryStrategy(wait=8, jitter=0.25, max_wait=8, uniform=random.Random(1).uniform)
    waits = [seconds(strategy, attempts=0) or 0.0 for _ in range(200)]
    assert 6 <= min(waits) < 6.1 < 7.9 < max(waits) <= 8
    assert len(set(waits)) == len(waits)


def test_a_seed_repeats_the_jitter() -> None:
    first, second = (
        [seconds(strategy, attempts) for attempts in range(5)]
        for strategy in (RetryStrategy(wait=8, jitter=1, uniform=random.Random(7).uniform) for _ in range(2))
    )
    assert first == second
    assert all(wait is not None and 0 <= wait <= 16 for wait in first)


def test_no_wait_is_negative() -> None:
    assert seconds(RetryStrategy(wait=-5), attempts=0) == 0
    assert seconds(RetryStrategy(wait=-5, jitter=1), attempts=0) == 0


def test_jitter_of_a_wait_that_overflows_loses_no_job() -> None:
    strategy = RetryStrategy(exponential_wait=10, jitter=1, uniform=lambda low, high: high)
    decision = strategy.get_retry_decision(exception=ERROR, job=make_job(attempts=400))
    assert decision is not None
    assert decision.retry_at == UTC_MAX


@pytest.mark.parametrize("jitter", [-0.1, 1.1, float("nan")])
def test_a_jitter_that_is_no_fraction_is_refused_by_name(jitter: float) -> None:
    with pytest.raises(ValueError, match=r"jitter must be a f(raction from 0 to 1|inite number)"):
        RetryStrategy(jitter=jitter)


@pytest.mark.parametrize("max_wait", [-1, float("nan")])
def test_a_max_wait_that_is_no_wait_is_refused_by_name(max_wait: float) -> None:
    with pytest.raises(ValueError, match="max_wait must be 0 seconds or more"):
        RetryStrategy(max_wait=max_wait)


@pytest.mark.parametrize("name", ["max_wait", "jitter"])
@pytest.mark.parametrize("wrong", ["1", True])
def test_what_is_no_number_is_refused_by_name(name: str, wrong: Any) -> None:
    with pytest.raises(TypeError, match=f"{name} must be"):
        RetryStrategy(**{name: wrong})


def test_strategies_with_the_same_jitter_are_equal() -> None:
    assert RetryStrategy(jitter=0.5) == RetryStrategy(jitter=0.5, uniform=random.Random(1).uniform)
    assert repr(RetryStrategy(jitter=0.5)).endswith("max_wait=None, jitter=0.5)")


def test_a_retry_in_takes_a_timedelta() -> None:
    assert RetryDecision(retry_in=datetime.timedelta(minutes=1)).seconds == 60


def test_a_wait_is_left_to_the_clock_of_the_database() -> None:
    decision = RetryDecision(retry_in={"minutes": 1, "seconds": 5})
    assert (decision.fixed_retry_at, decision.seconds) == (None, 65)
    assert abs(decision.retry_at - utcnow() - datetime.timedelta(seconds=65)) < datetime.timedelta(seconds=5)


def test_a_fixed_time_is_kept() -> None:
    noon = datetime.datetime(2030, 1, 1, 12, tzinfo=datetime.UTC)
    decision = RetryDecision(retry_at=noon, priority=7, queue="slow", lock="one")
    assert (decision.retry_at, decision.fixed_retry_at, decision.seconds) == (noon, noon, None)
    assert (decision.priority, decision.queue, decision.lock) == (7, "slow", "one")


def test_without_a_time_it_is_at_once() -> None:
    decision = RetryDecision()
    assert decision.seconds == 0
    assert (decision.priority, decision.queue, decision.lock) == (None, None, None)


def test_two_times_are_refused() -> None:
    with pytest.raises(ValueError, match="not both"):
        RetryDecision(retry_at=utcnow(), retry_in={"seconds": 1})


def test_a_naive_time_is_refused() -> None:
    with pytest.raises(ValueError, match="retry_at must be an aware datetime"):
        RetryDecision(retry_at=datetime.datetime(2030, 1, 1))


def test_a_custom_strategy_decides() -> None:
    class OnceMore(BaseRetryStrategy):
        def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision | None:
            return RetryDecision(queue="second") if job.attempts == 0 else None

    raised = OnceMore().get_retry_exception(ERROR, make_job())
    assert isinstance(raised, exceptions.JobRetry)
    assert raised.retry_decision.queue == "second"
    assert OnceMore().get_retry_exception(ERROR, make_job(attempts=1)) is None


def test_a_strategy_of_the_old_style_works_and_is_deprecated() -> None:
    class OldStyle(BaseRetryStrategy):
        def get_schedule_in(self, *, exception: BaseException, attempts: int) -> int | None:
            return 10 * attempts if attempts else None

    with pytest.warns(DeprecationWarning, match="get_retry_decision"):
        assert seconds(OldStyle(), attempts=3) == 30
    with pytest.warns(DeprecationWarning, match="get_retry_decision"):
        assert OldStyle().get_retry_decision(exception=ERROR, job=make_job()) is None


def test_a_strategy_that_decides_nothing_says_what_is_missing() -> None:
    with pytest.raises(NotImplementedError, match="get_retry_decision"):
        BaseRetryStrategy().get_retry_decision(exception=ERROR, job=make_job())


def test_the_new_style_warns_of_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        RetryStrategy(wait=1).get_retry_decision(exception=ERROR, job=make_job())


def test_what_retry_takes() -> None:
    strategy = RetryStrategy(wait=3)
    assert get_retry_strategy(strategy) is strategy
    assert get_retry_strategy(True) == RetryStrategy(max_attempts=None)
    assert get_retry_strategy(3) == RetryStrategy(max_attempts=3)
    assert get_retry_strategy(False) is None
    assert get_retry_strategy(0) is None


def test_anything_else_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match=r"retry= takes .* not str"):
        get_retry_strategy("often")  # type: ignore[arg-type]


@pytest.mark.parametrize(("retry", "attempts"), [(3.0, 3), (0.0, None)])
def test_a_whole_float_is_a_number_of_retries(retry: Any, attempts: int | None) -> None:
    strategy = get_retry_strategy(retry)
    assert (None if strategy is None else strategy.max_attempts) == attempts  # type: ignore[attr-defined]
    assert RetryStrategy(max_attempts=2.0).max_attempts == 2  # type: ignore[arg-type]


def test_exceptions_may_be_grouped_in_tuples() -> None:
    strategy = RetryStrategy(retry_exceptions=[(ValueError, KeyError)])  # type: ignore[list-item]
    assert strategy.get_retry_decision(exception=KeyError(), job=make_job()) is not None
    assert strategy.get_retry_decision(exception=OSError(), job=make_job()) is None


class Decides:
    """A strategy that does not inherit from the base class."""

    def __init__(self, decision: Any) -> None:
        self.decision = decision

    def get_retry_exception(self, exception: BaseException, job: Job) -> Any:
        return self.decision


def test_an_object_that_acts_as_a_strategy_is_one() -> None:
    assert get_retry_strategy(Decides(None)) is not None  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="a retry strategy, not type"):
        get_retry_strategy(Decides)  # type: ignore[arg-type]


class DecidesAsync(BaseRetryStrategy):
    async def get_retry_decision(  # type: ignore[override]
        self, *, exception: BaseException, job: Job
    ) -> RetryDecision | None: ...


class TakesOthers(BaseRetryStrategy):
    def get_retry_decision(self, error: BaseException, attempts: int) -> RetryDecision | None:  # type: ignore[override]
        ...


class TakesMore:
    def get_retry_exception(self, exception: BaseException, job: Job, task: Any) -> Any: ...


@pytest.mark.parametrize(
    ("strategy", "message"),
    [
        (DecidesAsync(), "get_retry_decision of DecidesAsync must not be async"),
        (TakesOthers(), r"get_retry_decision of TakesOthers is called with \(exception=..., job=...\)"),
        (TakesMore(), r"get_retry_exception of TakesMore is called with .*missing a required argument: 'task'"),
    ],
)
def test_a_strategy_that_cannot_be_asked_is_refused_where_the_task_is_declared(
    app: App, strategy: Any, message: str
) -> None:
    with pytest.raises(TypeError, match=message):
        app.task(name="odd", retry=strategy)(lambda: None)
