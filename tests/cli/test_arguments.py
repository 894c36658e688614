"""What the command line and the environment say, as options of the worker."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import pytest

from procrastinate.cli import add_defer_arguments, add_worker_arguments
from procrastinate.cli.main import make_parser
from procrastinate.cli.queues import user_name
from procrastinate.cli.worker import given_options


def _worker_options(*arguments: str) -> Any:
    parser = argparse.ArgumentParser()
    add_worker_arguments(parser)
    return given_options(parser.parse_args(arguments))


def test_what_is_not_given_is_left_to_the_app() -> None:
    """So that ``worker_defaults`` hold."""
    assert _worker_options() == {}


def test_all_options_of_the_worker() -> None:
    """By their long names."""
    assert _worker_options(
        *("--name=n", "--queues=a, b,,c", "--concurrency=3", "--one-shot", "--no-listen-notify", "--no-prefetch"),
        *("--fetch-job-polling-interval=1.5", "--abort-job-polling-interval=2", "--shutdown-graceful-timeout=0"),
        *("--delete-jobs=always", "--max-jobs=100"),
    ) == {
        "name": "n",
        "queues": ["a", "b", "c"],
        "concurrency": 3,
        "wait": False,
        "listen_notify": False,
        "fetch_job_polling_interval": 1.5,
        "abort_job_polling_interval": 2.0,
        "shutdown_graceful_timeout": 0.0,
        "delete_jobs": "always",
        "max_jobs": 100,
        "prefetch": False,
    }


def test_short_options_of_the_worker() -> None:
    """And the switches that turn on."""
    assert _worker_options("-nn", "-q", "", "-c2", "-p3", "-a4", "-w", "-l") == {
        "name": "n",
        "queues": None,
        "concurrency": 2,
        "fetch_job_polling_interval": 3.0,
        "abort_job_polling_interval": 4.0,
        "wait": True,
        "listen_notify": True,
    }


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("NAME", "n", {"name": "n"}),
        ("QUEUES", "a,b", {"queues": ["a", "b"]}),
        ("QUEUES", "", {"queues": None}),
        ("CONCURRENCY", "4", {"concurrency": 4}),
        ("CONCURRENCY", "", {}),
        ("MAX_JOBS", "7", {"max_jobs": 7}),
        ("MAX_JOBS", "", {}),
        ("FETCH_JOB_POLLING_INTERVAL", "0.5", {"fetch_job_polling_interval": 0.5}),
        ("ABORT_JOB_POLLING_INTERVAL", "7", {"abort_job_polling_interval": 7.0}),
        ("SHUTDOWN_GRACEFUL_TIMEOUT", "0", {"shutdown_graceful_timeout": 0.0}),
        ("WAIT", "0", {"wait": False}),
        ("WAIT", "n", {"wait": False}),
        ("WAIT", "True", {"wait": True}),
        ("LISTEN_NOTIFY", "0", {"listen_notify": False}),
        ("LISTEN_NOTIFY", "false", {"listen_notify": False}),
        ("LISTEN_NOTIFY", "1", {"listen_notify": True}),
        ("PREFETCH", "0", {"prefetch": False}),
        ("DELETE_JOBS", "successful", {"delete_jobs": "successful"}),
    ],
)
def test_the_environment_counts_as_the_command_line_does(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, expected: dict[str, Any]
) -> None:
    """Zero and no included."""
    monkeypatch.setenv(f"PROCRASTINATE_WORKER_{variable}", value)
    assert _worker_options() == expected


def test_the_command_line_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over a wrong value too."""
    monkeypatch.setenv("PROCRASTINATE_WORKER_CONCURRENCY", "many")
    monkeypatch.setenv("PROCRASTINATE_WORKER_WAIT", "0")
    assert _worker_options("-c1", "--wait") == {"concurrency": 1, "wait": True}


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("CONCURRENCY", "many"),
        ("CONCURRENCY", "0"),
        ("MAX_JOBS", "0"),
        ("WAIT", "maybe"),
        ("DELETE_JOBS", "some"),
        ("SHUTDOWN_GRACEFUL_TIMEOUT", "-1"),
        ("FETCH_JOB_POLLING_INTERVAL", "nan"),
    ],
)
def test_a_wrong_value_is_refused_by_the_name_of_its_variable(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], variable: str, value: str
) -> None:
    """Before anything is done."""
    monkeypatch.setenv(f"PROCRASTINATE_WORKER_{variable}", value)
    with pytest.raises(SystemExit):
        _worker_options()
    assert f"PROCRASTINATE_WORKER_{variable}='{value}'" in capsys.readouterr().err


