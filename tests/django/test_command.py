"""``manage.py procrastinate``, run in its own processes."""

from __future__ import annotations

import os
import pathlib
import re
import signal
import subprocess
import sys

import pytest
import sqlalchemy as sa

from procrastinate.cli.sub_commands import SUB_COMMANDS
from tests.django.support import ROOT, SETTINGS, manage, run_ok, run_program


def _defer(url: str, *arguments: str) -> str:
    return run_ok("procrastinate", "defer", *arguments, url=url)


def _statuses(url: str) -> list[str]:
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        return list(connection.scalars(sa.text("SELECT status::text FROM procrastinate_jobs ORDER BY id")))


def test_defer_and_work(project_url: str) -> None:
    """A task is deferred by name, by path, and with options."""
    assert "Deferred job 1" in _defer(project_url, "shop.fail")
    _defer(project_url, "tests.django.shop.tasks.ship", '{"order_id": 1}', "--queue", "other", "--lock", "a")
    _defer(project_url, "elsewhere.task", "--unknown", "--in", "3600")
    done = manage("procrastinate", "worker", "--one-shot", "--concurrency", "2", url=project_url)
    assert done.returncode == 0, done.stderr
    assert "on purpose" in done.stderr
    assert _statuses(project_url) == ["failed", "succeeded", "todo"]


def test_errors_are_one_line(project_url: str) -> None:
    """Errors come without a traceback."""
    done = manage("procrastinate", "defer", "unknown", url=project_url)
    assert done.returncode == 1
    assert done.stderr.startswith("CommandError: Task 'unknown' is not registered")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "suggestion"),
    [(["worke"], "Did you mean worker?"), (["worker", "--concurency=3"], "Did you mean --concurrency?")],
)
def test_an_unknown_word_brings_a_suggestion(arguments: list[str], suggestion: str) -> None:
    done = manage("procrastinate", *arguments, url="postgresql:///none?host=/nowhere")
    assert (done.returncode, suggestion in done.stderr) == (2, True), done.stderr


def test_a_worker_stops_gracefully(project_url: str) -> None:
    """SIGTERM stops the worker."""
    worker = subprocess.Popen(
        [sys.executable, "-m", "django", "procrastinate", "worker"],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
            "DJANGO_SETTINGS_MODULE": SETTINGS,
            "TEST_DATABASE_URL": project_url,
        },
        stderr=subprocess.PIPE,
        text=True,
    )
    assert worker.stderr is not None
    described = worker.stderr.readline()
    assert "on default (host=" in described
    assert any("Starting worker on all queues" in line for line in worker.stderr)
    worker.send_signal(signal.SIGTERM)
    _, rest = worker.communicate(timeout=30)
    assert "Stopped worker" in rest
    assert worker.returncode == 0


def test_worker_processes(project_url: str) -> None:
    """The settings give the number of processes with the same command line."""
    for order in range(6):
        _defer(project_url, "tests.django.shop.tasks.ship", f'{{"order_id": {order}}}')
    environment = {"PROCRASTINATE_WORKER_PROCESSES": "2"}
    done = manage("procrastinate", "worker", "--one-shot", "--name=django", url=project_url, **environment)
    assert done.returncode == 0, done.stderr
    assert _statuses(project_url) == ["succeeded"] * 6
    for number in (1, 2):
        assert f"procrastinate.worker.django.{number} Stopped worker" in done.stderr


def test_worker_processes_that_cannot_start(empty_database_url: str) -> None:
    """Such processes are not restarted, and the command fails."""
    done = manage("procrastinate", "worker", "--processes=2", "--no-wait-for-schema", url=empty_database_url)
    assert done.returncode == 1
    assert "CommandError: Worker process" in done.stderr
    assert "could not start (exit code 1)" in done.stderr


def test_healthchecks(project_url: str) -> None:
    """The output has four lines."""
    assert run_ok("procrastinate", "healthchecks", url=project_url).splitlines() == [
        "Database connection: OK",
        "Migrations: OK",
        "Default Django Procrastinate App: OK",
        "Worker App: OK",
    ]


def test_the_health_check_of_a_worker_says_that_none_runs_here(project_url: str) -> None:
    done = manage("procrastinate", "healthchecks", "--worker", url=project_url)
    assert done.returncode == 1
    assert "CommandError: No worker of this host" in done.stderr


def test_healthchecks_of_a_database_that_is_not_migrated(empty_database_url: str) -> None:
    """The message names the command to run."""
    done = manage("procrastinate", "healthchecks", url=empty_database_url)
    assert done.returncode == 1
    assert done.stdout == "Database connection: OK\n"
    assert re.search(r"Migrations: \d+ not applied \(1000_tables to 1\d+_\w+\)\. Run: manage.py migrate", done.stderr)


