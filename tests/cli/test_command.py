"""The command, as a process."""

from __future__ import annotations

import json
import pathlib
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request

import psycopg
import pytest
import sqlalchemy as sa

import procrastinate
from procrastinate.schema import SchemaManager
from tests.cli.command import DEADLINE, Command
from tests.database import libpq_url


@pytest.fixture
def command(database_url: str) -> Command:
    """On a migrated database."""
    return Command(database_url)


@pytest.fixture
def command_without_schema(empty_database_url: str) -> Command:
    """On an empty database."""
    return Command(empty_database_url)


NOWHERE = Command("postgresql+psycopg://me:hunter2@/none?host=/nowhere")


def test_healthchecks_say_what_is_right(command: Command) -> None:
    """In three lines."""
    assert command.run("healthchecks").stdout.splitlines() == [
        "App configuration: OK",
        "DB connection: OK",
        "Found procrastinate_jobs table: OK",
    ]


SLOW = {
    "alembic",
    "croniter",
    "procrastinate.worker.worker",
    "sqlalchemy.ext.asyncio",
    "sqlalchemy.orm",
    "watchfiles",
}
FOR_HEALTHCHECKS = {
    f"procrastinate.core.{name}"
    for name in (
        "_homes",
        "applied_revisions",
        "blocked_loops",
        "channels",
        "defaults",
        "enums",
        "errors",
        "health",
        "job_states",
        "lock_timeouts",
        "operation_marks",
        "rows",
        "session_settings",
        "stored_json",
        "tables",
        "together",
        "tries",
        "unique_keys",
        "watchers",
        "worker_session",
        "workers_of_host",
        "workflow_rows",
    )
}


def test_healthchecks_load_only_what_they_need(database_url: str) -> None:
    """A probe runs them every minute for each worker, so their processor time counts."""
    program = (
        "import sys\n"
        "import argparse\n"
        "import procrastinate\n"
        "app = procrastinate.App(connector=sys.argv[1])\n"
        "from procrastinate.cli.healthchecks import healthchecks_command\n"
        "import procrastinate.cli\n"
        "healthchecks_command(app, argparse.Namespace(worker=None))\n"
        "print(*sys.modules)"
    )
    arguments = [sys.executable, "-c", program, database_url]
    printed = subprocess.run(arguments, capture_output=True, text=True, check=True, timeout=DEADLINE).stdout
    loaded = set(printed.splitlines()[-1].split())
    assert loaded & SLOW == set()
    # The modules of core build their statements when they are imported.
    statements = {name for name in loaded if name.startswith("procrastinate.core.")} - FOR_HEALTHCHECKS
    assert statements == set()


OF_LIMITS_AND_WORKFLOWS = {
    f"procrastinate.core.{name}"
    for name in (
        "admit",
        "create_workflows",
        "decide_steps",
        "finish_groups",
        "hold_offs",
        "limit_sweep",
        "limits",
        "line_sweep",
        "lines",
        "lost_steps",
        "rates",
        "share",
        "turns",
    )
}


def test_a_worker_without_limits_and_workflows_loads_none_of_their_statements(database_url: str) -> None:
    """They are a quarter of what a worker loads before its first job."""
    program = (
        "import sys\n"
        "import procrastinate\n"
        "app = procrastinate.App(connector=sys.argv[1])\n"
        "@app.task(name='run')\n"
        "def run() -> None: ...\n"
        "with app.open():\n"
        "    run.defer()\n"
        "app.run_worker(wait=False)\n"
        "print(*sys.modules)"
    )
    arguments = [sys.executable, "-c", program, database_url]
    printed = subprocess.run(arguments, capture_output=True, text=True, check=True, timeout=DEADLINE).stdout
    loaded = set(printed.splitlines()[-1].split())
    assert "procrastinate.core.finish" in loaded, "the worker has recorded no job"
    assert loaded & OF_LIMITS_AND_WORKFLOWS == set()


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_a_command_that_uses_no_database_loads_no_library(option: str) -> None:
    """Loading SQLAlchemy and psycopg takes ten times as long as the rest."""
    program = (
        "import atexit, sys\n"
        "atexit.register(lambda: print(*sys.modules))\n"
        "from procrastinate.cli import main\n"
        "sys.exit(main())"
    )
    ended = subprocess.run([sys.executable, "-c", program, option], capture_output=True, text=True, timeout=DEADLINE)
    loaded = set(ended.stdout.splitlines()[-1].split())
    assert "procrastinate.cli.main" in loaded
    assert (
        loaded & {"sqlalchemy", "psycopg", "procrastinate.app", "procrastinate.core", "procrastinate.worker"} == set()
    )


