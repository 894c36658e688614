"""Numbers that users give: each option of seconds and of counts is read by one rule."""

from __future__ import annotations

import datetime
import decimal
import enum
import fractions
from collections.abc import Callable
from typing import Any

import pytest

from procrastinate import exceptions
from procrastinate.adapters.django.task_backend.options import read_options
from procrastinate.app import App
from procrastinate.core.defaults import LONGEST
from procrastinate.manager.waiting import Wait
from procrastinate.periodic import read_max_delay
from procrastinate.retry import RetryDecision, RetryStrategy
from procrastinate.worker import Worker

NAN, INFINITY = float("nan"), float("inf")


class Urgency(enum.IntEnum):
    HIGH = 7


def worker_setting(app: App, name: str) -> Callable[[Any], Any]:
    """Gives an option to a worker, and reads it back."""
    others = {"stalled_worker_timeout": INFINITY} if name == "update_heartbeat_interval" else {}
    return lambda value: getattr(Worker(app, **(others | {name: value})).settings, name)


def options_of_seconds(app: App) -> dict[str, Callable[[Any], Any]]:
    """Every option that takes seconds: what gives it a value, and returns the value that counts."""
    worker = (
        "fetch_job_polling_interval",
        "abort_job_polling_interval",
        "shutdown_graceful_timeout",
        "stalled_worker_timeout",
        "update_heartbeat_interval",
    )
    return {
        **{name: worker_setting(app, name) for name in worker},
        "max_delay": lambda value: read_max_delay(max_delay=value),
        "timeout of a task": lambda value: app.task(name=f"timed {len(app.tasks)}", timeout=value)(print).timeout,
        "timeout of a wait": lambda value: Wait(1, value)._timeout,
        "timeout of the backend": lambda value: read_options({"timeout": value}) and value,
        "max_wait": lambda value: RetryStrategy(max_wait=value).max_wait,
    }


NAMES = sorted(options_of_seconds(App(connector="postgresql://nowhere")))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", ["5", b"5", True, datetime.timedelta(seconds=40), [40], 40j])
def test_what_is_no_number_of_seconds_is_refused(app: App, name: str, value: Any) -> None:
    with pytest.raises(TypeError, match="must be a number of seconds"):
        options_of_seconds(app)[name](value)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [NAN, -1, -INFINITY, decimal.Decimal("NaN")])
def test_seconds_that_are_no_time_are_refused(app: App, name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=r"must be (more than )?0 seconds"):
        options_of_seconds(app)[name](value)


@pytest.mark.parametrize(
    "name", [name for name in NAMES if name not in ("timeout of the backend", "update_heartbeat_interval")]
)
@pytest.mark.parametrize("value", [INFINITY, 1e300, 10**400], ids=["infinity", "a float", "an int"])
def test_no_end_is_a_time_that_fits_everywhere(app: App, name: str, value: Any) -> None:
    assert options_of_seconds(app)[name](value) == LONGEST


@pytest.mark.parametrize("value", [40, 40.5, decimal.Decimal("40.5"), fractions.Fraction(81, 2)])
def test_any_kind_of_number_counts_as_seconds(app: App, value: Any) -> None:
    for read in options_of_seconds(app).values():
        assert read(value) == value


def test_a_timedelta_is_refused_with_the_way_out(app: App) -> None:
    with pytest.raises(TypeError, match=r"write \.total_seconds\(\)"):
        app.task(name="timed", timeout=datetime.timedelta(seconds=5))(print)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["wait", "linear_wait", "exponential_wait", "jitter"])
@pytest.mark.parametrize("value", ["5", True, NAN, INFINITY, None])
def test_a_wait_that_fails_at_each_retry_is_refused_at_the_declaration(name: str, value: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=f"{name} must be a"):
        RetryStrategy(**{name: value})


@pytest.mark.parametrize("value", [ValueError, [ValueError, "KeyError"], ["ValueError"]])
def test_retry_exceptions_that_are_no_classes_are_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="retry_exceptions takes"):
        RetryStrategy(retry_exceptions=value)


def test_retry_exceptions_from_a_generator_hold_for_every_job() -> None:
    strategy = RetryStrategy(retry_exceptions=(one for one in [ValueError]))
    assert strategy.retry_exceptions == (ValueError,)


@pytest.mark.parametrize("options", [{"priority": "high"}, {"priority": True}, {"queue": ""}, {"lock": 5.5}])
def test_a_retry_to_where_no_job_can_be_is_refused_where_it_is_decided(options: dict[str, Any]) -> None:
    with pytest.raises(exceptions.InvalidJob):
        RetryDecision(**options)


def test_true_is_no_priority(app: App) -> None:
    with pytest.raises(exceptions.InvalidJob, match=r"priority must be a whole number .* not True"):
        app.task(name="urgent", priority=True)(print)


def test_a_priority_may_be_an_enum_of_numbers(app: App) -> None:
    assert app.task(name="urgent", priority=Urgency.HIGH)(lambda: None).configure().job.priority == 7


@pytest.mark.parametrize("value", [{"seconds": NAN}, {"seconds": INFINITY}, {"days": 10**12}, {"seconds": "5"}, 5, "5"])
def test_a_schedule_in_that_is_no_time_is_refused_by_name(app: App, value: Any) -> None:
    task = app.task(name="later")(lambda: None)
    with pytest.raises((TypeError, ValueError), match=r"^schedule_in="):
        task.configure(schedule_in=value)
