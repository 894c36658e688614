"""``procrastinate why`` and ``procrastinate queues``."""

from __future__ import annotations

import json
import shlex

import pytest

from procrastinate import App
from tests.cli.command import Command


@pytest.fixture
def command(database_url: str) -> Command:
    """Return the command on this test's database."""
    return Command(database_url)


def defer(database_url: str, **options: str) -> int:
    """Defer a job, and return its id."""
    with App(connector=database_url).open() as app:
        return app.configure_task("task", **options).defer()  # type: ignore[arg-type]


def test_why_names_the_reason_what_was_excluded_and_the_way_out(command: Command, database_url: str) -> None:
    finished = command.run("why", str(defer(database_url)), check=False)
    assert finished.returncode == 3
    assert "[no-worker]: No worker is alive" in finished.stdout
    assert "What to do: Start one" in finished.stdout
    assert "Is its queue paused: not the reason" in finished.stdout


def test_why_as_json(command: Command, database_url: str) -> None:
    job_id = defer(database_url)
    answer = json.loads(command.run("why", str(job_id), "--json", check=False).stdout)
    assert answer["job_id"] == job_id
    assert answer["reasons"][0]["code"] == "no-worker"
    assert {"name": "Is its queue paused", "found": None, "error": None} in answer["checks"]


def test_why_of_a_job_that_has_ended_is_no_failure(command: Command, database_url: str) -> None:
    job_id = defer(database_url)
    with App(connector=database_url).open() as app:
        app.job_manager.cancel_job_by_id(job_id)
    assert "[cancelled]" in command.run("why", str(job_id)).stdout


def test_why_of_an_unknown_job(command: Command) -> None:
    finished = command.run("why", "12345", check=False)
    assert (finished.returncode, "[never-given-out]" in finished.stdout) == (3, True)


def test_why_of_something_that_is_no_id(command: Command) -> None:
    finished = command.run("why", "x", check=False)
    assert finished.returncode == 2
    assert "job_id" in finished.stderr


def test_a_queue_is_paused_listed_and_resumed(command: Command, database_url: str) -> None:
    defer(database_url, queue="mail")
    paused = command.run("queues", "pause", "mail", "--reason", "The server is down", "--until", "30m").stdout
    assert paused.startswith("Paused mail until ")
    (row,) = json.loads(command.run("queues", "--json").stdout)
    assert row["queue"]["name"] == "mail"
    assert row["pause"]["reason"] == "The server is down"


def test_the_end_of_a_pause_is_told(command: Command, database_url: str) -> None:
    with App(connector=database_url).open() as app:
        app.queues.pause("mail", reason="The server is down")
    listed = command.run("queues").stdout.splitlines()
    assert listed[0].split()[:3] == ["queue", "paused", "ready"]
    assert listed[1].split()[:2] == ["mail", "yes"]
    assert listed[2] == "mail is paused: The server is down"
    assert command.run("queues", "resume", "mail").stdout == "Resumed mail\n"
    assert command.run("queues", "resume", "mail").stdout == "mail was not paused\n"


def test_a_paused_queue_without_jobs_is_listed(command: Command) -> None:
    command.run("queues", "pause", "empty")
    assert "empty" in command.run("queues", "list").stdout


def test_the_answers_of_pause_and_resume_as_json(command: Command) -> None:
    paused = json.loads(command.run("queues", "pause", "mail", "--json", "--until", "2100-01-01T00:00:00Z").stdout)
    assert paused["until"] == "2100-01-01T00:00:00+00:00"
    assert json.loads(command.run("queues", "resume", "mail", "--json").stdout) == {"queue": "mail", "was_paused": True}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["pause"], "need the name of a queue"),
        (["list", "mail"], "takes none"),
        (["resume", "mail", "--reason", "x"], "belong to"),
    ],
)
def test_a_call_that_makes_no_sense_says_so(command: Command, arguments: list[str], message: str) -> None:
    finished = command.run("queues", *arguments, check=False)
    assert finished.returncode == 1
    assert message in finished.stderr


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_pause_that_has_ended_already_says_so(command: Command, options: list[str]) -> None:
    finished = command.run("queues", "pause", "mail", "--until", "2020-01-01T00:00Z", *options, check=False)
    assert finished.returncode == 1
    assert "The pause of mail has ended already" in finished.stderr
    assert "Traceback" not in finished.stderr


def test_an_end_without_a_zone_is_refused(command: Command) -> None:
    finished = command.run("queues", "pause", "mail", "--until", "2030-01-01T00:00", check=False)
    assert finished.returncode == 2


def test_why_of_a_periodic_task(command: Command) -> None:
    finished = command.run("why", "--periodic", "gone", "--json", check=False)
    assert (finished.returncode, json.loads(finished.stdout)["reasons"][0]["code"]) == (3, "not-declared")
    finished = command.run("why", check=False)
    assert finished.returncode == 1
    assert "needs the id of a job" in finished.stderr
    assert "ValueError" not in finished.stderr


def test_a_reason_of_a_pause_forges_no_line(command: Command, database_url: str) -> None:
    defer(database_url, queue="mail")
    with App(connector=database_url).open() as app:
        app.queues.pause("mail", reason="Maintenance\nother is paused: forged")
    listed = command.run("queues", "list").stdout.splitlines()
    assert listed[-1].endswith(r"Maintenance\nother is paused: forged")


@pytest.mark.parametrize("queue", ["--all", "the 'mail'; rm -r /"])
def test_the_advice_to_resume_a_queue_is_a_command_line_that_resumes_it(
    command: Command, database_url: str, queue: str
) -> None:
    job_id = defer(database_url, queue=queue)
    with App(connector=database_url).open() as app:
        app.queues.pause(queue)
        advice = app.inspect.explain(job_id).headline.advice
        program, *words = shlex.split(advice.split("`")[1])
        assert program == "procrastinate"
        command.run(*words)
        assert app.queues.list() == []