def test_the_garbage_collector_runs_when_the_command_does(database_url: str) -> None:
    """It pauses only while modules are loaded, and then passes these by."""
    program = (
        "import gc, sys, procrastinate\n"
        "from procrastinate.cli import main\n"
        "app = procrastinate.App(connector=sys.argv.pop())\n"
        "app.check_connection = lambda: print(gc.isenabled(), gc.get_freeze_count() > 0)\n"
        "sys.modules['shop'] = sys.modules['__main__']\n"
        "sys.exit(main())"
    )
    arguments = [sys.executable, "-c", program, "--app=shop.app", "healthchecks", database_url]
    printed = subprocess.run(arguments, capture_output=True, text=True, check=True, timeout=DEADLINE).stdout
    assert "True True" in printed.splitlines()


def test_healthchecks_say_what_is_missing(command_without_schema: Command) -> None:
    """And what to do about it."""
    failed = command_without_schema.run("healthchecks", check=False)
    assert failed.returncode == 1
    assert "DB connection: OK" in failed.stdout
    assert "procrastinate schema --apply" in failed.stderr


def test_a_schema_that_a_newer_release_has_applied(command: Command, connection: sa.Connection) -> None:
    """A warning of the health checks; nothing that could be applied."""
    connection.execute(sa.text("UPDATE procrastinate_alembic_version SET version_num = 'procrastinate_9999'"))
    assert "WARNING" in command.run("healthchecks").stderr
    failed = command.run("schema", "--apply", check=False)
    assert failed.returncode == 1
    assert "procrastinate_9999, which this release does not know" in failed.stderr
    assert "Can't locate revision" not in failed.stderr


def test_a_database_that_is_down(command: Command) -> None:
    """Is an error with its reason, and without a password or a traceback."""
    failed = NOWHERE.run("healthchecks", check=False)
    assert failed.returncode == 1
    assert "/nowhere" in failed.stderr
    assert "hunter2" not in failed.stdout + failed.stderr
    assert "Traceback" not in failed.stderr
    assert "Traceback" in NOWHERE.run("-v", "healthchecks", check=False).stderr


@pytest.mark.parametrize(
    ("app", "reason"),
    [
        ("", "--app"),
        ("shop", "package.module.name"),
        ("tests.cli.nothing.app", "No module named 'tests.cli.nothing'"),
        ("tests.cli.shop.nothing", "has no 'nothing'"),
        ("tests.cli.shop.not_an_app", "not App"),
    ],
)
def test_an_app_that_is_not_there(app: str, reason: str) -> None:
    """Is an error with its reason."""
    failed = NOWHERE.run("healthchecks", check=False, APP=app)
    assert failed.returncode == 1
    assert reason in failed.stderr
    assert "Traceback" not in failed.stderr


@pytest.mark.parametrize("words", ["defer add", "workflow 1", "shell list_jobs"])
def test_a_command_that_waits_for_the_database_says_so(command: Command, engine: sa.Engine, words: str) -> None:
    with engine.begin() as holder:
        holder.execute(sa.text("LOCK TABLE procrastinate_jobs, procrastinate_workflows IN ACCESS EXCLUSIVE MODE"))
        process = command.start(*words.split())
        assert process.stderr is not None
        assert any("Waiting for the database" in line for line in process.stderr)
    output, errors = process.communicate(timeout=DEADLINE)
    if words == "defer add":
        assert (process.returncode, output[:12]) == (0, "Deferred job"), errors


def test_the_schema_is_applied_by_two_processes_at_once(command_without_schema: Command) -> None:
    """One does it, and the other finds it done."""
    processes = [command_without_schema.start("schema", "--apply") for _ in range(2)]
    for process in processes:
        _, errors = process.communicate(timeout=DEADLINE)
        assert process.returncode == 0, errors
    command_without_schema.run("healthchecks")
    assert command_without_schema.run("schema", "--apply").stdout.endswith("The schema was up to date\n")


def test_the_command_says_that_it_has_applied_the_schema(command_without_schema: Command) -> None:
    assert command_without_schema.run("schema", "--apply").stdout.endswith("The schema is applied\n")


