"""The command: its flags, the environment variables behind them, and what they are when nothing is said."""

from __future__ import annotations

import argparse
import datetime
import inspect
import pathlib
import re
import subprocess
import sys
from typing import Any

import pytest

from procrastinate.cli.main import make_parser
from procrastinate.cli.worker import given_options
from procrastinate.worker import Worker

FLAGS: dict[str, dict[tuple[str, ...], str | None]] = {
    "": {
        ("-a", "--app"): "APP",
        ("-v", "--verbose"): "VERBOSE",
        ("--log-level",): "LOG_LEVEL",
        ("--log-format",): "LOG_FORMAT",
        ("--log-format-style",): "LOG_FORMAT_STYLE",
        ("-V", "--version"): None,
    },
    "worker": {
        ("-n", "--name"): "WORKER_NAME",
        ("-q", "--queues"): "WORKER_QUEUES",
        ("-c", "--concurrency"): "WORKER_CONCURRENCY",
        ("-p", "--fetch-job-polling-interval"): "WORKER_FETCH_JOB_POLLING_INTERVAL",
        ("-a", "--abort-job-polling-interval"): "WORKER_ABORT_JOB_POLLING_INTERVAL",
        ("--shutdown-graceful-timeout",): "WORKER_SHUTDOWN_GRACEFUL_TIMEOUT",
        ("--unknown-task-timeout",): "WORKER_UNKNOWN_TASK_TIMEOUT",
        ("--legacy-worker-timeout",): "WORKER_LEGACY_WORKER_TIMEOUT",
        ("--stalled-worker-timeout",): "WORKER_STALLED_WORKER_TIMEOUT",
        ("--max-rescues",): "WORKER_MAX_RESCUES",
        ("--store-errors", "--no-store-errors"): "WORKER_STORE_ERRORS",
        ("--wait-for-schema", "--no-wait-for-schema"): "WORKER_WAIT_FOR_SCHEMA",
        ("-w", "--wait", "--one-shot"): "WORKER_WAIT",
        ("-l", "--listen-notify", "--no-listen-notify"): "WORKER_LISTEN_NOTIFY",
        ("--delete-jobs",): "WORKER_DELETE_JOBS",
        ("--max-jobs",): "WORKER_MAX_JOBS",
        ("--prefetch", "--no-prefetch"): "WORKER_PREFETCH",
        ("--processes",): "WORKER_PROCESSES",
        ("--uvloop", "--no-uvloop"): "WORKER_UVLOOP",
        ("--reload", "--no-reload"): "WORKER_RELOAD",
    },
    "dev": {("--port",): "DASHBOARD_PORT", ("--no-dashboard",): None},
    "defer": {
        ("json_args",): "DEFER_JSON_ARGS",
        ("--queue",): "DEFER_QUEUE",
        ("--lock",): "DEFER_LOCK",
        ("--queueing-lock",): "DEFER_QUEUEING_LOCK",
        ("-i", "--ignore-already-enqueued", "--no-ignore-already-enqueued"): "DEFER_IGNORE_ALREADY_ENQUEUED",
        ("--at",): "DEFER_AT",
        ("--in",): "DEFER_IN",
        ("--priority",): "DEFER_PRIORITY",
        ("--unknown", "--no-unknown"): "DEFER_UNKNOWN",
    },
    "schema": {
        ("--apply",): None,
        ("--plan",): None,
        ("--read",): None,
        ("--contract",): None,
        ("--revert-to-3x",): None,
        ("--migrations-path",): None,
        ("--orphans",): "ORPHANS",
        ("--from",): None,
    },
    "healthchecks": {("--worker",): None},
    "shell": {("shell_command",): None},
    "retry": {("--task",): None, ("--queue",): None, ("--error",): None, ("--since",): None, ("--yes",): None},
    "cancel": {("--task",): None, ("--queue",): None, ("--yes",): None, ("--json",): None},
    "unique": {("key",): None, ("--free",): None, ("--json",): None},
    "why": {("job_id",): None, ("--json",): None},
    "queues": {("--reason",): None, ("--until",): None, ("--json",): None},
}


