"""``procrastinate retry`` and ``procrastinate cancel``."""

from __future__ import annotations

import json
import threading
import time

import pytest
import sqlalchemy as sa

from procrastinate import App
from procrastinate.cli import main
from procrastinate.core import Status, bulk

FAILED = """
INSERT INTO procrastinate_jobs (queue_name, task_name, status, finished_at)
SELECT 'mail', CASE WHEN n <= 3 THEN 'send' ELSE 'other' END, 'failed', now() - n * interval '1 hour'
FROM generate_series(1, 5) AS n
"""
ERRORS = """
INSERT INTO procrastinate_errors (job_id, attempt, exception_class, message, traceback)
SELECT id, 1, CASE WHEN mod(id, 2) = 0 THEN 'shop.Refused' ELSE 'builtins.ValueError' END, 'no', ''
FROM procrastinate_jobs
"""


@pytest.fixture
def app(database_url: str, engine: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> App:
    """Return an app that the command finds, on a database with five failed jobs."""
    with engine.begin() as connection:
        connection.exec_driver_sql(FAILED)
        connection.exec_driver_sql(ERRORS)
    monkeypatch.setenv("TESTS_CLI_DATABASE_URL", database_url)
    monkeypatch.setenv("PROCRASTINATE_APP", "tests.cli.test_bulk.current")
    app = App(connector=database_url)
    monkeypatch.setitem(globals(), "current", app)
    return app


def count(app: App, status: Status) -> int:
    """Return the number of jobs with a status."""
    with app.open():
        return len(app.job_manager.list_jobs(status=status.value))


Capture = pytest.CaptureFixture[str]


def test_all_jobs_that_wait_are_cancelled_whatever_they_wait_for(app: App, engine: sa.Engine, capsys: Capture) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO procrastinate_jobs (queue_name, task_name, scheduled_at, readiness, limit_name, limit_key)"
            " VALUES ('mail', 'send', now(), 3, 'undefined', 'k'), ('mail', 'send', 'infinity', 5, NULL, NULL)"
        )
    assert count(app, Status.TODO) == 2
    assert main(["cancel", "--task", "send", "--yes"]) == 0
    assert capsys.readouterr().out == "Cancelled 2 jobs\n"
    assert count(app, Status.TODO) == 0


def test_without_yes_the_jobs_are_counted_and_not_changed(app: App, capsys: Capture) -> None:
    assert main(["retry", "--task", "send"]) == 0
    assert capsys.readouterr().out == "3 jobs match. Nothing was changed: add --yes to retry them\n"
    assert count(app, Status.FAILED) == 5


def test_a_count_that_stops_before_the_first_match_does_not_say_that_no_job_matches(
    app: App, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "REACH", 2)
    assert main(["retry", "--task", "other"]) == 0
    assert capsys.readouterr().out.startswith("No match so far, and the search stopped. Nothing was changed")
    assert main(["retry", "--task", "other", "--yes"]) == 0
    assert capsys.readouterr().out == "Retried 2 jobs\n"


@pytest.mark.parametrize("command", ["cancel", "retry"])
def test_a_command_that_finds_no_job_leaves_no_operation(app: App, capsys: Capture, command: str) -> None:
    assert main([command, "--queue", "old", "--yes"]) == 0
    assert capsys.readouterr().out.endswith(" 0 jobs\n")
    with app.open():
        assert len(app.inspect.run(bulk.load_bulk_operations)) == 0
    main([command, "--queue", "mail", "--yes"])
    with app.open():
        assert len(app.inspect.run(bulk.load_bulk_operations)) == (1 if command == "retry" else 0)


def test_all_failed_jobs_of_a_task_are_retried(app: App, capsys: Capture) -> None:
    assert main(["retry", "--task", "send", "--yes"]) == 0
    assert capsys.readouterr().out == "Retried 3 jobs\n"
    assert (count(app, Status.TODO), count(app, Status.FAILED)) == (3, 2)