def test_the_schema_command_without_an_action_changes_nothing(command_without_schema: Command) -> None:
    failed = command_without_schema.run("schema", check=False)
    assert failed.returncode == 1
    assert "--apply" in failed.stderr
    assert command_without_schema.run("healthchecks", check=False).returncode == 1


def test_the_schema_is_printed_without_an_app(empty_database_url: str) -> None:
    """The SQL makes the tables."""
    printed = NOWHERE.run("schema", "--read", APP="").stdout
    with psycopg.connect(libpq_url(empty_database_url), autocommit=True) as connection:
        connection.execute(printed.encode())
    Command(empty_database_url).run("healthchecks")
    assert NOWHERE.run("schema", "--migrations-path", APP="").stdout.strip() == SchemaManager.get_migrations_path()


def test_a_job_is_deferred_and_run(command: Command) -> None:
    """By name, by path; with the app's own options for the worker."""
    assert "Deferred job 1: add" in command.run("defer", "add", '{"a": 2}').stdout
    command.run("defer", "--queueing-lock=other", "tests.cli.shop.add", '{"a": 3}')
    worker = command.run("worker", "--one-shot", LOG_FORMAT="{name}|{message}", LOG_FORMAT_STYLE="{")
    assert worker.stdout.splitlines() == ["sum 3", "sum 4"]
    assert "procrastinate.worker.from the app|" in worker.stderr


def test_a_taken_queueing_lock(command: Command) -> None:
    """Is a failure, unless it is ignored."""
    command.run("defer", "add")
    failed = command.run("defer", "add", check=False)
    assert failed.returncode == 1
    assert "adding" in failed.stderr
    assert "adding" in command.run("defer", "--ignore-already-enqueued", "add").stderr
    command.run("defer", "add", DEFER_IGNORE_ALREADY_ENQUEUED="1")
    command.run("defer", "add", DEFER_QUEUEING_LOCK="another")


def test_an_unknown_task(command: Command) -> None:
    """Is refused, unless it is allowed."""
    failed = command.run("defer", "nothing", check=False)
    assert failed.returncode == 1
    assert "'nothing' is not registered" in failed.stderr
    command.run("defer", "--unknown", "nothing")


def test_a_worker_stops_gracefully_when_it_is_told_to(command: Command) -> None:
    """The running job ends first."""
    command.run("defer", "wait")
    worker = command.start("worker")
    try:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "waiting\n"
        worker.send_signal(signal.SIGTERM)
        printed, errors = worker.communicate(timeout=DEADLINE)
    finally:
        worker.kill()
    assert (worker.returncode, printed) == (0, "waited\n"), errors
    assert "[succeeded]" in command.run("shell", "list_jobs").stdout


@pytest.mark.parametrize(
    ("arguments", "levels"),
    [
        ((), {"INFO"}),
        (("-v",), {"INFO", "DEBUG"}),
        (("--log-level=debug",), {"INFO", "DEBUG"}),
        (("--log-level=error",), set()),
    ],
)
def test_what_is_logged(command: Command, arguments: tuple[str, ...], levels: set[str]) -> None:
    """As much as is asked for."""
    logged = command.run(*arguments, "worker", "--one-shot").stderr
    assert {line.split()[2] for line in logged.splitlines() if line.startswith("20")} == levels


