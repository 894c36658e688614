"""A workflow that cannot work is refused where it is built, by name, and nothing is stored."""

from __future__ import annotations

from typing import Any

import pytest

from procrastinate.app import App
from procrastinate.exceptions import InvalidWorkflow
from procrastinate.job_context import JobContext
from procrastinate.limits import Limit
from procrastinate.locks import by_arguments
from procrastinate.testing import InMemoryConnector
from tests.workflows.tasks import Notes, declare


@pytest.fixture
def app() -> App:
    return App(connector=InMemoryConnector())


@pytest.fixture
def tasks(app: App) -> Notes:
    return declare(app)


def refused(message: str) -> Any:
    return pytest.raises(InvalidWorkflow, match=message)


def test_a_step_of_another_workflow_is_refused(app: App, tasks: Notes) -> None:
    stranger = app.workflow("other").add(tasks.note, step="stranger")
    with refused("Step 'mine' waits for 'stranger', which is no step of workflow 'import'"):
        app.workflow("import").add(tasks.note, after=[stranger], step="mine")


def test_an_unknown_name_is_refused(app: App, tasks: Notes) -> None:
    with refused("waits for 'nothing'"):
        app.workflow("import").add(tasks.note, after=["nothing"])


def test_a_step_can_be_named_instead_of_given(app: App, tasks: Notes) -> None:
    wf = app.workflow("import")
    wf.add(tasks.note, step="first")
    assert wf.add(tasks.note, after=["first"]).name == "note"


def test_a_text_for_after_is_refused(app: App, tasks: Notes) -> None:
    wf = app.workflow("import")
    wf.add(tasks.note, step="first")
    with refused(r"write after=\['first'\]"):
        wf.add(tasks.note, after="first")


def test_a_value_of_a_task_that_stores_no_result_is_refused(app: App, tasks: Notes) -> None:
    wf = app.workflow("import")
    step = wf.add(tasks.note, step="quiet")
    with refused("Step 'quiet' has no value.*store_result=True"):
        step.value  # noqa: B018


def test_values_of_a_group_with_a_task_that_stores_no_result_are_refused(app: App, tasks: Notes) -> None:
    group = app.workflow("import").group("pages")
    group.add(tasks.note)
    with refused("'pages: note' has no value"):
        group.values  # noqa: B018


def test_a_member_without_a_result_is_refused_in_a_group_whose_values_are_used(app: App, tasks: Notes) -> None:
    wf = app.workflow("import")
    group = wf.group("pages")
    wf.add(tasks.total, numbers=group.values)
    with refused("'pages: note' has no value"):
        group.add(tasks.note)


def test_a_member_that_waits_for_its_own_group_is_refused(app: App, tasks: Notes) -> None:
    wf = app.workflow("import")
    group = wf.group("pages")
    group.add(tasks.note)
    last = wf.add(tasks.note, after=[group], step="last")
    with refused("Step 'again' would wait for its own group 'pages'"):
        group.add(tasks.note, after=[last], step="again")


def test_two_groups_that_wait_for_each_other_are_refused(app: App, tasks: Notes) -> None:
    wf = app.workflow("import")
    one, two = wf.group("one"), wf.group("two")
    one.add(tasks.note, after=[two])
    with refused("wait for its own group 'two'"):
        two.add(tasks.note, after=[one])


def test_a_name_that_is_taken_is_refused(app: App, tasks: Notes) -> None:
    wf = app.workflow("import")
    wf.add(tasks.note, step="first")
    with refused("has a step or a group 'first' already"):
        wf.add(tasks.note, step="first")
    with refused("has a step or a group 'first' already"):
        wf.group("first")


@pytest.mark.parametrize("name", ["", "a\x00b", "\ud800", "x" * 201, None, 3])
def test_a_name_that_cannot_be_stored_is_refused(app: App, tasks: Notes, name: Any) -> None:
    with refused("name of a workflow"):
        app.workflow(name)


@pytest.mark.parametrize("needs", ["", "failure", None, ["end"]])
def test_an_unknown_need_is_refused(app: App, tasks: Notes, needs: Any) -> None:
    with refused("write 'success' or 'end'"):
        app.workflow("import").add(tasks.note, needs=needs)


@pytest.mark.parametrize("delay", [-1, "1", float("nan"), float("inf"), True])
def test_an_impossible_delay_is_refused(app: App, tasks: Notes, delay: Any) -> None:
    with refused("delay"):
        app.workflow("import").add(tasks.note, delay=delay)


def test_an_unknown_rule_for_failures_is_refused(app: App) -> None:
    with refused("write 'cancel' or 'hold'"):
        app.workflow("import", if_failed="ignore")  # type: ignore[arg-type]


def test_a_queueing_lock_is_refused(app: App, tasks: Notes) -> None:
    with refused("Step 'note': task .* has a queueing lock"):
        app.workflow("import").add(tasks.note.configure(queueing_lock="once"))


def test_a_schedule_of_a_step_that_waits_is_refused(app: App, tasks: Notes) -> None:
    wf = app.workflow("import")
    first = wf.add(tasks.note.configure(schedule_in={"hours": 1}))
    with refused("write delay= instead"):
        wf.add(tasks.note.configure(schedule_in={"hours": 1}), after=[first])