@pytest.mark.parametrize("command", FLAGS)
def test_help_names_every_flag_and_its_variable(command: str) -> None:
    arguments = [sys.executable, "-m", "procrastinate", *command.split(), "--help"]
    finished = subprocess.run(arguments, capture_output=True, text=True, check=True)
    text = re.sub(r"\s+", " ", finished.stdout)
    for flags, variable in FLAGS[command].items():
        assert all(flag in text for flag in flags)
        assert variable is None or f"(env: PROCRASTINATE_{variable})" in text
    if not command:
        assert all(f" {name} " in text for name in FLAGS if name)


def test_the_help_of_the_worker_names_every_default() -> None:
    """And they are those of a worker."""
    finished = subprocess.run(
        [sys.executable, "-m", "procrastinate", "worker", "--help"], capture_output=True, text=True, check=True
    )
    text = re.sub(r"\s+", " ", finished.stdout)
    said = re.findall(r"\(default: ([^)]*)\) \(env: PROCRASTINATE_WORKER_(\w+)\)", text)
    parameters = inspect.signature(Worker).parameters
    defaults = {variable.lower(): value for value, variable in said}
    assert defaults.keys() == {str(variable)[7:].lower() for variable in FLAGS["worker"].values()}
    numbers = ("fetch_job_polling_interval", "abort_job_polling_interval", "stalled_worker_timeout", "max_rescues")
    for name in ("name", "concurrency", *numbers):
        assert defaults[name] == f"{parameters[name].default}".removesuffix(".0")
    words = {"wait": "wait", "listen_notify": "listen", "queues": "all", "delete_jobs": "never", "max_jobs": "no limit"}
    words |= {"store_errors": "keep"}
    words |= {"prefetch": "prefetch", "processes": "1", "uvloop": "uvloop if it is installed", "reload": "no"}
    assert defaults.items() >= words.items()
    assert "worker_defaults" in text


def test_the_page_on_the_command_lists_every_option_of_the_worker_with_its_default_and_variable() -> None:
    page = (pathlib.Path(__file__).parents[2] / "docs" / "command.md").read_text()
    finished = subprocess.run(
        [sys.executable, "-m", "procrastinate", "worker", "--help"], capture_output=True, text=True, check=True
    )
    said = re.findall(r"\(default: ([^)]*)\) \(env: PROCRASTINATE_WORKER_(\w+)\)", re.sub(r"\s+", " ", finished.stdout))
    defaults = {variable: default for default, variable in said}
    for flags, variable in FLAGS["worker"].items():
        name = str(variable).removeprefix("WORKER_")
        (row,) = [line for line in page.splitlines() if line.endswith(f"| `{name}` |")]
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert cells[0] == ", ".join(f"`{flag}`" for flag in flags)
        assert cells[1].strip("`") == defaults[name]


def _parsed(*arguments: str) -> dict[str, Any]:
    return vars(make_parser().parse_args(arguments))


def test_what_is_not_said_is_left_to_the_app_and_the_task() -> None:
    worker, defer = _parsed("worker"), _parsed("defer", "task")
    assert worker.keys() == {"verbose", "log_format_style", "run", "needs_app", "handles_signals"}
    assert defer.keys() - worker.keys() == {"task", "json_args", "ignore_already_enqueued", "unknown"}
    assert (defer["json_args"], defer["ignore_already_enqueued"], defer["unknown"]) == ({}, False, False)
    assert (worker["verbose"], worker["log_format_style"], _parsed("schema")["action"]) == (0, "%", None)