def test_a_log_line_has_its_time_and_the_name_of_the_worker_once(command: Command) -> None:
    logged = command.run("worker", "--one-shot", WORKER_NAME="worker").stderr
    lines = [line for line in logged.splitlines() if "Starting worker" in line]
    assert [
        bool(re.match(r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d,\d+ INFO +procrastinate\.worker ", line)) for line in lines
    ] == [True]


@pytest.mark.parametrize("style", ["{", "$"])
def test_a_style_without_a_format_has_a_format(command: Command, style: str) -> None:
    assert "INFO" in command.run("worker", "--one-shot", LOG_FORMAT_STYLE=style).stderr


def test_the_environment_says_how_much_is_logged(command: Command) -> None:
    """As the command line does."""
    assert "DEBUG " in command.run("worker", "--one-shot", VERBOSE="1").stderr
    assert "DEBUG " not in command.run("worker", "--one-shot", VERBOSE="0").stderr
    assert "INFO " not in command.run("worker", "--one-shot", LOG_LEVEL="warning").stderr


def test_the_version() -> None:
    """Is the package's."""
    assert NOWHERE.run("--version").stdout.strip() == f"procrastinate, version {procrastinate.__version__}"


def test_output_may_be_cut_short(command: Command) -> None:
    """By ``head``, say."""
    shell = command.start("shell")
    assert shell.stdout is not None
    shell.stdout.close()
    assert shell.stdin is not None
    with shell.stdin:
        shell.stdin.write("help\n" * 2000)
    assert shell.stderr is not None
    with shell.stderr:
        assert "Traceback" not in shell.stderr.read()
    assert shell.wait(DEADLINE) in (0, 1)


def test_the_installed_command() -> None:
    """Is the same."""
    program = pathlib.Path(sys.executable).with_name("procrastinate")
    finished = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == f"procrastinate, version {procrastinate.__version__}"


@pytest.mark.parametrize("options", [["--log-format=json"], []], ids=["option", "variable"])
def test_a_worker_logs_one_json_object_a_line(command: Command, options: list[str]) -> None:
    command.run("defer", "log")
    environment = {} if options else {"LOG_FORMAT": "json"}
    stderr = command.run(*options, "worker", "--one-shot", "--no-uvloop", **environment).stderr
    lines = [json.loads(line) for line in stderr.splitlines()]
    (inside,) = (line for line in lines if line["logger"] == "a_program")
    (failed,) = (line for line in lines if line.get("extra", {}).get("action") == "job_error")
    of_job = {"job_id": 1, "task": "log", "queue": "default", "attempt": 1, "worker_name": "from the app"}
    assert inside.items() >= (of_job | {"message": "in\nside", "extra": {"password": "[Filtered]"}}).items()
    assert failed.items() >= of_job.items()
    assert failed["exception"]["type"] == "ValueError"
    assert "hunter2" not in stderr


def test_a_log_format_shows_the_job(command: Command) -> None:
    command.run("defer", "log")
    stderr = command.run("--log-format=<%(task)s %(job_id)s> %(message)s", "worker", "--one-shot").stderr
    assert "<log 1> in" in stderr
    assert "<None None> Stopped worker" in stderr


def test_metrics_are_served_until_a_signal(command: Command) -> None:
    command.run("defer", "add")
    serving = command.start("metrics", "--port=0", METRICS_TOKEN="secret")
    try:
        assert serving.stderr is not None
        url = serving.stderr.readline().split()[1]
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(url, timeout=DEADLINE)
        request = urllib.request.Request(url, headers={"Authorization": "Bearer secret"})
        with urllib.request.urlopen(request, timeout=DEADLINE) as reply:
            assert b'procrastinate_queue_jobs{queue="default",state="ready"} 1' in reply.read()
    finally:
        serving.send_signal(signal.SIGINT)
        serving.communicate(timeout=DEADLINE)
    assert serving.returncode == 130


def test_metrics_for_other_machines_need_a_token(command: Command) -> None:
    failed = command.run("metrics", "--host=0.0.0.0", "--port=0", check=False)
    assert failed.returncode == 1
    assert "set PROCRASTINATE_METRICS_TOKEN, or add --public" in failed.stderr


def test_an_error_says_the_text_of_its_cause_once() -> None:
    arguments = [sys.executable, "-m", "procrastinate", "--app=no_such_module.app", "check"]
    ended = subprocess.run(arguments, capture_output=True, text=True, timeout=DEADLINE)
    assert (ended.returncode, ended.stderr.count("No module named")) == (1, 1)


@pytest.mark.parametrize(
    "arguments", [["healthchecks"], ["worker", "--one-shot"], ["worker", "--one-shot", "--processes", "2"]], ids=str
)
def test_a_command_needs_neither_standard_streams_nor_a_working_directory(
    command: Command, arguments: list[str], tmp_path: pathlib.Path
) -> None:
    """A program that starts it may have closed the streams, and a deployment may have removed the directory."""
    ended = command.run_in_shell("{command} 0<&- 1>&- 2>&-", *arguments)
    assert ended.returncode == 0
    gone = tmp_path / "gone"
    gone.mkdir()
    ended = command.run_in_shell(f"cd {gone} && rmdir {gone} && {{command}}", *arguments)
    assert ended.returncode == 0, ended.stderr