@pytest.mark.parametrize(
    ("options", "matching"),
    [(["--queue", "mail"], 5), (["--error", "Refused"], 2), (["--since", "150m"], 2), (["--queue", "no"], 0)],
)
def test_jobs_are_chosen_by_queue_error_and_time(app: App, capsys: Capture, options: list[str], matching: int) -> None:
    assert main(["retry", *options, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer == {"kind": "retry", "matching": matching, "is_more": False, "changed": 0}


def test_all_waiting_jobs_of_a_queue_are_cancelled(app: App, capsys: Capture) -> None:
    with app.open():
        app.configure_task("t", queue="q").defer()
        app.configure_task("t", queue="q", schedule_in={"hours": 1}).defer()
        app.configure_task("t", queue="q", lock="k").defer()
        app.configure_task("t", queue="other").defer()
    assert main(["cancel", "--queue", "q", "--yes", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["changed"], answer["skipped"]) == (3, 0)
    assert (count(app, Status.CANCELLED), count(app, Status.TODO)) == (3, 1)


@pytest.mark.parametrize(
    ("options", "matching"), [(["--error", "Refused"], 1), (["--since", "90m"], 1), (["--since", "1d"], 3), ([], 3)]
)
def test_waiting_jobs_are_chosen_by_an_earlier_error_and_by_their_age(
    app: App, engine: sa.Engine, capsys: Capture, options: list[str], matching: int
) -> None:
    """Jobs that wait for a retry have errors. The first job is an hour old, the second two hours, and so on."""
    with app.open():
        ids = [app.configure_task("t", queue="retried").defer() for _ in range(3)]
    with engine.begin() as connection:
        for hours, job_id in enumerate(ids, start=1):
            shift = sa.text("UPDATE procrastinate_events SET at = at - :hours * interval '1 hour' WHERE job_id = :id")
            connection.execute(shift, {"hours": hours, "id": job_id})
        refused = "INSERT INTO procrastinate_errors (job_id, attempt, exception_class, message, traceback)"
        connection.execute(sa.text(f"{refused} VALUES (:id, 1, 'shop.Refused', 'no', '')"), {"id": ids[1]})
    assert main(["cancel", "--queue", "retried", *options, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["matching"] == matching
    assert main(["cancel", "--queue", "retried", *options, "--yes", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["changed"] == matching
    assert count(app, Status.CANCELLED) == matching


def test_a_time_without_a_zone_is_refused(app: App, capsys: Capture) -> None:
    with pytest.raises(SystemExit):
        main(["retry", "--since", "2030-01-01T00:00"])


def test_a_job_that_the_database_refuses_to_change_is_named_and_stops_no_other(
    app: App, engine: sa.Engine, capsys: Capture
) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE procrastinate_jobs ADD CHECK (id <> 2 OR status = 'failed')")
    assert main(["retry", "--task", "send", "--yes"]) == 0
    printed = capsys.readouterr()
    assert printed.out == "Retried 2 jobs, 1 could not be changed\n"
    assert "The database refused job 2: new row for relation" in printed.err
    assert count(app, Status.TODO) == 2


@pytest.mark.parametrize("value", ["", "  "])
@pytest.mark.parametrize(
    ("command", "option"),
    [(command, option) for command in ("retry", "cancel") for option in ("--task", "--queue", "--error")],
)
def test_an_empty_name_is_refused(app: App, capsys: Capture, command: str, option: str, value: str) -> None:
    """It is the value of an unset variable of a shell."""
    with pytest.raises(SystemExit) as ended:
        main([command, option, value, "--yes"])
    assert ended.value.code == 2
    assert f"argument {option}: it is empty" in capsys.readouterr().err
    assert count(app, Status.FAILED) == 5


@pytest.mark.parametrize("arguments", [["check", "--queues", ""], ["why", "--periodic", ""]])
def test_an_empty_name_chooses_not_everything_elsewhere(app: App, capsys: Capture, arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert f"argument {arguments[1]}: it is empty" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value"), [("--task", "send"), ("--queue", "mail"), ("--error", "Refused"), ("--since", "1d")]
)
def test_two_values_of_an_option_are_refused(app: App, capsys: Capture, option: str, value: str) -> None:
    """The last one alone would count, and the jobs of the other would stay as they are without a word."""
    with pytest.raises(SystemExit) as ended:
        main(["retry", option, value, option, value, "--yes"])
    assert ended.value.code == 2
    assert f"argument {option}: it is given several times" in capsys.readouterr().err
    assert count(app, Status.FAILED) == 5


def _work_as_a_worker_does(engine: sa.Engine, steps: list[bool]) -> None:
    """Take over an operation from the process that works on it."""
    begun = "SELECT id FROM procrastinate_operations WHERE done > 0 FOR UPDATE"
    with engine.begin() as connection:
        while (operation_id := connection.exec_driver_sql(begun).scalar()) is None:
            time.sleep(0.001)
        time.sleep(0.5)
        while bulk.step_bulk_operation(connection, operation_id):
            steps.append(True)


def test_an_operation_on_which_a_worker_is_at_work_is_waited_for(
    app: App, engine: sa.Engine, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "CHANGED_AT_ONCE", 1)
    with engine.begin() as connection:
        for _ in range(19):
            connection.exec_driver_sql(FAILED)
    steps = list[bool]()
    worker = threading.Thread(target=_work_as_a_worker_does, args=(engine, steps))
    worker.start()
    assert main(["retry", "--queue", "mail", "--yes"]) == 0
    worker.join(30)
    assert steps
    assert capsys.readouterr().out == "Retried 100 jobs\n"
    assert count(app, Status.FAILED) == 0


def test_a_command_that_is_interrupted_says_that_workers_go_on(
    app: App, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(connection: sa.Connection, operation_id: int) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(bulk, "step_bulk_operation", interrupt)
    assert main(["retry", "--task", "send", "--yes"]) == 130
    assert capsys.readouterr().err.startswith("Workers go on with operation 1. To stop it")