def test_a_key_of_a_limit_that_is_made_of_a_result_is_refused(app: App, tasks: Notes) -> None:
    @app.task(limit=Limit("customers", by=by_arguments("customer"), concurrency=1))
    async def bill(customer: int, year: int) -> None: ...

    wf = app.workflow("import")
    first = wf.add(tasks.double, number=1)
    wf.add(bill, customer=1, year=first.value)
    with refused("its limit_key is made of its arguments"):
        wf.add(bill, customer=first.value, year=1)


def test_a_lock_of_all_arguments_is_refused_if_one_is_a_result(app: App, tasks: Notes) -> None:
    wf = app.workflow("import")
    first = wf.add(tasks.double, number=1)
    with refused("its lock is made of its arguments"):
        wf.add(tasks.note.configure(lock=by_arguments()), name=first.value)


def test_a_lock_that_is_made_of_a_result_is_refused(app: App, tasks: Notes) -> None:
    wf = app.workflow("import")
    first = wf.add(tasks.double, number=1)
    with refused("its lock is made of its arguments"):
        wf.add(tasks.double.configure(lock=by_arguments("number")), number=first.value)
    wf.add(tasks.total.configure(lock=by_arguments("more")), numbers=[first.value], more=2)


def test_a_value_under_a_key_that_json_cannot_have_is_refused(app: App, tasks: Notes) -> None:
    wf = app.workflow("import")
    value = wf.add(tasks.double, number=1).value
    with refused(r"A result stands under the key \(1, 2\), which is none in JSON"):
        wf.add(tasks.note, name={(1, 2): value})


def test_arguments_that_do_not_fit_are_refused(app: App, tasks: Notes) -> None:
    with pytest.raises(TypeError, match="colour"):
        app.workflow("import").add(tasks.note, colour="red")


def test_positional_arguments_of_a_step_are_refused_with_the_way_out(app: App, tasks: Notes) -> None:
    wf = app.workflow("import")
    adds: list[Any] = [wf.add, wf.group("members").add, wf.on_success, wf.on_failure, wf.on_end]
    for add in adds:
        with pytest.raises(TypeError, match=r"note .*\('red',\): name them, as in add\(task, name=value\)"):
            add(tasks.note, "red")
    with pytest.raises(TypeError, match="has its arguments"):
        wf.add(tasks.double.call(number=1), 2)  # type: ignore[call-overload]


def test_positional_arguments_of_a_step_that_a_step_adds_are_refused(app: App, tasks: Notes) -> None:
    seen: list[str] = []

    @app.task(pass_context=True)
    async def crawl(context: JobContext) -> None:
        with pytest.raises(TypeError, match="name them") as caught:
            context.workflow.add(tasks.double, 1)  # type: ignore[arg-type]
        seen.append(str(caught.value))
        with pytest.raises(TypeError, match="name them") as caught:
            await context.workflow.add_async(tasks.double, 1)  # type: ignore[arg-type]
        seen.append(str(caught.value))

    wf = app.workflow("import")
    wf.add(crawl)
    wf.defer()
    app.run_worker(wait=False, install_signal_handlers=False)
    assert len(seen) == 2


def test_arguments_of_many_steps_that_are_no_dicts_are_refused(app: App, tasks: Notes) -> None:
    with pytest.raises(TypeError, match=r"are a dict, as in add_many\(.*not 1"):
        app.workflow("import").group("members").add_many(tasks.double, [1])  # type: ignore[list-item]


def test_an_empty_workflow_is_refused(app: App) -> None:
    with refused("has no steps"):
        app.workflow("import").defer()


def test_what_is_no_task_is_refused(app: App) -> None:
    with refused("is no task"):
        app.workflow("import").add(print)  # type: ignore[call-overload]


def test_a_condition_on_a_result_is_refused(app: App, tasks: Notes) -> None:
    step = app.workflow("import").add(tasks.double, number=1)
    with pytest.raises(TypeError, match="not known yet"):
        bool(step.value)


@pytest.mark.parametrize("name", ["self", "task", "positional", "arguments"])
def test_an_argument_of_a_step_may_have_the_name_of_a_parameter_of_add(app: App, name: str) -> None:
    task = app.task(name="any")(lambda **kwargs: None)
    wf = app.workflow("import")
    steps = [wf.add(task, **{name: 1}), wf.group("all").add(task, **{name: 1})]
    assert [step._node.call.arguments for step in steps] == [{name: 1}, {name: 1}]
    for on_end in (wf.on_success, wf.on_failure, wf.on_end):
        on_end(task, **{name: 1})


@pytest.mark.parametrize("name", ["self", "task", "positional", "arguments"])
async def test_an_argument_of_a_step_that_a_step_adds_may_have_the_name_of_a_parameter_of_add(
    app: App, name: str
) -> None:
    added: list[Any] = []
    task = app.task(name="any")(lambda **kwargs: None)

    @app.task(name="crawl", pass_context=True)
    async def crawl(context: JobContext) -> None:
        added.append(context.workflow.add(task, **{name: 1}))
        added.append(await context.workflow.add_async(task, **{name: 1}))

    wf = app.workflow("import")
    wf.add(crawl)
    await wf.defer_async()
    await app.run_worker_async(wait=False, install_signal_handlers=False)
    assert [step._node.call.arguments for step in added] == [{name: 1}, {name: 1}]