def test_options_of_defer_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The arguments of the task too."""
    for name, value in {
        "JSON_ARGS": '{"a": 1}',
        "QUEUE": "q",
        "LOCK": "l",
        "QUEUEING_LOCK": "ql",
        "IGNORE_ALREADY_ENQUEUED": "1",
        "IN": "0",
        "PRIORITY": "-3",
        "UNKNOWN": "y",
    }.items():
        monkeypatch.setenv(f"PROCRASTINATE_DEFER_{name}", value)
    parser = argparse.ArgumentParser()
    add_defer_arguments(parser)
    assert vars(parser.parse_args(["task"])) == {
        "task": "task",
        "json_args": {"a": 1},
        "queue": "q",
        "lock": "l",
        "queueing_lock": "ql",
        "ignore_already_enqueued": True,
        "schedule_in": 0.0,
        "priority": -3,
        "unknown": True,
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["task", "[1]"], "must be a JSON object"),
        (["task", "{a: 1}"], "is not JSON"),
        (["--at=2030-01-01T00:00", "task"], "has no time zone"),
        (["--at=tomorrow", "task"], "is not a date and time"),
        (["--in=-1", "task"], "is not a number of seconds"),
        (["--in=1", "--at=2030-01-01T00:00Z", "task"], "not allowed with"),
        (["--priority=high", "task"], "is not a whole number"),
        (["--queue=", "task"], "--queue: it is empty"),
        (["--lock=", "task"], "--lock: it is empty"),
        (["--queueing-lock= ", "task"], "--queueing-lock: it is empty"),
    ],
)
def test_wrong_options_of_defer_are_refused(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    """With what is expected."""
    parser = argparse.ArgumentParser()
    add_defer_arguments(parser)
    with pytest.raises(SystemExit):
        parser.parse_args(arguments)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("quote", ["'", '"', "`"])
@pytest.mark.parametrize(
    ("name", "value"),
    [("WORKER_QUEUES", "mail,sms"), ("WORKER_NAME", "w"), ("APP", "a.b"), ("WORKER_DELETE_JOBS", "never")],
)
def test_a_variable_in_quotes_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], quote: str, name: str, value: str
) -> None:
    monkeypatch.setenv(f"PROCRASTINATE_{name}", f"{quote}{value}{quote}")
    with pytest.raises(SystemExit):
        make_parser().parse_args(["worker"])
    said = capsys.readouterr().err
    assert f"PROCRASTINATE_{name}=" in said
    assert "begins and ends with quotes" in said


@pytest.mark.parametrize("queues", ['"mail"', "sms,'mail'", ",", " , "])
def test_queues_that_no_task_can_have_are_refused(capsys: pytest.CaptureFixture[str], queues: str) -> None:
    with pytest.raises(SystemExit):
        make_parser().parse_args(["worker", f"--queues={queues}"])
    assert "quotes" in (said := capsys.readouterr().err) or "has commas but no name" in said


@pytest.mark.parametrize(
    ("queues", "message"),
    [
        ('["mail", "sms"]', "is JSON: write the names with commas"),
        ("\ufeffmail,sms", "'\\ufeffmail' begins or ends with a character that cannot be seen"),
        ("mail,sms\u200b", "'sms\\u200b' begins or ends with a character that cannot be seen"),
    ],
    ids=["JSON", "byte order mark", "space without width"],
)
def test_queues_as_another_program_writes_them_are_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], queues: str, message: str
) -> None:
    monkeypatch.setenv("PROCRASTINATE_WORKER_QUEUES", queues)
    with pytest.raises(SystemExit):
        _worker_options()
    assert message in capsys.readouterr().err


def test_queues_in_other_scripts_and_in_brackets_are_names() -> None:
    assert _worker_options("--queues=[mail],\N{WOMAN}\u200d\N{PERSONAL COMPUTER}") == {
        "queues": ["[mail]", "\N{WOMAN}\u200d\N{PERSONAL COMPUTER}"]
    }


def test_an_option_with_names_may_be_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROCRASTINATE_WORKER_QUEUES", "other")
    assert _worker_options("-q", "a", "-q", "b,c", "--queues=a") == {"queues": ["a", "b", "c"]}
    assert make_parser().parse_args(["check", "--queues=a", "--queues=b"]).queues == ["a", "b"]
    assert make_parser().parse_args(["check"]).queues == []


@pytest.mark.parametrize("values", [("", "a"), ("a", "")], ids=["all, a", "a, all"])
def test_all_queues_and_a_queue_are_refused_together(capsys: pytest.CaptureFixture[str], values: Sequence[str]) -> None:
    with pytest.raises(SystemExit):
        make_parser().parse_args(["worker", *(f"--queues={value}" for value in values)])
    assert "-q/--queues: it is given several times, once without a name" in capsys.readouterr().err


def test_a_log_format_may_be_in_quotes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROCRASTINATE_LOG_FORMAT", '"%(message)s"')
    assert make_parser().parse_args(["worker"]).log_format == '"%(message)s"'


@pytest.mark.parametrize("end", ["\n", "\r", " "], ids=["newline", "return", "space"])
def test_white_space_around_a_variable_is_no_part_of_it(monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    monkeypatch.setenv("PROCRASTINATE_APP", f"shop.app{end}")
    monkeypatch.setenv("PROCRASTINATE_WORKER_NAME", f"first{end}")
    arguments = make_parser().parse_args(["worker"])
    assert (arguments.app, arguments.name) == ("shop.app", "first")


@pytest.mark.parametrize("name", ["WORKER_NAME", "WORKER_CONCURRENCY", "WORKER_WAIT", "DEFER_LOCK", "APP"])
def test_a_variable_of_white_space_is_not_set(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(f"PROCRASTINATE_{name}", "  ")
    command = ["defer", "t"] if name.startswith("DEFER") else ["worker"]
    arguments = vars(make_parser().parse_args(command))
    assert not {"name", "concurrency", "wait", "lock", "app"} & arguments.keys()


@pytest.mark.parametrize(
    ("name", "command"),
    [("METRICS_TOKEN", ["metrics"]), ("CELERY_BROKER", ["celery-bridge"])],
)
def test_no_error_shows_a_secret_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, command: list[str]
) -> None:
    monkeypatch.setenv(f"PROCRASTINATE_{name}", '"redis://:hidden@host/0"')
    with pytest.raises(SystemExit):
        make_parser().parse_args(command)
    said = capsys.readouterr().err
    assert f"PROCRASTINATE_{name}: the value begins and ends with quotes" in said
    assert "hidden" not in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["check", "--queues=,"], "has commas but no name"),
        (["healthchecks", "--worker="], "it is empty"),
    ],
)
def test_a_variable_of_the_shell_that_is_not_set_does_not_choose_all(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    with pytest.raises(SystemExit):
        make_parser().parse_args(arguments)
    assert message in capsys.readouterr().err


def test_a_user_whose_name_is_no_text_has_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "ad\udce9")
    assert user_name() == "ad?"
