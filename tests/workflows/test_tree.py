"""The command line prints a workflow as a tree."""

from __future__ import annotations

import argparse

import pytest
import sqlalchemy as sa

from procrastinate.adapters.standalone import SQLAlchemyConnector
from procrastinate.app import App
from procrastinate.cli.main import make_parser
from procrastinate.cli.workflow import workflow_command
from procrastinate.exceptions import WorkflowNotFound
from tests.workflows.tasks import declare


@pytest.fixture
def app(engine: sa.Engine) -> App:
    return App(connector=SQLAlchemyConnector(engine))


def printed(app: App, workflow_id: int, capsys: pytest.CaptureFixture[str]) -> list[str]:
    workflow_command(app, argparse.Namespace(id=workflow_id))
    return capsys.readouterr().out.splitlines()


def test_steps_stand_below_what_they_wait_for(app: App, capsys: pytest.CaptureFixture[str]) -> None:
    tasks = declare(app)
    with app.open():
        wf = app.workflow("import\x1b[31m")
        first = wf.add(tasks.note, step="first\x1b[0m")
        pages = wf.group("pages", after=[first])
        pages.add_many(tasks.double, [{"number": 1}] * 3)
        wf.add(tasks.total, numbers=pages.values)
        wf.add(tasks.note, step="aside")
        workflow_id = wf.defer()
    lines = printed(app, workflow_id, capsys)
    assert lines[0] == f"import\\x1b[31m [{workflow_id}]: running, 0 of 6 steps succeeded"
    assert sorted(lines[1:]) == sorted(
        [
            "├── first\\x1b[0m [job 1]: ready",
            "│   └── pages: waiting for steps, 0 of 3 succeeded",
            "│       └── total [job 5]: waiting for steps",
            "└── aside [job 6]: ready",
        ]
    )


def test_a_long_chain_is_printed_whole(app: App, capsys: pytest.CaptureFixture[str]) -> None:
    tasks = declare(app)
    with app.open():
        wf = app.workflow("long")
        step = wf.add(tasks.note)
        for _ in range(1500):
            step = wf.add(tasks.note, after=[step])
        workflow_id = wf.defer()
    lines = printed(app, workflow_id, capsys)
    assert len(lines) == 1502
    assert max(map(len, lines)) < 200


def test_a_workflow_that_does_not_exist_is_named(app: App) -> None:
    with pytest.raises(WorkflowNotFound, match="no workflow 5"):
        workflow_command(app, argparse.Namespace(id=5))


def test_the_command_takes_the_id() -> None:
    arguments = make_parser().parse_args(["--app=shop.app", "workflow", "7"])
    assert (arguments.run, arguments.id) == (workflow_command, 7)


def test_a_kind_and_a_rule_of_a_later_release_are_shown(
    app: App, connection: sa.Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks = declare(app)
    with app.open():
        wf = app.workflow("import")
        first = wf.add(tasks.note, step="first")
        wf.group("pages", after=[first]).add(tasks.note, step="page")
        workflow_id = wf.defer()
    connection.exec_driver_sql("UPDATE procrastinate_workflows SET kind = 'later' WHERE name = 'pages'")
    connection.exec_driver_sql("UPDATE procrastinate_dependencies SET rule = 99")
    lines = printed(app, workflow_id, capsys)
    assert [line.split(":")[0].strip("├└│─ ") for line in lines] == ["import [1]", "first [job 1]", "pages"]


def test_callbacks_have_their_kind(app: App, capsys: pytest.CaptureFixture[str]) -> None:
    tasks = declare(app)
    with app.open():
        wf = app.workflow("import")
        wf.add(tasks.note, step="only")
        wf.on_success(tasks.note)
        wf.on_failure(tasks.double, number=1)
        wf.on_end(tasks.total, numbers=[])
        workflow_id = wf.defer()
    assert printed(app, workflow_id, capsys)[1:] == [
        "├── only [job 1]: ready",
        "├── on success: note [job 2]: waiting for steps",
        "├── on failure: double [job 3]: waiting for steps",
        "└── on end: total [job 4]: waiting for steps",
    ]
