"""Tasks of a Celery project as steps of a workflow."""

from __future__ import annotations

import datetime
import decimal
import sys
import types
from typing import Any

import pytest

from procrastinate import App
from procrastinate.contrib.celery import CeleryTasks, NotSupported
from procrastinate.exceptions import InvalidWorkflow
from procrastinate.testing import InMemoryConnector
from tests.documentation.blocks import blocks_of


@pytest.fixture(params=["in memory", "PostgreSQL"])
def tasks(request: pytest.FixtureRequest) -> CeleryTasks:
    """An app of the project, which keeps results."""
    connector: Any = InMemoryConnector()
    if request.param == "PostgreSQL":
        connector = request.getfixturevalue("database_url")
    return CeleryTasks(App(connector=connector), store_results=True)


def run(tasks: CeleryTasks, workflow: Any) -> str:
    """Store a workflow, run its jobs, and return its state."""
    with tasks.app.open():
        workflow_id = workflow.defer()
        tasks.app.run_worker(wait=False, install_signal_handlers=False, listen_notify=False)
        return str(tasks.app.workflows.get(workflow_id).state)


def test_a_chain_passes_results_on_by_position_and_by_name(tasks: CeleryTasks) -> None:
    seen = []

    @tasks.task
    def add(x: int, y: int) -> int:
        return x + y

    @tasks.task
    def publish(total: int, /, *, where: str) -> None:
        seen.append((total, where))

    wf = tasks.app.workflow("sum")
    first = wf.add(add.as_step(1, 2))
    second = wf.add(add.as_step(first.value, y=10))
    wf.add(publish.as_step(second.value, where="here"))
    assert run(tasks, wf) == "succeeded"
    assert seen == [(13, "here")]


def test_a_chord_gets_the_results_of_its_group(tasks: CeleryTasks) -> None:
    seen = []

    @tasks.task
    def square(number: int) -> int:
        return number**2

    @tasks.task
    def total(numbers: list[int], label: str) -> None:
        seen.append((numbers, label))

    wf = tasks.app.workflow("squares")
    squares = wf.group("squares")
    squares.add_many(square, [{"number": 1}, {"number": 2}])
    squares.add(square.as_step(3))
    wf.add(total, numbers=squares.values, label="three")
    assert run(tasks, wf) == "succeeded"
    assert seen == [([1, 4, 9], "three")]


def test_values_that_celerys_json_carries_reach_the_next_step(tasks: CeleryTasks) -> None:
    seen = []

    @tasks.task
    def price(on: datetime.date) -> dict[str, Any]:
        return {"on": on, "amount": decimal.Decimal("1.50")}

    @tasks.task
    def charge(prices: list[Any]) -> None:
        seen.extend(prices)

    wf = tasks.app.workflow("prices")
    first = wf.add(price.as_step(datetime.date(2030, 1, 2)))
    wf.add(charge.as_step([first.value]))
    assert run(tasks, wf) == "succeeded"
    assert seen == [{"on": datetime.date(2030, 1, 2), "amount": decimal.Decimal("1.50")}]


def test_a_step_retries_itself_and_a_bound_one_adds_steps(tasks: CeleryTasks) -> None:
    seen = []

    @tasks.task
    def note(text: str) -> None:
        seen.append(text)

    @tasks.task(bind=True)
    def crawl(self: Any, page: str) -> None:
        if self.request.retries == 0:
            raise self.retry(countdown=0)
        self.request.context.workflow.add(note.as_step(page))

    wf = tasks.app.workflow("crawl")
    step = wf.add(crawl.as_step("home"), expands=True)
    wf.add(note.as_step("done"), after=[step])
    assert run(tasks, wf) == "succeeded"
    assert seen == ["home", "done"]


def test_a_step_of_a_task_that_fails_runs_the_callback(tasks: CeleryTasks) -> None:
    seen = []

    @tasks.task
    def fail() -> None:
        raise ValueError("no")

    @tasks.task(bind=True)
    def tell(self: Any, what: str) -> None:
        (failed,) = self.request.context.workflow.failed()
        seen.append((what, failed.step, failed.message))

    wf = tasks.app.workflow("failing")
    wf.add(fail)
    wf.on_failure(tell.as_step("look"))
    assert run(tasks, wf) == "failed"
    assert seen == [("look", "fail", "no")]


def test_the_workflows_of_the_page_give_what_the_canvas_gave(
    monkeypatch: pytest.MonkeyPatch, database_url: str
) -> None:
    shop = types.ModuleType("shop.celery")
    shop.procrastinate_app = App(connector=database_url)  # type: ignore[attr-defined]
    tasks = CeleryTasks(shop.procrastinate_app)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "shop", types.ModuleType("shop"))
    monkeypatch.setitem(sys.modules, "shop.celery", shop)
    (block,) = (one for one in blocks_of("docs/from-celery.md") if one.path == "shop/sums.py")
    with tasks.app.open():
        names: dict[str, Any] = {"__name__": "shop.sums"}
        exec(compile(block.text, "shop/sums.py", "exec"), names)
        tasks.app.run_worker(wait=False, install_signal_handlers=False, listen_notify=False)
        values = [tasks.AsyncResult(str(names[name].job_id)).get(timeout=5) for name in ("second", "last")]
    assert values == [13, 90]


def test_what_cannot_be_a_step_is_refused_where_it_is_written() -> None:
    tasks = CeleryTasks(App(connector=InMemoryConnector()))

    @tasks.task
    def add(x: int, y: int) -> int:
        return x + y

    @tasks.task(expires=60)
    def soon() -> None: ...

    wf = tasks.app.workflow("refused")
    with pytest.raises(TypeError, match=r"write add\(task\.as_step\(value\)\)"):
        wf.add(add, 1, 2)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="missing a required argument: 'y'"):
        wf.add(add, x=1)
    with pytest.raises(TypeError, match="too many positional arguments"):
        add.as_step(1, 2, 3)
    with pytest.raises(NotSupported, match="declare a task without expires"):
        wf.add(soon)
    step = wf.add(add.as_step(1, 2))
    with pytest.raises(InvalidWorkflow, match="has no value"):
        add.as_step(step.value, 1)
