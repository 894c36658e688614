"""Blueprints: sets of tasks, and how apps take them in."""

from __future__ import annotations

import pytest

from procrastinate import builtin_tasks, exceptions
from procrastinate.app import App
from procrastinate.blueprints import Blueprint
from tests.unit.recording import RecordingConnector


def blueprint_with(*names: str) -> Blueprint:
    """A blueprint with tasks of these names."""
    blueprint = Blueprint()
    for name in names:
        blueprint.task(name=name)(lambda: None)
    return blueprint


def own_names(app: Blueprint) -> set[str]:
    """The names of the tasks that are not built in."""
    return {name for name in app.tasks if "procrastinate.builtin_tasks" not in name}


def test_an_app_takes_in_the_tasks_under_a_namespace(app: App, connector: RecordingConnector) -> None:
    blueprint = Blueprint()
    task = blueprint.task(name="send", aliases=["post"])(lambda: None)
    app.add_tasks_from(blueprint, namespace="mail")
    assert own_names(app) == {"mail:send", "mail:post"}
    assert (task.name, task.aliases, task.blueprint) == ("mail:send", ["mail:post"], app)
    task.defer()
    assert connector.stored[0].task_name == "mail:send"


def test_namespaces_nest(app: App) -> None:
    inner, outer = blueprint_with("send"), blueprint_with("report")
    outer.add_tasks_from(inner, namespace="inner")
    app.add_tasks_from(outer, namespace="outer")
    assert own_names(app) == {"outer:report", "outer:inner:send"}
    assert app.tasks["outer:inner:send"].name == "outer:inner:send"


def test_an_empty_namespace_keeps_the_names(app: App) -> None:
    app.add_tasks_from(blueprint_with("send"), namespace="")
    assert own_names(app) == {"send"}


def test_a_factory_may_make_several_apps_from_one_blueprint() -> None:
    blueprint = blueprint_with("send")
    task = blueprint.tasks["send"]
    for _ in range(2):
        app = App(connector=RecordingConnector())
        app.add_tasks_from(blueprint, namespace="mail")
        assert own_names(app) == {"mail:send"}
        assert task.name == "mail:send"
        assert task.blueprint is app


def test_a_factory_may_add_a_blueprint_to_one_app_each_time(app: App) -> None:
    """As a function that makes a Flask application does, once per test."""
    blueprint = Blueprint()
    send = blueprint.task(name="send", aliases=["post"])(lambda timestamp: None)
    blueprint.periodic(cron="* * * * *")(send)
    for _ in range(2):
        app.add_tasks_from(blueprint, namespace="mail")
        assert own_names(app) == {"mail:send", "mail:post"}
        assert (send.name, send.aliases) == ("mail:send", ["mail:post"])
        assert list(app.periodic_registry.periodic_tasks) == [("mail:send", "")]
    with pytest.raises(exceptions.TaskAlreadyRegistered, match="'mail:send'"):
        app.add_tasks_from(blueprint_with("send"), namespace="mail")
    assert app.tasks["mail:send"] is send
    app.add_task_alias(send, "old")
    app.add_tasks_from(blueprint, namespace="mail")
    assert (app.tasks["old"], send.aliases) == (send, ["mail:post", "old"])


def test_an_app_gets_back_a_blueprint_that_another_app_has_added(app: App) -> None:
    blueprint = blueprint_with("send")
    other = App(connector=RecordingConnector())
    for one in (app, other, app):
        one.add_tasks_from(blueprint, namespace="mail")
        assert blueprint.tasks["send"].blueprint is one
    assert own_names(app) == own_names(other) == {"mail:send"}
    assert other.tasks["mail:send"].blueprint is other


def test_a_name_is_given_once(app: App) -> None:
    first = app.task(name="send")(lambda: None)
    with pytest.raises(exceptions.TaskAlreadyRegistered, match="'send'"):
        app.task(name="send")(lambda: None)
    assert app.tasks["send"] is first


def test_a_task_whose_alias_is_taken_is_not_half_registered(app: App) -> None:
    app.task(name="send")(lambda: None)
    with pytest.raises(exceptions.TaskAlreadyRegistered):
        app.task(name="post", aliases=["mail", "send"])(lambda: None)
    assert own_names(app) == {"send"}


def test_a_blueprint_with_a_clash_is_not_half_taken_in(app: App) -> None:
    app.task(name="mail:post")(lambda: None)
    blueprint = blueprint_with("post")
    blueprint.task(name="send")(lambda timestamp: None)
    blueprint.periodic(cron="* * * * *")(blueprint.tasks["send"])
    with pytest.raises(exceptions.TaskAlreadyRegistered, match="'mail:post'"):
        app.add_tasks_from(blueprint, namespace="mail")
    assert own_names(app) == {"mail:post"}
    assert app.periodic_registry.periodic_tasks == {}
    assert {task.name for task in blueprint.tasks.values()} == {"send", "post"}
    assert all(task.blueprint is blueprint for task in blueprint.tasks.values())


def test_a_task_may_get_another_name_later(app: App) -> None:
    task = app.task(name="send")(lambda: None)
    app.add_task_alias(task, "post")
    assert app.tasks["post"] is task
    assert task.aliases == ["post"]
    with pytest.raises(exceptions.TaskAlreadyRegistered):
        app.add_task_alias(task, "send")
    assert task.aliases == ["post"]


def test_every_app_has_the_builtin_tasks_of_its_own(app: App) -> None:
    name = "procrastinate.builtin_tasks.remove_old_jobs"
    task = app.tasks[f"builtin:{name}"]
    assert app.tasks[name] is task
    assert (task.queue, task.pass_context) == (builtin_tasks.BUILTIN_QUEUE, True)
    assert App(connector=RecordingConnector()).tasks[name] is not task


def test_tasks_can_be_replaced_as_a_whole(app: App) -> None:
    app.tasks = {}
    assert app.tasks == {}
