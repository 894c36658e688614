"""The shell's commands on a queue with some jobs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import procrastinate
from procrastinate import shell as shell_module
from procrastinate.job_context import JobContext
from procrastinate.shell import ProcrastinateShell, ShellError
from tests.cli.command import Command


@pytest.fixture
def app(database_url: str) -> Iterator[procrastinate.App]:
    """Return an app with three jobs, one of them cancelled."""
    app = procrastinate.App(connector=database_url)
    with app.open():
        app.configure_task("first", lock="l", queueing_lock="ql").defer(a=1)
        app.configure_task("second", queue="other", priority=5).defer()
        app.job_manager.cancel_job_by_id(app.configure_task("first").defer())
        yield app


@pytest.fixture
def shell(app: procrastinate.App) -> ProcrastinateShell:
    """Return a shell on the app's jobs."""
    return ProcrastinateShell(app.job_manager)


Capture = pytest.CaptureFixture[str]


@pytest.mark.parametrize(
    ("line", "printed"),
    [
        (
            "list_jobs",
            ["#1 first on default - [todo]", "#2 second on other - [todo]", "#3 first on default - [cancelled]"],
        ),
        ("list_jobs id=2", ["#2 second on other - [todo]"]),
        ("list_jobs queue=default status=todo", ["#1 first on default - [todo]"]),
        ("list_jobs task=second", ["#2 second on other - [todo]"]),
        ("list_jobs queueing_lock=ql", ["#1 first on default - [todo]"]),
        (
            "list_jobs lock=l details",
            [
                "#1 first on default - [todo] "
                "(attempts=0, priority=0, scheduled_at=None, args={'a': 1}, lock=l, queueing_lock=ql)"
            ],
        ),
        ("list_jobs lock=none", []),
        ("list_jobs limit=1 after=1", ["#2 second on other - [todo]"]),
        (
            "list_jobs limit=3",
            ["#1 first on default - [todo]", "#2 second on other - [todo]", "#3 first on default - [cancelled]"],
        ),
        ("list_jobs limit=0", []),
        (
            "list_queues",
            [
                "default: 2 jobs (todo: 1, doing: 0, succeeded: 0, failed: 0, cancelled: 1, aborted: 0)",
                "other: 1 jobs (todo: 1, doing: 0, succeeded: 0, failed: 0, cancelled: 0, aborted: 0)",
            ],
        ),
        (
            "list_tasks queue=other",
            ["second: 1 jobs (todo: 1, doing: 0, succeeded: 0, failed: 0, cancelled: 0, aborted: 0)"],
        ),
        ("list_locks lock=l", ["l: 1 jobs (todo: 1, doing: 0, succeeded: 0, failed: 0, cancelled: 0, aborted: 0)"]),
        ("cancel 2", ["#2 second on other - [cancelled]"]),
        ("", []),
    ],
)
def test_commands(shell: ProcrastinateShell, capsys: Capture, line: str, printed: list[str]) -> None:
    """Each job, queue, task or lock gets one line."""
    shell.run_one(line)
    assert capsys.readouterr().out.splitlines() == printed


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("list_jobs colour=red", "'colour=red' is not understood"),
        ("list_jobs todo", "'todo' is not understood"),
        ("list_jobs status=done", "'done' is not a valid Status"),
        ("list_jobs id=first", "'first' is not the id of a job"),
        ("list_jobs limit=many", "limit=many is not understood"),
        ("list_jobs queue=a queue=b", "queue is given twice"),
        ("help dance", "There is no command 'dance'"),
        ("list_queues id=1", "'id=1' is not understood"),
        ("cancel", "'' is not the id of a job"),
        ("cancel 3", "Job 3 does not wait: it is cancelled"),
        ("cancel 99", "no job 99"),
        ("retry 99", "99"),
        ("retry 1", "neither failed nor running"),
        ("dance", "There is no command 'dance'"),
    ],
)
def test_wrong_commands_are_refused_and_the_shell_goes_on(
    shell: ProcrastinateShell, capsys: Capture, line: str, message: str
) -> None:
    """The interactive shell prints the error, and `run_one()` raises it."""
    assert not shell.onecmd(line)
    assert message in capsys.readouterr().err
    with pytest.raises((procrastinate.exceptions.ProcrastinateException, ValueError), match=message):
        shell.run_one(line)


async def test_a_failed_job_is_retried(app: procrastinate.App, capsys: Capture) -> None:
    """The job waits again."""
    async with app.open_async():
        await app.run_worker_async(wait=False, queues=["other"], install_signal_handlers=False, unknown_task_timeout=0)
    shell = ProcrastinateShell(app.job_manager)
    shell.run_one("list_jobs id=2")
    shell.run_one("retry 2")
    assert capsys.readouterr().out.splitlines() == ["#2 second on other - [failed]", "#2 second on other - [todo]"]


