"""Every view of a job that waits has the same word for it."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from procrastinate.adapters.standalone import SQLAlchemyConnector
from procrastinate.app import App
from procrastinate.cli.workflow import workflow_command
from procrastinate.core.job_states import label_of
from procrastinate.testing import InMemoryConnector, Jobs
from tests.workflows.tasks import declare

_WORDS = {
    "note": "succeeded",
    "timed": "waiting_for_signal",
    "endless": "waiting_for_signal",
    "early": "waiting_for_signal",
    "publish": "waiting_for_steps",
    "later": "scheduled",
    "double": "waiting_for_steps",
}


@pytest.fixture(params=["memory", "database"])
def app(request: pytest.FixtureRequest) -> Iterator[App]:
    if request.param == "memory":
        yield App(connector=InMemoryConnector())
        return
    with App(connector=SQLAlchemyConnector(request.getfixturevalue("engine"))).open() as app:
        yield app


@pytest.fixture
def workflow_id(app: App) -> int:
    """A workflow whose first step has run, with a step for each reason to wait."""
    tasks = declare(app)
    wf = app.workflow("order")
    first = wf.add(tasks.note)
    timed = wf.add_signal("timed", after=[first], timeout=3600)
    endless = wf.add_signal("endless")
    wf.add(tasks.note, step="publish", after=[timed, endless])
    later = wf.add(tasks.note, step="later", after=[first], delay=3600)
    wf.add_signal("early", after=[later], timeout=3600)
    wf.on_success(tasks.double, number=1)
    with Jobs(app) as jobs:
        workflow_id = wf.defer()
        jobs.run()
    return workflow_id


def test_the_graph_and_the_counts_have_the_words_of_jobs(app: App, workflow_id: int) -> None:
    graph = app.workflows.graph(workflow_id)
    assert {node.name: node.state for node in graph.nodes} == _WORDS
    counts = app.workflows.get(workflow_id).counts
    assert (counts.waiting_for_signal, counts.waiting_for_steps, counts.scheduled) == (3, 1, 1)
    assert (counts.succeeded, counts.ready, counts.open, counts.total) == (1, 0, 5, 6)
    assert "timed (waiting for signal)" in graph.mermaid()


def test_the_command_has_the_words_of_jobs(app: App, workflow_id: int, capsys: pytest.CaptureFixture[str]) -> None:
    workflow_command(app, argparse.Namespace(id=workflow_id))
    printed = [line.strip("├└│─ ") for line in capsys.readouterr().out.splitlines()[1:]]
    assert {line.partition(" [")[0]: line.partition("]: ")[2] for line in printed} == {
        "on success: double" if name == "double" else name: label_of(word) for name, word in _WORDS.items()
    }


@pytest.mark.parametrize("app", ["database"], indirect=True)
def test_the_list_of_jobs_and_the_reasons_have_the_words_of_the_graph(app: App, workflow_id: int) -> None:
    words = {job.id: job.word for job in app.inspect.jobs().jobs}
    nodes = {node.name: node for node in app.workflows.graph(workflow_id).nodes}
    assert {name: words[node.job_ids[0]] for name, node in nodes.items()} == _WORDS
    for name, code in (("timed", "waits-for-signal"), ("endless", "waits-for-signal"), ("early", "waits-for-signal")):
        assert app.inspect.explain(nodes[name].job_ids[0]).headline.code == code


@pytest.mark.parametrize("app", ["database"], indirect=True)
def test_a_signal_behind_a_step_tells_when_its_timeout_begins(app: App, workflow_id: int) -> None:
    (early,) = next(node.job_ids for node in app.workflows.graph(workflow_id).nodes if node.name == "early")
    text = app.inspect.explain(early).headline.text
    assert text.endswith("has not come. Its timeout of 1 h begins when the steps before it have ended")


@pytest.mark.parametrize("app", ["database"], indirect=True)
@pytest.mark.parametrize(
    ("columns", "word"),
    [
        ("readiness = 0, scheduled_at = NULL, lock = NULL", "ready"),
        ("readiness = 0, lock = 'k'", "scheduled"),
        ("readiness = 2, lock = 'k'", "blocked"),
        ("readiness = 3, limit_name = 'api', limit_key = ''", "limited"),
        ("readiness = 99", "scheduled"),
        ("status = 'doing'", "running"),
        ("status = 'aborting'", "running"),
    ],
)
def test_a_step_in_any_state_has_the_word_of_the_list(
    app: App, workflow_id: int, connection: sa.Connection, columns: str, word: str
) -> None:
    (later,) = next(node.job_ids for node in app.workflows.graph(workflow_id).nodes if node.name == "later")
    connection.exec_driver_sql("ALTER TABLE procrastinate_jobs DISABLE TRIGGER USER")
    statement = f"UPDATE procrastinate_jobs SET {columns} WHERE id = {later}"  # noqa: S608
    connection.exec_driver_sql(statement)
    details = app.inspect.job(later)
    assert details is not None
    assert details.job.word == word
    node = next(node for node in app.workflows.graph(workflow_id).nodes if later in node.job_ids)
    assert node.state == word
    assert getattr(app.workflows.get(workflow_id).counts, word) == 1