@pytest.mark.parametrize(
    ("variable", "value", "options"),
    [
        ("WORKER_LISTEN_NOTIFY", "0", {"listen_notify": False}),
        ("WORKER_LISTEN_NOTIFY", "n", {"listen_notify": False}),
        ("WORKER_LISTEN_NOTIFY", "f", {"listen_notify": False}),
        ("WORKER_LISTEN_NOTIFY", "1", {"listen_notify": True}),
        ("WORKER_WAIT", "0", {"wait": False}),
        ("WORKER_WAIT", "y", {"wait": True}),
        ("WORKER_SHUTDOWN_GRACEFUL_TIMEOUT", "0", {"shutdown_graceful_timeout": 0.0}),
        ("WORKER_UNKNOWN_TASK_TIMEOUT", "600", {"unknown_task_timeout": 600.0}),
        ("WORKER_LEGACY_WORKER_TIMEOUT", "600", {"legacy_worker_timeout": 600.0}),
        ("WORKER_STALLED_WORKER_TIMEOUT", "60", {"stalled_worker_timeout": 60.0}),
        ("WORKER_MAX_RESCUES", "0", {"max_rescues": 0}),
        ("WORKER_STORE_ERRORS", "0", {"store_errors": False}),
        ("WORKER_WAIT_FOR_SCHEMA", "0", {"wait_for_schema": False}),
        ("WORKER_QUEUES", "", {"queues": None}),
        ("WORKER_QUEUES", "a,b", {"queues": ["a", "b"]}),
        ("WORKER_DELETE_JOBS", "never", {"delete_jobs": "never"}),
        ("WORKER_NAME", "n", {"name": "n"}),
        ("WORKER_CONCURRENCY", "2", {"concurrency": 2}),
        ("WORKER_FETCH_JOB_POLLING_INTERVAL", "0.5", {"fetch_job_polling_interval": 0.5}),
        ("WORKER_ABORT_JOB_POLLING_INTERVAL", "0.5", {"abort_job_polling_interval": 0.5}),
    ],
)
def test_a_variable_of_the_worker_counts_whatever_its_value(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, options: dict[str, Any]
) -> None:
    """In 3.10, ``PROCRASTINATE_WORKER_LISTEN_NOTIFY=0`` and the other falsy values did nothing."""
    monkeypatch.setenv(f"PROCRASTINATE_{variable}", value)
    assert given_options(argparse.Namespace(**_parsed("worker"))) == options


@pytest.mark.parametrize(
    ("variable", "value", "name", "parsed"),
    [
        ("DEFER_JSON_ARGS", '{"a": 0}', "json_args", {"a": 0}),
        ("DEFER_QUEUE", "q", "queue", "q"),
        ("DEFER_LOCK", "l", "lock", "l"),
        ("DEFER_QUEUEING_LOCK", "l", "queueing_lock", "l"),
        ("DEFER_IGNORE_ALREADY_ENQUEUED", "1", "ignore_already_enqueued", True),
        ("DEFER_IGNORE_ALREADY_ENQUEUED", "0", "ignore_already_enqueued", False),
        ("DEFER_AT", "2030-01-01T00:00:00Z", "schedule_at", datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)),
        ("DEFER_IN", "0", "schedule_in", 0.0),
        ("DEFER_PRIORITY", "0", "priority", 0),
        ("DEFER_PRIORITY", "-3", "priority", -3),
        ("DEFER_UNKNOWN", "y", "unknown", True),
        ("VERBOSE", "2", "verbose", 2),
        ("LOG_LEVEL", "error", "log_level", 40),
        ("LOG_FORMAT", "{message}", "log_format", "{message}"),
        ("LOG_FORMAT_STYLE", "{", "log_format_style", "{"),
        ("APP", "a.b", "app", "a.b"),
    ],
)
def test_a_variable_counts_whatever_its_value(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, name: str, parsed: Any
) -> None:
    monkeypatch.setenv(f"PROCRASTINATE_{variable}", value)
    assert _parsed("defer", "task")[name] == parsed


@pytest.mark.parametrize("command", [["worker"], ["defer", "task"], ["schema", "--plan"], ["healthchecks"], ["shell"]])
def test_common_options_may_follow_the_command(command: list[str]) -> None:
    options = ["--app=a.b", "--log-level=error", "--log-format={message}", "--log-format-style={"]
    after, before = _parsed(*command, *options), _parsed(*options, *command)
    assert (after["app"], after["log_level"]) == ("a.b", 40)
    assert {**after, "run": 0, "needs_app": 0} == {**before, "run": 0, "needs_app": 0}
    assert _parsed(*command, "--verbose")["verbose"] == 1


