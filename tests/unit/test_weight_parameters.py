"""The weight of a job, as a task declares it and as ``configure`` gives it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from procrastinate import App, Limit, Rate
from procrastinate._job_checks import to_new_job
from procrastinate.testing import InMemoryConnector


@pytest.fixture
def app() -> App:
    return App(connector=InMemoryConnector())


def weight_of(deferrer: Any, **arguments: Any) -> int | None:
    return to_new_job(deferrer.make_new_job(**arguments), json.dumps).limit_weight


def test_the_weight_of_a_call_comes_before_that_of_the_task(app: App) -> None:
    @app.task(limit=Limit("api", concurrency=5), weight=2)
    def task() -> None: ...

    assert weight_of(task.configure()) == 2
    assert weight_of(task.configure(weight=5)) == 5
    assert weight_of(task.configure(weight=1)) is None


def test_a_job_that_has_no_limit_has_no_weight(app: App) -> None:
    @app.task(limit=Limit("api", by=lambda kwargs: kwargs["key"], concurrency=5), weight=2)
    def task(key: str | None) -> None: ...

    @app.task(weight=2)
    def without_limit() -> None: ...

    assert weight_of(task.configure(), key=None) is None
    assert weight_of(task.configure(), key="k") == 2
    assert weight_of(without_limit.configure()) is None
    with pytest.raises(ValueError, match="weight=3 counts for no limit: give the task a limit="):
        without_limit.configure(weight=3)


def test_the_limit_of_a_queue_counts_the_weight_of_a_task() -> None:
    app = App(connector=InMemoryConnector(), limits=[Limit("mail", queue="mail", concurrency=3)])

    @app.task(weight=2)
    def task() -> None: ...

    assert weight_of(task.configure(queue="mail")) == 2
    with pytest.raises(ValueError, match=r"weight=4 is more than the limit 'mail' allows at once, which is 3"):
        task.configure(queue="mail", weight=4)


@pytest.mark.parametrize(
    "numbers",
    [{"concurrency": 3}, {"total": 3}, {"rate": [Rate(9, per=1), Rate(3, per=60)]}, {"total_rate": Rate(3, per=1)}],
    ids=["concurrency", "total", "rate", "total rate"],
)
def test_a_job_that_could_never_start_is_refused_at_its_declaration_and_at_its_defer(
    app: App, numbers: dict[str, Any]
) -> None:
    limit = Limit("api", concurrency=numbers.pop("concurrency", 9), **numbers)
    refused = r"weight=4 is more than the limit 'api' allows at once, which is 3. The job would never start"
    with pytest.raises(ValueError, match=refused):
        app.task(name="too heavy", limit=limit, weight=4)(lambda: None)

    task = app.task(name="task", limit=limit)(lambda: None)
    task.configure(weight=3)
    with pytest.raises(ValueError, match=refused):
        task.configure(weight=4)


@pytest.mark.parametrize(
    ("weight", "error"), [(0, ValueError), (-1, ValueError), (2**31, ValueError), (1.5, TypeError), (True, TypeError)]
)
def test_a_weight_is_a_whole_number_from_one(app: App, weight: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="weight must be"):
        app.task(name="task", weight=weight)(lambda: None)
    task = app.task(name="other", limit=Limit("api", rate=Rate(2**31 - 1, per=1)))(lambda: None)
    with pytest.raises(error, match="weight must be"):
        task.configure(weight=weight)


def test_heavy_jobs_of_a_batch_run_one_after_the_other_in_memory(app: App) -> None:
    ran = []
    limit = Limit("api", concurrency=3)
    task = app.task(name="task", limit=limit, weight=2)(lambda number: ran.append(number))
    with app.open():
        task.batch_defer({"number": 1}, {"number": 2})
        app.run_worker(wait=False)
    assert ran == [1, 2]