@pytest.mark.parametrize("name", ["dashboard", "metrics"])
def test_ctrl_c_ends_a_server_without_a_traceback(project_url: str, name: str) -> None:
    server = subprocess.Popen(
        [sys.executable, "-m", "django", "procrastinate", name, "--port=0"],
        env={**os.environ, "DJANGO_SETTINGS_MODULE": SETTINGS, "TEST_DATABASE_URL": project_url},
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    with server:
        assert server.stderr is not None
        assert "http://" in server.stderr.readline()
        server.send_signal(signal.SIGINT)
        said = server.stderr.read()
    assert (server.returncode, said) == (130, "")


def test_healthchecks_of_a_schema_that_a_newer_release_has_migrated(project_url: str) -> None:
    """The command prints a warning."""
    engine = sa.create_engine(project_url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE procrastinate_alembic_version SET version_num = 'procrastinate_9999'"))
    done = manage("procrastinate", "healthchecks", url=project_url)
    assert done.returncode == 0
    assert "procrastinate_9999, which this release does not know" in done.stderr
    assert done.stdout.endswith("Worker App: OK\n")


def test_healthchecks_of_a_database_that_is_away() -> None:
    """The command reports that the database cannot be reached."""
    done = manage("procrastinate", "healthchecks", url="postgresql://user@/none?host=/nowhere")
    assert done.returncode == 1
    assert done.stderr.startswith("CommandError: The database cannot be reached")


def test_shell(project_url: str) -> None:
    """With an argument, the shell runs that command and ends."""
    _defer(project_url, "shop.fail")
    assert "shop.fail" in run_ok("procrastinate", "shell", "list_jobs", url=project_url)
    run_ok("procrastinate", "shell", "cancel", "1", url=project_url)
    assert _statuses(project_url) == ["cancelled"]


def test_settings_that_are_wrong_stop_every_command(project_url: str) -> None:
    """Django's system checks stop the command."""
    done = manage("procrastinate", "worker", url=project_url, settings="tests.django.project.settings_wrong")
    assert done.returncode == 1
    assert "procrastinate.E002" in done.stderr


COMMANDS = [
    ("worker", "--one-shot"),
    ("defer", "shop.fail"),
    ("shell", "list_jobs"),
    ("healthchecks",),
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_djangos_own_options_come_before_the_sub_command_or_after_it(
    project_url: str, tmp_path: pathlib.Path, command: tuple[str, ...]
) -> None:
    """The command line alone names settings from elsewhere on the path."""
    (tmp_path / "elsewhere.py").write_text(f"from {SETTINGS} import *\n")
    own = ("--settings", "elsewhere", "--pythonpath", str(tmp_path), "--traceback", "--no-color", "-v", "2")
    for arguments in ((*own, *command), (*command, *own), (*command, "--skip-checks", "--verbosity=0", *own[:4])):
        run_ok("procrastinate", *arguments, url=project_url, settings="no_such_settings")


def test_traceback_after_the_sub_command_shows_it(project_url: str) -> None:
    """Django's own commands do the same."""
    done = manage("procrastinate", "defer", "unknown", "--traceback", url=project_url)
    assert done.returncode == 1
    assert "Traceback (most recent call last)" in done.stderr


@pytest.mark.parametrize(
    "arguments", [("-v0", "worker"), ("worker", "-v0"), ("worker", "--verbosity", "0")], ids=" ".join
)
def test_verbosity_before_the_sub_command_or_after_it(project_url: str, arguments: tuple[str, ...]) -> None:
    """At verbosity 0, a worker logs only warnings and errors."""
    done = manage("procrastinate", *arguments, "--one-shot", url=project_url)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_project_has_each_sub_command_of_a_plain_program_with_its_help() -> None:
    shown = run_ok("procrastinate", "--help")
    assert [command.name for command in SUB_COMMANDS if f"\n    {command.name} " not in shown] == []
    for name in ("worker", "celery-schedule", "metrics", "import_django_tasks"):
        assert "usage:" in run_ok("procrastinate", name, "--help")
    assert "Print a schedule of Celery" in run_ok("procrastinate", "celery-schedule", "--help")


def test_a_sub_command_loads_no_module_of_another() -> None:
    program = (
        "import sys\n"
        "from django.core.management import execute_from_command_line\n"
        "try: execute_from_command_line(['manage.py', 'procrastinate', 'why', '--help'])\n"
        "finally: print(*sys.modules)"
    )
    done = run_program(program)
    assert "procrastinate.cli.why" in done
    others = {f"procrastinate.cli.{command.module}" for command in SUB_COMMANDS} - {"procrastinate.cli.why"}
    assert others & set(done.split()) == set()


def test_a_program_calls_a_sub_command_with_its_options_by_name(project_url: str) -> None:
    _defer(project_url, "shop.fail")
    program = (
        "import django; django.setup()\n"
        "from django.core.management import call_command\n"
        "call_command('procrastinate', 'worker', wait=False, concurrency=2)"
    )
    run_program(program, url=project_url)
    assert _statuses(project_url) == ["failed"]


def test_the_project_prints_what_a_job_logged(project_url: str) -> None:
    _defer(project_url, "shop.fail")
    assert "has kept no log" in manage("procrastinate", "logs", "1", url=project_url).stderr


def test_the_doctor_examines_the_project(project_url: str) -> None:
    done = manage("procrastinate", "doctor", url=project_url)
    assert done.returncode == 3, done.stderr
    assert done.stdout.startswith("fault   no-worker: ")
    assert "schema-" not in done.stdout


def test_jobs_that_do_not_fit_the_code_are_reported_by_both_checks(project_url: str) -> None:
    _defer(project_url, "shop.gone", "--unknown")
    done = manage("procrastinate", "check", url=project_url)
    assert done.returncode == 1
    assert done.stdout.startswith("task-unknown: shop.gone: 1 job (first 1)")
    warned = manage("check", "--database", "default", "--fail-level", "WARNING", url=project_url)
    assert warned.returncode == 1
    assert "(procrastinate.W002) shop.gone: 1 job (first 1)" in warned.stderr
    assert "W002" not in manage("check", url=project_url).stderr
    assert manage("migrate", url=project_url).returncode == 0


def test_a_reader_that_exits_early_sees_no_traceback(project_url: str) -> None:
    """As with ``head``. The pipe has no reader when the command writes."""
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as output:
        done = subprocess.run(
            [sys.executable, "-m", "django", "procrastinate", "queues"],
            cwd=ROOT,
            env={**os.environ, "DJANGO_SETTINGS_MODULE": SETTINGS, "TEST_DATABASE_URL": project_url},
            stdout=output,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stderr) == (1, "")