def test_a_common_option_after_the_command_replaces_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROCRASTINATE_APP", "a.b")
    monkeypatch.setenv("PROCRASTINATE_LOG_LEVEL", "error")
    parsed = _parsed("worker", "--app=c.d")
    assert (parsed["app"], parsed["log_level"]) == ("c.d", 40)
    assert _parsed("worker", "--log-level=debug")["log_level"] == 10


@pytest.mark.parametrize(
    ("arguments", "suggestion"),
    [
        (["worke"], "Did you mean worker?"),
        (["healthcheck"], "Did you mean healthchecks?"),
        (["worker", "--concurency=3"], "Did you mean --concurrency?"),
        (["worker", "--loglevel", "info"], "Did you mean --log-level?"),
        (["--ap=x", "worker", "--quues=a"], "Did you mean --queues?"),
    ],
)
def test_an_unknown_word_brings_a_suggestion(
    capsys: pytest.CaptureFixture[str], arguments: list[str], suggestion: str
) -> None:
    with pytest.raises(SystemExit, match="2"):
        _parsed(*arguments)
    assert suggestion in capsys.readouterr().err


def test_a_word_like_no_other_brings_no_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["xyzzy"], ["worker", "--xyzzy"], ["worker", "extra"]):
        with pytest.raises(SystemExit, match="2"):
            _parsed(*arguments)
    said = capsys.readouterr().err
    assert "Did you mean" not in said
    assert "there is no command 'xyzzy'. --help lists all commands" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["why", "x"], "'x' is not a whole number"),
        (["workflow", "x"], "'x' is not a whole number"),
        (["limits", "set", "api", "--concurrency=x"], "'x' is not a whole number"),
        (["limits", "set", "api", "--rate=10"], "'10': write COUNT/SECONDS, such as 10/1"),
        (["limits", "set", "api", "--rate=0/1"], "(count of Rate must be at least 1"),
        (["top", "--interval=-1"], "'-1' is not a number of seconds"),
        (["queues", "pause", "a", "--until=soon"], "+00:00 or a time from now, such as 30m, 2h or 1d"),
        (["queues", "pause", "a", "--until=9999999999d"], "'9999999999d' is too long a time"),
        (["retry", "--since=9999999d"], "'9999999d' is too long a time"),
        (["retry", "--since=soon"], "+00:00 or a time that has passed, such as 30m, 2h or 1d"),
        (["dashboard", "--port=70000"], "'70000' is not a port: give a number from 0 to 65535"),
        (["metrics", "--port=x"], "'x' is not a whole number"),
        (["dev", "--port=-1"], "'-1' is not a port"),
    ],
)
def test_a_value_of_the_wrong_form_brings_the_right_form(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    """Also for arguments without an environment variable, whose errors argparse words by itself."""
    with pytest.raises(SystemExit, match="2"):
        _parsed(*arguments)
    assert message in capsys.readouterr().err


def _exit_status(*arguments: str) -> int:
    return subprocess.run([sys.executable, "-m", "procrastinate", *arguments], capture_output=True).returncode


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["--version"], 0),
        (["schema", "--migrations-path"], 0),
        (["healthchecks"], 1),
        (["--app=nowhere.app", "healthchecks"], 1),
        ([], 2),
        (["nonsense"], 2),
        (["defer", "task", "not JSON"], 2),
        (["worker", "--concurrency=0"], 2),
    ],
)
def test_exit_statuses(monkeypatch: pytest.MonkeyPatch, arguments: list[str], status: int) -> None:
    """0: done; 1: it failed; 2: it was not understood."""
    monkeypatch.delenv("PROCRASTINATE_APP", raising=False)
    assert _exit_status(*arguments) == status
