"""What a rate may be."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from procrastinate import JobContext, Limit, Rate, testing
from procrastinate.app import App
from procrastinate.core import LimitDefinition, RateTerms
from procrastinate.core.rates import read_rates, write_rates
from procrastinate.jobs import Job


@pytest.mark.parametrize("per", [60, 60.0, {"minutes": 1}, datetime.timedelta(minutes=1)])
def test_the_window_is_a_number_of_seconds_or_a_time(per: Any) -> None:
    assert Rate(5, per=per) == Rate(5, per=60.0)
    assert Rate(5, per=per).terms == RateTerms(5, 60.0)


@pytest.mark.parametrize(
    ("count", "per"),
    [(0, 1), (1.5, 1), (True, 1), (2**31, 1), (1, 0), (1, -1), (1, "1"), (1, {"x": 1}), (1, float("nan")), (1, 1e9)],
)
def test_what_is_no_rate_is_refused_by_name(count: Any, per: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="of Rate"):
        Rate(count, per=per)


@pytest.mark.parametrize("rate", [10, [], [10], "10/1", (Rate(1, per=1), None)])
def test_a_limit_takes_rates_alone(rate: Any) -> None:
    with pytest.raises(TypeError, match="rate must be a Rate or a list of rates"):
        Limit("l", rate=rate)


def test_a_limit_with_a_list_of_rates_can_be_shared() -> None:
    limit = Limit("l", rate=[Rate(10, per=1), Rate(1000, per=3600)], total_rate=Rate(50, per=1))
    assert limit.definition.rates == (RateTerms(10, 1.0), RateTerms(1000, 3600.0))
    assert limit.definition.total_rates == (RateTerms(50, 1.0),)
    assert hash(limit) == hash(Limit("l", rate=(Rate(10, per=1), Rate(1000, per=3600)), total_rate=Rate(50, per=1)))


def test_two_limits_of_one_name_with_different_rates_are_refused() -> None:
    app = App(connector=testing.InMemoryConnector(), limits=[Limit("l", rate=Rate(1, per=1), queue="a")])
    with pytest.raises(ValueError, match="defined twice with different numbers"):
        app.task(name="t", limit=Limit("l", rate=Rate(2, per=1)))(print)


def test_rates_are_read_as_they_were_written() -> None:
    rates = (RateTerms(1, 0.001), RateTerms(10, 86400.0))
    assert read_rates(write_rates(rates)) == rates
    assert write_rates(()) is None


@pytest.mark.parametrize("seconds", [0, -1, "30", None, True, {"hour": 1}, float("nan"), 367 * 86400])
def test_a_hold_off_needs_a_time_above_zero(seconds: Any) -> None:
    job = Job(id=1, queue="q", lock=None, queueing_lock=None, task_name="t", limit_name="l", limit_key="k")
    context = JobContext(app=App(connector=testing.InMemoryConnector()), job=job)
    with pytest.raises((TypeError, ValueError), match=r"seconds of hold_off\(\)"):
        context.hold_off(seconds)


def test_a_fair_limit_needs_keys_and_no_number() -> None:
    assert Limit("l", by="k", fair=True).definition == LimitDefinition(name="l", fair=True)
    with pytest.raises(ValueError, match="'l' has no keys that could take turns: give it by="):
        Limit("l", fair=True)
    with pytest.raises(TypeError, match="fair of the limit 'l' must be True or False"):
        Limit("l", by="k", fair=1)  # type: ignore[arg-type]


def test_a_one_shot_worker_in_memory_runs_the_jobs_in_line() -> None:
    app = App(connector=testing.InMemoryConnector())
    ran = []

    @app.task(limit=Limit("mail", concurrency=1))
    def work(number: int) -> None:
        ran.append(number)

    with app.open():
        work.batch_defer({"number": 1}, {"number": 2})
        app.run_worker(wait=False)
    assert ran == [1, 2]


def test_the_jobs_of_a_test_run_under_the_limits_of_the_app() -> None:
    app = App(connector=testing.InMemoryConnector())
    ran = []

    @app.task(limit=Limit("mail", concurrency=1))
    def work(number: int) -> None:
        ran.append(number)

    with app.open(), testing.Jobs(app) as jobs:
        work.batch_defer({"number": 1}, {"number": 2})
        jobs.run()
    assert ran == [1, 2]