def test_long_lists_come_in_pages(app: procrastinate.App, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """No job is missing or listed twice."""
    monkeypatch.setattr(shell_module, "_PAGE", 2)
    app.configure_task("many").batch_defer(*({"n": n} for n in range(4)))
    ProcrastinateShell(app.job_manager).run_one("list_jobs")
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [f"#{n}" for n in range(1, 8)]


def test_a_limited_list_says_how_to_go_on(app: procrastinate.App, shell: ProcrastinateShell, capsys: Capture) -> None:
    shell.run_one("list_jobs limit=2")
    assert "after=2 goes on" in capsys.readouterr().err
    shell.run_one("list_jobs limit=2 after=2")
    assert capsys.readouterr().err == ""


def test_a_terminal_gets_a_hundred_jobs_at_a_time(
    app: procrastinate.App, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shell_module, "is_terminal", lambda stream: True)
    app.configure_task("many").batch_defer(*({"n": n} for n in range(98)))
    shell = ProcrastinateShell(app.job_manager)
    shell.run_one("list_jobs")
    printed = capsys.readouterr()
    assert (len(printed.out.splitlines()), "after=100 goes on" in printed.err) == (101, True)
    shell.run_one("list_jobs limit=all")
    printed = capsys.readouterr()
    assert (len(printed.out.splitlines()), printed.err) == (102, "")


def test_help_describes_every_command(shell: ProcrastinateShell, capsys: Capture) -> None:
    shell.run_one("help")
    lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    described = {words[0]: words[1] for words in lines}
    assert {"list_jobs", "result", "retry", "cancel", "quit", "exit", "help"} <= described.keys()
    shell.run_one("help list_jobs")
    assert "limit=" in capsys.readouterr().out


@pytest.mark.parametrize("word", ["quit", "exit", "EOF"])
def test_the_shell_can_be_left_by_several_words(shell: ProcrastinateShell, word: str) -> None:
    assert shell.onecmd(word)


def test_on_a_terminal_there_are_tables(
    app: procrastinate.App, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table has a header and a coloured status."""
    monkeypatch.setattr(shell_module, "is_terminal", lambda stream: True)
    monkeypatch.setenv("COLUMNS", "200")
    shell = ProcrastinateShell(app.job_manager)
    shell.run_one("list_jobs")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "\x1b[1mID  TASK    QUEUE    STATUS\x1b[0m"
    assert lines[1] == "1   first   default  todo"
    assert lines[3] == "\x1b[2m3   first   default  cancelled\x1b[0m"
    shell.run_one("list_queues")
    assert "JOBS_COUNT" in capsys.readouterr().out
    shell.run_one("list_jobs lock=none")
    shell.run_one("list_queues queue=none")


def test_the_shell_as_a_command(database_url: str) -> None:
    """With an argument, the shell runs that command. Without one, it reads commands from its input."""
    command = Command(database_url)
    command.run("defer", "add", '{"a": 7}')
    assert "#1 add on default - [todo]" in command.run("shell", "list_jobs", "queue=default").stdout
    failed = command.run("shell", "list_jobs", "colour=red", check=False)
    assert (failed.returncode, "colour=red" in failed.stderr) == (1, True)
    interactive = command.start("shell")
    printed, errors = interactive.communicate("list_jobs details\ndance\ncancel 1\nexit\n", timeout=60)
    assert "args={'a': 7}" in printed
    assert "[cancelled]" in printed
    assert "no command 'dance'" in errors
    assert interactive.returncode == 0


def test_shell_errors_are_this_projects() -> None:
    """A caller can catch them as `ProcrastinateException`."""
    assert issubclass(ShellError, procrastinate.exceptions.ProcrastinateException)


def test_the_result_of_a_job(app: procrastinate.App, shell: ProcrastinateShell, capsys: Capture) -> None:
    @app.task(name="divide", store_result=True, retry=1, pass_context=True)
    def divide(context: JobContext, by: int) -> dict[str, float]:
        if context.job.attempts == 0:
            raise ValueError("on purpose")
        return {"half": 1 / by}

    job_id = divide.defer(by=2)
    app.run_worker(wait=False, listen_notify=False, queues=["default"], install_signal_handlers=False)
    with app.open():
        shell.onecmd(f"result {job_id}")
    printed = capsys.readouterr().out
    assert printed.startswith(
        f'#{job_id} divide on default - [succeeded]\nReturned: {{"half": 0.5}}\n\nAttempt 1 on worker'
    )
    assert printed.endswith('      raise ValueError("on purpose")\n  ValueError: on purpose\n')
