"""The app's own methods, apart from its tasks."""

from __future__ import annotations

import logging
import sys
from typing import Any

import pytest

from procrastinate import exceptions
from procrastinate.app import App
from procrastinate.blueprints import Blueprint
from procrastinate.testing import InMemoryConnector
from procrastinate.worker import WorkerOptions
from tests.unit.recording import RecordingConnector

APP = App(connector=RecordingConnector())


def test_an_app_is_found_by_its_path() -> None:
    assert App.from_path("tests.unit.test_app.APP") is APP


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("app", "package.module.name"),
        ("no.such.module.app", "Cannot import"),
        ("tests.unit.test_app.nothing", "has no 'nothing'"),
        ("tests.unit.test_app.RecordingConnector", "not App"),
    ],
)
def test_a_path_that_leads_nowhere_says_why(path: str, why: str) -> None:
    with pytest.raises(exceptions.LoadFromPathError, match=why):
        App.from_path(path)


def test_a_connector_is_replaced_for_a_while(app: App, connector: RecordingConnector) -> None:
    other = RecordingConnector()
    task = app.task(name="task")(lambda: None)
    with app.replace_connector(other) as same:
        assert same is app
        assert app.connector is app.job_manager.connector is other
        task.defer()
    assert app.connector is app.job_manager.connector is connector
    assert (len(other.stored), len(connector.stored)) == (1, 0)


def test_a_replaced_connector_comes_back_when_the_block_raises(app: App, connector: RecordingConnector) -> None:
    with pytest.raises(KeyError), app.replace_connector(RecordingConnector()):
        raise KeyError
    assert app.connector is connector


def test_another_app_shares_the_tasks(app: App) -> None:
    app.task(name="before")(lambda: None)
    other = app.with_connector(RecordingConnector())
    app.task(name="after")(lambda: None)
    assert {"before", "after"} <= other.tasks.keys()
    assert other.periodic_registry is app.periodic_registry
    assert other.connector is not app.connector


def test_what_a_connector_can_be_is_said() -> None:
    with pytest.raises(TypeError, match=r"connector= takes .* not int"):
        App(connector=3)


def test_import_paths_are_imported() -> None:
    sys.modules.pop("this", None)
    App(connector=RecordingConnector(), import_paths=["tests.unit.imported"]).perform_import_paths()
    assert "tests.unit.imported" in sys.modules


def test_an_import_path_that_does_not_exist_is_named() -> None:
    with pytest.raises(ImportError, match="no_such_module"):
        App(connector=RecordingConnector(), import_paths=["no_such_module"]).perform_import_paths()


async def test_a_worker_takes_the_defaults_of_the_app_unless_told_otherwise() -> None:
    app = App(connector=RecordingConnector(), worker_defaults={"name": "of the app", "concurrency": 3})
    assert app.make_worker().settings.concurrency == 3
    worker = app.make_worker(concurrency=5)
    assert (worker.settings.concurrency, worker.settings.name) == (5, "of the app")


def test_an_iterator_among_the_defaults_counts_for_each_worker() -> None:
    app = App(connector=RecordingConnector(), worker_defaults={"queues": map(str.strip, ["mail", " sms"])})
    assert [app.make_worker().settings.queues for _ in range(2)] == [("mail", "sms")] * 2


def test_a_change_of_the_defaults_of_one_app_leaves_those_of_another_alone() -> None:
    """Tracing of an app adds its middleware to them."""
    shared: WorkerOptions = {"name": "shared"}
    one, other = (App(connector=RecordingConnector(), worker_defaults=shared) for _ in range(2))
    one.worker_defaults["queues"] = ["mail"]
    assert other.worker_defaults == shared == {"name": "shared"}


def test_an_iterator_among_defaults_that_are_set_later_is_refused() -> None:
    """The second worker would find no queue, which means all queues."""
    app = App(connector=RecordingConnector())
    app.worker_defaults = {"queues": iter(["mail"])}
    with pytest.raises(TypeError, match=r"queues of worker_defaults is .*: write a list"):
        app.make_worker()


def test_an_app_in_the_main_module_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    program = compile("App(connector=connector)", "program.py", "exec")
    exec(program, {"__name__": "__main__", "App": App, "connector": RecordingConnector()})
    (record,) = caplog.records
    assert "App is created in the program's main module (program.py)" in record.getMessage()
    assert vars(record)["action"] == "app_defined_in___main__"


def test_an_app_outside_the_main_module_is_not_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, logger="procrastinate")
    App(connector=RecordingConnector())
    assert caplog.records == []


@pytest.mark.parametrize("defaults", [{"max_delay": "600"}, {"max_delay": None}, {"max_dealy": 600}, {"max_delay": -1}])
def test_periodic_defaults_that_make_no_sense_are_refused(defaults: Any) -> None:
    """The declaration raises the error, not the start of a worker."""
    with pytest.raises((TypeError, ValueError), match="max_de"):
        App(connector=RecordingConnector(), periodic_defaults=defaults)


def test_an_app_defers_jobs_of_a_task_that_it_shares_in_its_own_database() -> None:
    """The task itself defers with the app that it was added to last."""
    north, south = App(connector=InMemoryConnector()), App(connector=InMemoryConnector())
    blueprint = Blueprint()
    blueprint.task(name="task")(lambda: None)
    for app in (north, south):
        app.add_tasks_from(blueprint, namespace="shared")
    east = south.with_connector(InMemoryConnector())
    for app in (north, south, east):
        app.configure_task("shared:task").defer()
    assert [len(app.connector.jobs) for app in (north, south, east)] == [1, 1, 1]  # type: ignore[attr-defined]


@pytest.mark.parametrize("fault", ["a\0", "\ud800", 5])
def test_a_reason_that_cannot_be_stored_is_refused_by_name(fault: Any) -> None:
    app = App(connector=InMemoryConnector())
    with pytest.raises(ValueError, match="reason contains"):
        app.queues.pause("mail", reason=fault)
